"""Sessions that nobody feeds or touches fail, unless an agent may still bring what belongs to them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from hub.database.ids import uuid7
from hub.database.pool import acquire
from hub.sessions.upkeep import ForgottenSessions, needs_readings
from shared.clock import ManualClock
from tests.hub.sessions.conftest import Lab

DAY_S = 86_400


async def later(lab: Lab, hours: float) -> int:
    """How many sessions are found forgotten that much later."""
    now_us = int((datetime.now(UTC) + timedelta(hours=hours)).timestamp() * 1e6)
    clock = ManualClock(now_us=now_us)
    return await ForgottenSessions(lab.hub.services.storage, clock, 24.0).once()


async def agent_of(lab: Lab, sensor: str, state: dict[str, Any], *, seen_hours_from_now: float) -> None:
    agent_id = uuid7()
    async with acquire(lab.hub.services.pool) as connection:
        await connection.execute(
            """insert into agents (id, project_id, name, mqtt_username, state, last_seen)
               values ($1, $2, 'a', 'a', $3, $4)""",
            agent_id,
            UUID(lab.project),
            state,
            datetime.now(UTC) + timedelta(hours=seen_hours_from_now),
        )
        await connection.execute(
            "insert into agent_bindings (agent_id, sensor_name, sensor_id) values ($1, 'oven', $2)",
            agent_id,
            UUID(sensor),
        )


async def test_a_session_without_data_or_change_for_a_day_fails_with_an_event(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    session = await lab.started(await lab.run((oven,)))
    assert await later(lab, 23) == 0
    assert await later(lab, 25) == 1
    failed = (await lab.owner.get(lab.path(session))).json()
    assert failed["status"] == "failed"
    events = (await lab.owner.get(f"{lab.path(session)}/events")).json()["events"]
    event = next(one for one in events if one["event_type"] != "capture_session.certified")
    assert (event["event_type"], event["actor_type"]) == ("capture_session.stopped", "hub")
    assert await later(lab, 26) == 0


async def test_a_session_that_gets_data_goes_on(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    await lab.started(await lab.run((oven,)))
    async with acquire(lab.hub.services.pool) as connection:
        await connection.execute("update sensors set last_heartbeat = $1", datetime.now(UTC) + timedelta(hours=10))
    assert await later(lab, 25) == 0
    assert await later(lab, 35) == 1


@pytest.mark.parametrize(
    ("state", "seen_hours_from_now", "waits"),
    [
        ({"status": "offline"}, 25, True),
        ({"status": "online"}, 1, True),
        ({"status": "online", "spool": {"pending_batches": 3}}, 25, True),
        ({"status": "online", "spool": {}}, 25, False),
    ],
)
async def test_an_agent_that_is_away_or_behind_keeps_its_session(
    lab: Lab, state: dict[str, Any], seen_hours_from_now: float, waits: bool
) -> None:
    oven = await lab.sensor("oven")
    await lab.started(await lab.run((oven,)))
    await agent_of(lab, oven, state, seen_hours_from_now=seen_hours_from_now)
    assert await later(lab, 25) == (0 if waits else 1)


async def test_readings_of_sessions_are_kept_until_they_are_archived(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    now = datetime.now(UTC)
    session = await lab.started(await lab.run((oven,)))
    pool = lab.hub.services.pool

    async def is_needed(from_s: float, to_s: float) -> bool:
        async with acquire(pool) as connection:
            return await needs_readings(connection, now + timedelta(seconds=from_s), now + timedelta(seconds=to_s))

    assert not await is_needed(-DAY_S, -60)
    assert await is_needed(-60, 60)
    assert await is_needed(DAY_S, 2 * DAY_S)  # it still runs
    await lab.owner.post(f"{lab.path(session)}/stop")
    assert not await is_needed(DAY_S, 2 * DAY_S)
    await lab.owner.patch(lab.path(session), json={"archived": True})
    assert not await is_needed(-60, 60)
