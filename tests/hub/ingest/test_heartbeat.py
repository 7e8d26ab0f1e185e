"""Heartbeats follow what is stored; a sensor that was registering becomes active, a decommissioned one does not."""

from __future__ import annotations

import asyncio

import numpy as np

from hub.database.pool import transaction
from hub.ingest.heartbeat import Heartbeats
from shared.clock import AnchoredClock, ManualClock
from tests.hub.ingest.conftest import Room


async def test_heartbeats_are_written_and_registration_ends(room: Room) -> None:
    oven, old = await room.bench.sensor("oven"), await room.bench.sensor("old")
    series = [await room.bench.series(oven), await room.bench.series(old)]
    async with transaction(room.bench.pool) as connection:
        await connection.execute("update sensors set status = 'registering' where id = $1", oven)
        await connection.execute("update sensors set status = 'decommissioned' where id = $1", old)
    beats = Heartbeats(0.01, AnchoredClock())
    task = asyncio.create_task(beats.run(room.bench.pool))
    beats.note(np.array(series))
    async with asyncio.timeout(10):
        while await room.value("select status from sensors where id = $1", oven) != "active":
            await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.wait([task])
    rows = await room.fetch("select name, status, last_heartbeat is not null as beats from sensors order by name")
    assert [(row["name"], row["status"], row["beats"]) for row in rows] == [
        ("old", "decommissioned", True),
        ("oven", "active", True),
    ]


async def test_what_was_heard_is_known_before_while_and_after_it_is_written(room: Room) -> None:
    series = [await room.bench.series(await room.bench.sensor(name)) for name in ("oven", "kiln", "scale")]
    clock = ManualClock()
    beats = Heartbeats(0.05, clock)
    beats.note(np.array(series[:2], np.int64))
    clock.advance_s(1)
    beats.note(np.array(series[1:2], np.int64))
    heard_at = clock.now_us()
    task = asyncio.create_task(beats.run(room.bench.pool))
    async with asyncio.timeout(20):
        while await room.value("select count(*) from sensors where last_heartbeat is not null") < 2:
            assert [beats.heard_us([one]) for one in series] == [heard_at, heard_at, None]
            await asyncio.sleep(0)
    assert beats.heard_us(series[:1]) == heard_at
    assert (beats.heard_us([]), beats.heard_us([10**6, series[0]])) == (None, heard_at)
    clock.advance_s(60)
    beats.note(np.array(series[2:], np.int64))
    assert [beats.heard_us([one]) for one in series] == [heard_at, heard_at, clock.now_us()]
    task.cancel()
    await asyncio.wait([task])
