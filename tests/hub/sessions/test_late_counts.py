"""Late data are counted once each, told where they count, and shown where they are held."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hub.database.pool import acquire, transaction
from hub.sessions.late import LateData
from hub.telemetry.aggregate import fold_dirty
from hub.telemetry.moments import text_of
from tests.hub.sessions.agents import Delivery
from tests.hub.sessions.conftest import Lab

NOON = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


async def look(lab: Lab) -> int:
    """A look by a hub that has just begun."""
    return await LateData(lab.hub.services.storage, lab.hub.services.clock).once()


async def told(lab: Lab, session: dict[str, Any]) -> list[tuple[int, str, str]]:
    """What was told of late data, oldest first."""
    events = (await lab.owner.get(f"{lab.path(session)}/events")).json()["events"]
    return [
        (one["payload"]["attached_records"], one["payload"]["time_from"], one["payload"]["time_to"])
        for one in reversed(events)
        if one["event_type"] == "capture_session.late_attached"
    ]


async def held(lab: Lab, session: dict[str, Any]) -> int:
    found: int = (await lab.owner.get(lab.path(session))).json()["held_records"]
    return found


async def stopped(lab: Lab) -> tuple[Delivery, dict[str, Any]]:
    """An agent's oven, and a session of 100 s that has ended."""
    await lab.sensor("oven")
    delivery = Delivery(lab.hub, lab.project)
    await delivery.enrol("oven")
    session = await lab.started(await lab.run(), started_at=at(0).isoformat())
    await delivery.deliver("oven", {at(1): 1})
    await lab.owner.post(f"{lab.path(session)}/stop", json={"stopped_at": at(100).isoformat()})
    return delivery, session


async def test_what_an_agent_brings_late_counts_at_once_and_is_told_once(lab: Lab) -> None:
    delivery, session = await stopped(lab)
    await delivery.deliver("oven", {at(2): 2, at(3): 3})
    await delivery.deliver("oven", {at(50): 4, at(100): 5, at(200): 6})
    assert await lab.counted(session) == [1, 2, 3, 4]
    await look(lab)
    expected = [(3, text_of(at(2)), text_of(at(50)))]
    assert sum(records for records, _, _ in await told(lab, session)) == 3
    await look(lab)
    await look(lab)
    assert sum(records for records, _, _ in await told(lab, session)) == 3
    if len(await told(lab, session)) == 1:  # the hub's own job may have looked between the two deliveries
        assert await told(lab, session) == expected
    assert await held(lab, session) == 0


async def test_what_was_folded_before_anybody_looked_is_counted_all_the_same(lab: Lab) -> None:
    delivery, session = await stopped(lab)
    async with transaction(lab.hub.services.pool) as connection:  # nobody can count meanwhile
        await connection.execute("select from capture_sessions for update")
        await delivery.deliver("oven", {at(number / 10): number for number in range(20, 420)})
        await fold_dirty(lab.hub.services.pool, datetime.now(UTC))
        async with acquire(lab.hub.services.pool) as other:
            assert await other.fetchval("select count(*) from dirty_minutes") == 0
    await look(lab)
    assert sum(records for records, _, _ in await told(lab, session)) == 400
    await look(lab)
    async with acquire(lab.hub.services.pool) as connection:
        assert await connection.fetchval("select count(*) from late_hints") == 0


async def test_held_readings_are_shown_until_a_backfill_counts_them(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    session = await lab.started(await lab.run(), started_at=at(0).isoformat())
    await lab.owner.post(f"{lab.path(session)}/stop", json={"stopped_at": at(100).isoformat()})
    await lab.post(oven, {at(2): 2, at(3): 3, at(300): 4})
    await look(lab)
    assert await held(lab, session) == 2
    listed = (await lab.owner.get(f"/api/v1/runs/{session['run_id']}/capture-sessions")).json()["capture_sessions"]
    assert [one["held_records"] for one in listed] == [2]
    await lab.owner.post(f"{lab.path(session)}/backfill/start")
    await lab.post(oven, {at(4): 4})
    await look(lab)
    assert await held(lab, session) == 2
    done = (await lab.owner.post(f"{lab.path(session)}/backfill/complete")).json()
    assert (done["attached_records"], done["held_records"]) == (2, 0)
    await lab.post(oven, {at(5): 5})
    await look(lab)
    assert await held(lab, session) == 1
    assert await told(lab, session) == []


async def test_a_named_post_outside_the_session_s_time_is_held_and_shown(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    session = await lab.started(await lab.run(), started_at=at(0).isoformat())
    await lab.owner.post(f"{lab.path(session)}/stop", json={"stopped_at": at(100).isoformat()})
    await lab.post(oven, {at(-50): 1, at(500): 2}, capture_session_id=session["id"])
    await look(lab)
    assert await held(lab, session) == 2


async def test_what_came_just_before_a_session_is_put_away_is_told(lab: Lab) -> None:
    delivery, session = await stopped(lab)
    await delivery.deliver("oven", {at(2): 2})
    await lab.owner.patch(lab.path(session), json={"archived": True})
    assert [records for records, _, _ in await told(lab, session)] == [1]
    await look(lab)
    assert [records for records, _, _ in await told(lab, session)] == [1]


async def test_a_sensor_that_left_the_project_takes_no_part_in_later_sessions(lab: Lab) -> None:
    oven, scale = await lab.sensor("oven"), await lab.sensor("scale")
    run = await lab.run((oven, scale))
    async with acquire(lab.hub.services.pool) as connection:
        await connection.execute("delete from sensor_projects where sensor_id = $1", oven)
    session = await lab.started(run)
    assert [one["sensor_id"] for one in session["sensors"]] == [scale]
