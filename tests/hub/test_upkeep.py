"""Upkeep: by one hub at a time, and what it drops the other hubs hear of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from pydantic import SecretStr

from hub.database.partitions import partitions_of
from hub.database.pool import Connection, acquire
from hub.database.storage import Storage
from hub.settings import HubSettings
from hub.upkeep import Upkeep
from shared.clock import ManualClock

pytestmark = pytest.mark.every_tier

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@asynccontextmanager
async def running(database_url: str) -> AsyncIterator[Storage]:
    """The storage of a hub that runs."""
    storage = Storage(HubSettings(database_url=SecretStr(database_url)))
    await storage.open()
    task = asyncio.create_task(storage.run())
    try:
        async with asyncio.timeout(30):
            await storage.ready()
        yield storage
    finally:
        task.cancel()
        await asyncio.wait([task])
        await storage.close()


async def years_on(storage: Storage) -> ManualClock:
    """A clock that stands far behind the making of any partition."""
    async with acquire(storage.pool) as connection:
        now: datetime = await connection.fetchval("select now()")
    return ManualClock((now - EPOCH + timedelta(days=3000)) // timedelta(microseconds=1))


async def starts(storage: Storage) -> list[datetime]:
    async with acquire(storage.pool) as connection:
        return [one.start for one in await partitions_of(connection, storage.layout)]


async def test_the_next_partitions_are_made_ahead_and_old_ones_dropped(database_url: str) -> None:
    async with running(database_url) as storage:
        clock = await years_on(storage)
        now_us, day_us = clock.now_us(), 86_400_000_000
        await storage.partitions.ensure(np.array([now_us - 500 * day_us], np.int64))
        assert await Upkeep(storage, clock, retention_days=400).once()
        now = EPOCH + timedelta(microseconds=now_us)
        made = await starts(storage)
        assert made[0] <= now
        assert made[0] > now - timedelta(days=8)
        assert made[-1] + timedelta(days=7) > now + timedelta(days=6)


async def test_while_one_hub_is_at_it_another_leaves_it_alone(database_url: str) -> None:
    async with running(database_url) as one, running(database_url) as other:
        clock = await years_on(one)
        at_it, go_on = asyncio.Event(), asyncio.Event()

        async def hold(connection: Connection, start: datetime, end: datetime) -> bool:
            at_it.set()
            await go_on.wait()
            return True

        await one.partitions.ensure(np.array([clock.now_us() - 86_400_000_000 * 500], np.int64))
        first = asyncio.create_task(Upkeep(one, clock, retention_days=400, holds=[hold]).once())
        async with asyncio.timeout(20):
            await at_it.wait()
        assert not await Upkeep(other, clock, retention_days=400).once()
        go_on.set()
        assert await first
        assert await Upkeep(other, clock, retention_days=400).once()


async def test_hubs_forget_the_partitions_that_another_hub_has_dropped(database_url: str) -> None:
    async with running(database_url) as one, running(database_url) as other:
        clock = await years_on(one)
        old = np.array([clock.now_us() - 86_400_000_000 * 500], np.int64)
        await other.partitions.ensure(old)
        assert await Upkeep(one, clock, retention_days=400).once()
        async with acquire(one.pool) as connection:
            await connection.execute("delete from dropped_ranges")  # as an operator who wants the data back
        async with asyncio.timeout(20):
            while len(await starts(other)) < 3:
                await asyncio.sleep(0.05)
                await other.partitions.ensure(old)
