"""Sensors that come and go are told of once, and not because a hub was away."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from hub.database.pool import acquire, transaction
from hub.sensors.connections import ConnectionWatch
from hub.sensors.grace import GRACE_S
from hub.telemetry.moments import to_datetime
from shared.clock import ManualClock
from tests.fixtures.readings import Bench, bench

__all__ = ["bench"]

NOW_US = 1_790_000_000_000_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW_US)


async def heard(bench: Bench, sensor_id: UUID, clock: ManualClock, *, ago_s: float = 0) -> None:
    """Something of the sensor was stored."""
    async with transaction(bench.pool) as connection:
        moment = to_datetime(clock.now_us()) - timedelta(seconds=ago_s)
        await connection.execute("update sensors set last_heartbeat = $2 where id = $1", sensor_id, moment)


async def told(bench: Bench) -> list[tuple[str, Any]]:
    """What was told, in order: (event, name of the sensor)."""
    async with acquire(bench.pool) as connection:
        rows = await connection.fetch("select * from events where event_type like 'sensor.%line' order by id")
    assert all(row["is_public"] for row in rows)
    return [(row["event_type"].removeprefix("sensor."), row["payload"]["name"]) for row in rows]


async def new_sensor(bench: Bench, name: str) -> UUID:
    async with transaction(bench.pool) as connection:
        sensor_id: UUID = await connection.fetchval(
            "insert into sensors (id, project_id, name) values (gen_random_uuid(), $1, $2) returning id",
            bench.project_id,
            name,
        )
    return sensor_id


async def test_a_sensor_comes_when_heard_and_goes_after_five_minutes(bench: Bench, clock: ManualClock) -> None:
    sensor_id = await new_sensor(bench, "oven")
    watches = [ConnectionWatch(bench.storage, clock), ConnectionWatch(bench.storage, clock)]

    async def look() -> list[tuple[str, Any]]:
        for watch in watches:
            await watch.once()
        return await told(bench)

    assert await look() == []
    await heard(bench, sensor_id, clock)
    assert await look() == [("online", "oven")]
    clock.advance_s(299)
    assert await look() == [("online", "oven")]
    clock.advance_s(2)
    assert await look() == [("online", "oven"), ("offline", "oven")]
    await heard(bench, sensor_id, clock, ago_s=60)
    assert len(await look()) == 2
    await heard(bench, sensor_id, clock)
    assert (await look())[2:] == [("online", "oven")]


async def test_a_hub_that_was_away_blames_no_sensor_for_it(bench: Bench, clock: ManualClock) -> None:
    oven, pump = await new_sensor(bench, "oven"), await new_sensor(bench, "pump")
    for sensor_id in (oven, pump):
        await heard(bench, sensor_id, clock)
    await ConnectionWatch(bench.storage, clock).once()
    clock.advance_s(3600)
    restarted = ConnectionWatch(bench.storage, clock)
    await restarted.once()
    await heard(bench, oven, clock)
    clock.advance_s(GRACE_S + 1)
    await restarted.once()
    assert (await told(bench))[2:] == [("offline", "pump")]


async def test_a_decommissioned_sensor_is_not_told_of(bench: Bench, clock: ManualClock) -> None:
    sensor_id = await new_sensor(bench, "oven")
    await heard(bench, sensor_id, clock)
    async with transaction(bench.pool) as connection:
        await connection.execute("update sensors set status = 'decommissioned'")
    await ConnectionWatch(bench.storage, clock).once()
    assert await told(bench) == []
