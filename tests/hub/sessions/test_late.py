"""What belongs to a session when it comes late, is named, or the session is put away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx

from hub.database.ids import uuid7
from hub.database.pool import acquire
from tests.hub.sessions.conftest import Lab

NOON = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


async def aggregated(lab: Lab, session: dict[str, object]) -> int:
    answer = await lab.owner.get("/api/v1/telemetry/aggregated", params={"capture_session_id": str(session["id"])})
    assert answer.status_code == 200, answer.text
    buckets = answer.json()["buckets"]
    assert {one["capture_session_id"] for one in buckets} <= {session["id"]}
    return sum(one["sample_count"] for one in buckets)


async def test_readings_belong_by_their_own_time_whenever_they_arrive(lab: Lab) -> None:
    oven, run = await lab.sensor("oven"), await lab.run()
    await lab.post(oven, {at(-1): 1, at(0): 2})
    session = await lab.started(run, started_at=at(0).isoformat())
    await lab.post(oven, {at(1): 3, at(90): 4, at(200): 5})
    await lab.owner.post(f"{lab.path(session)}/stop", json={"stopped_at": at(100).isoformat()})
    assert await lab.counted(session) == [2, 3, 4]
    assert await aggregated(lab, session) == 3
    every = await lab.points(sensor_id=oven)
    assert [one["capture_session_id"] for one in every] == [None, *[session["id"]] * 3, None]
    assert [one["run_id"] for one in every] == [None, *[run] * 3, None]
    assert [one["raw_value"] for one in await lab.points(run_id=run)] == [2, 3, 4]


async def test_late_posts_are_held_until_a_backfill_counts_them(lab: Lab) -> None:
    oven, run = await lab.sensor("oven"), await lab.run()
    session = await lab.started(run, started_at=at(0).isoformat())
    path = lab.path(session)
    await lab.post(oven, {at(1): 1})
    await lab.owner.post(f"{path}/stop", json={"stopped_at": at(100).isoformat()})
    await lab.post(oven, {at(2): 2, at(3): 3})
    assert await lab.counted(session) == [1]
    assert await lab.counted(session, include_late=True) == [1, 2, 3]
    held = (await lab.points(sensor_id=oven))[1]
    assert (held["capture_session_id"], held["run_id"]) == (None, None)
    assert held["meta"]["__system"] == {"late": True, "capture_session_id": session["id"]}
    await lab.owner.post(f"{path}/backfill/start")
    await lab.post(oven, {at(4): 4})
    assert await lab.counted(session) == [1, 4]
    done = (await lab.owner.post(f"{path}/backfill/complete")).json()
    assert done["attached_records"] == 2
    assert await lab.counted(session) == [1, 2, 3, 4]
    assert await aggregated(lab, session) == 4
    await lab.post(oven, {at(5): 5})
    assert await lab.counted(session) == [1, 2, 3, 4]


async def test_a_project_may_let_late_posts_count_at_once(lab: Lab) -> None:
    async with acquire(lab.hub.services.pool) as connection:
        await connection.execute(
            "insert into project_policies (project_id, late_data) values ($1, 'attach')", UUID(lab.project)
        )
    oven = await lab.sensor("oven")
    session = await lab.started(await lab.run(), started_at=at(0).isoformat())
    await lab.owner.post(f"{lab.path(session)}/stop", json={"stopped_at": at(100).isoformat()})
    await lab.post(oven, {at(1): 1})
    assert await lab.counted(session) == [1]


async def test_a_reading_belongs_to_the_session_that_it_names(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    first = await lab.started(await lab.run(), started_at=at(0).isoformat())
    await lab.owner.post(f"{lab.path(first)}/stop", json={"stopped_at": at(10).isoformat()})
    second = await lab.started(await lab.run(), started_at=at(20).isoformat())
    assert (await lab.post(oven, {at(5): 1, at(25): 2}, capture_session_id=second["id"])).status_code == 202
    assert await lab.counted(first, include_late=True) == []
    assert await lab.counted(second) == [1, 2]
    assert await aggregated(lab, second) == 2


async def test_what_names_a_session_in_vain_is_refused(lab: Lab) -> None:
    oven, scale = await lab.sensor("oven"), await lab.sensor("scale")
    run = await lab.run((oven,))
    session = await lab.started(run)

    async def posted(sensor: str, **names: str) -> httpx.Response:
        return await lab.post(sensor, {datetime.now(UTC): 1}, **names)

    assert (await posted(oven, capture_session_id=session["id"], run_id=run)).status_code == 202
    assert (await posted(scale, capture_session_id=session["id"])).json()["code"] == "other_sensor"
    assert (await posted(scale, run_id=run)).json()["code"] == "other_sensor"
    other = await lab.run((oven,))
    assert (await posted(oven, capture_session_id=session["id"], run_id=other)).json()["code"] == "other_run"
    assert (await posted(oven, capture_session_id=str(uuid7()))).status_code == 404
    await lab.owner.post(f"{lab.path(session)}/stop")
    await lab.owner.patch(lab.path(session), json={"status": "archived"})
    refused = await posted(oven, capture_session_id=session["id"])
    assert (refused.status_code, refused.json()["code"]) == (409, "session_archived")


async def test_who_takes_part_is_fixed_as_a_session_starts(lab: Lab) -> None:
    oven, scale = await lab.sensor("oven"), await lab.sensor("scale")
    attached, free = await lab.run((oven,)), await lab.run()
    first = await lab.started(attached, started_at=at(0).isoformat())
    await lab.owner.put(f"/api/v1/runs/{attached}/sensors", json={"sensor_ids": [oven, scale]})
    second = await lab.started(free, started_at=at(0).isoformat())
    pump = await lab.sensor("pump")

    async def code(sensor: str, seconds: float, **names: str) -> str:
        answer = await lab.post(sensor, {at(seconds): 1}, **names)
        return str(answer.json().get("code") or answer.json()["status"])

    for session, part, others in ((first, oven, (scale, pump)), (second, scale, (oven, pump))):
        shown = (await lab.owner.get(lab.path(session))).json()
        assert [one["sensor_id"] for one in shown["sensors"]] == [part]
        names = {"capture_session_id": session["id"]}
        assert [await code(one, 1, **names) for one in (part, *others)] == ["accepted", "other_sensor", "other_sensor"]
        assert len(await lab.counted(session)) == 1
    draft = await lab.started(free, status="draft")
    assert await code(pump, 2, capture_session_id=draft["id"]) == "accepted"
    assert [await code(one, 3, run_id=free) for one in (oven, pump)] == ["accepted", "accepted"]
    assert [await code(one, 4, run_id=attached) for one in (oven, scale, pump)] == [
        "accepted", "accepted", "other_sensor",
    ]  # fmt: skip


async def test_what_lies_in_an_archived_session_is_set_aside(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    session = await lab.started(await lab.run(), started_at=at(0).isoformat())
    await lab.post(oven, {at(1): 1})
    await lab.owner.post(f"{lab.path(session)}/stop", json={"stopped_at": at(100).isoformat()})
    await lab.post(oven, {at(2): 2})
    await lab.owner.patch(lab.path(session), json={"status": "archived"})
    answer = await lab.post(oven, {at(3): 3, at(200): 4})
    assert (answer.status_code, answer.json()["accepted"]) == (202, 1)
    assert await lab.counted(session) == [1]
    assert [one["raw_value"] for one in await lab.points(sensor_id=oven)] == [1, 2, 4]
    async with acquire(lab.hub.services.pool) as connection:
        assert [row["reason"] for row in await connection.fetch("select reason from set_aside")] == ["archived_session"]


async def test_what_counted_when_a_session_was_put_away_counts_for_ever(lab: Lab) -> None:
    async with acquire(lab.hub.services.pool) as connection:
        await connection.execute(
            "insert into project_policies (project_id, late_data) values ($1, 'attach')", UUID(lab.project)
        )
    oven = await lab.sensor("oven")
    session = await lab.started(await lab.run(), started_at=at(0).isoformat())
    await lab.owner.post(f"{lab.path(session)}/stop", json={"stopped_at": at(100).isoformat()})
    await lab.post(oven, {at(1): 1})
    await lab.owner.patch(lab.path(session), json={"archived": True})
    assert await lab.counted(session) == [1]


async def test_an_outsider_sees_no_session(lab: Lab) -> None:
    session = await lab.started(await lab.run())
    stranger = await lab.hub.member("eve")
    for parameters in ({"capture_session_id": session["id"]}, {"run_id": session["run_id"]}):
        for what in ("query", "aggregated"):
            assert (await stranger.get(f"/api/v1/telemetry/{what}", params=parameters)).status_code == 404
