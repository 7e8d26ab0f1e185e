"""Heartbeats follow what is stored; a sensor that was registering becomes active, a decommissioned one does not."""

from __future__ import annotations

import asyncio

import numpy as np

from hub.database.pool import transaction
from hub.ingest.heartbeat import Heartbeats
from tests.hub.ingest.conftest import Room


async def test_heartbeats_are_written_and_registration_ends(room: Room) -> None:
    oven, old = await room.bench.sensor("oven"), await room.bench.sensor("old")
    series = [await room.bench.series(oven), await room.bench.series(old)]
    async with transaction(room.bench.pool) as connection:
        await connection.execute("update sensors set status = 'registering' where id = $1", oven)
        await connection.execute("update sensors set status = 'decommissioned' where id = $1", old)
    beats = Heartbeats(0.01)
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
