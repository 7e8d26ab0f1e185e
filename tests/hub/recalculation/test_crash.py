"""A recalculation whose hub is killed again and again comes to what a fresh computation gives, and notes all once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import pairwise
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import numpy as np
import pytest

from hub.database.ids import uuid7
from hub.database.pool import transaction
from hub.recalculation import plan, store
from hub.recalculation.rules import Scope
from hub.recalculation.work import Recalculation
from hub.telemetry.aggregate import fold_dirty
from hub.telemetry.moments import to_us
from shared.clock import AnchoredClock
from shared.conversion import ProfileTable
from tests.fixtures.readings import Bench, Reading, bench
from tests.hub.recalculation import forked_hub

__all__ = ["bench"]

KILLS = 10
READINGS = 6_000
TABLE = {"table": [{"raw": 0.0, "physical": 5.0}, {"raw": 700.0, "physical": -3.0}, {"raw": 5000.0, "physical": 11.0}]}


@asynccontextmanager
async def hubs() -> AsyncIterator[asyncio.subprocess.Process]:
    """A program that becomes a hub, again and again."""
    made = await asyncio.create_subprocess_exec(
        sys.executable, "-m", forked_hub.__name__, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield made
    finally:
        assert made.stdin is not None
        made.stdin.close()
        await made.wait()


async def url_of(bench: Bench, database_url: str) -> str:
    """Of the database that the bench stands on, on the same server."""
    async with transaction(bench.pool) as connection:
        name = await connection.fetchval("select current_database()")
    return urlunsplit(urlsplit(database_url)._replace(path=f"/{name}"))


async def said(program: asyncio.subprocess.Process) -> str:
    """The next line."""
    assert program.stdout is not None
    async with asyncio.timeout(60):
        return (await program.stdout.readline()).decode().strip()


async def profile(bench: Bench, sensor_id: UUID, version: str, kind: str, payload: object) -> tuple[UUID, int]:
    profile_id = uuid7()
    async with transaction(bench.pool) as connection:
        ref = await connection.fetchval(
            "insert into conversion_profiles (id, sensor_id, version, kind, payload, status, published_at) "
            "values ($1, $2, $3, $4, $5, 'active', now()) returning ref",
            profile_id, sensor_id, version, kind, payload,
        )  # fmt: skip
    return profile_id, ref


async def task_for(bench: Bench, sensor_id: UUID, profile_id: UUID) -> UUID:
    now = datetime.now(UTC)
    async with transaction(bench.pool) as connection:
        new = store.NewTask(sensor_id, profile_id, Scope.ALL, (), None, None, bench.user_id)
        ruled = await plan.rulings(connection, sensor_id, (), None, to_us(now))
        return await store.add(connection, new, ruled, now)


async def processed(bench: Bench, task_id: UUID) -> tuple[str, int]:
    async with transaction(bench.pool) as connection:
        row = await store.one(connection, task_id)
    assert row is not None
    return row["status"], row["processed_records"]


@pytest.mark.every_tier
async def test_killed_ten_times_on_the_way(bench: Bench, database_url: str) -> None:
    sensor_id = await bench.sensor()
    _, first = await profile(bench, sensor_id, "1", "linear", {"a": 2.0, "b": 0.0})
    second_id, second = await profile(bench, sensor_id, "2", "lookup_table", TABLE)
    series = [await bench.series(sensor_id, signal) for signal in ("t", "p")]
    for one in series:
        readings = [Reading(n * 0.5, float(n), 2.0 * n, 1, first) for n in range(READINGS)]
        await bench.store(one, readings)
    task_id = await task_for(bench, sensor_id, second_id)
    url = await url_of(bench, database_url)
    async with hubs() as program:
        for _ in range(KILLS):
            assert program.stdin is not None
            program.stdin.write(f"{url} 100\n".encode())
            hub = int(await said(program))
            state = before = await processed(bench, task_id)
            async with asyncio.timeout(30):
                while state[1] == before[1] and state[0] != "succeeded":
                    await asyncio.sleep(0.005)
                    state = await processed(bench, task_id)
            assert state[0] == "running", "there must be enough to do for ten"
            os.kill(hub, signal.SIGKILL)
            assert await said(program) == "ended"
    async with asyncio.timeout(60):
        while (await processed(bench, task_id))[0] != "succeeded":
            await Recalculation(bench.storage, AnchoredClock()).once()
    await check(bench, series, task_id, first, second)


async def check(bench: Bench, series: list[int], task_id: UUID, first: int, second: int) -> None:
    raw = np.arange(READINGS, dtype=np.float64)
    fresh, _ = ProfileTable([("lookup_table", TABLE)]).convert(
        np.ones(READINGS, np.uint32), raw, np.zeros(READINGS, np.uint8)
    )
    while await fold_dirty(bench.pool, datetime.now(UTC)):
        pass
    async with transaction(bench.pool) as connection:
        for one in series:
            rows = await connection.fetch(
                "select physical, status, profile from readings where series_id = $1 order by time", one
            )
            assert [row["physical"] for row in rows] == fresh.tolist()
            assert {(row["status"], row["profile"]) for row in rows} == {(1, second)}
            kept = await connection.fetch(
                "select * from previous_profiles where series_id = $1 order by time_from", one
            )
            assert sum(row["readings"] for row in kept) == READINGS
            assert {row["profile"] for row in kept} == {first}
            assert all(one["time_to"] < other["time_from"] for one, other in pairwise(kept))
            total = await connection.fetchval("select sum(sum_physical) from aggregates_1m where series_id = $1", one)
            assert total == pytest.approx(float(fresh.sum()))
        task = await store.one(connection, task_id)
    assert task is not None
    assert (task["processed_records"], task["changed_records"]) == (2 * READINGS, 2 * READINGS)
