"""Projects keep readings for longer or shorter than the hub; aggregates stay either way."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from hub.database.ids import uuid7
from hub.database.partitions import partitions_of
from hub.database.pool import acquire, transaction
from hub.telemetry.project_retention import delete_expired, kept_by_projects
from hub.telemetry.retention import drop_expired
from tests.fixtures.readings import START, Bench, Reading

pytestmark = pytest.mark.every_tier

DAY_S = 86_400
YEARS_S = 20 * 366 * DAY_S
"""So far ahead of `START` that the partitions are made long before they are old."""


async def decide(bench: Bench, retention_days: int) -> None:
    async with transaction(bench.pool) as connection:
        await connection.execute(
            "insert into project_policies (project_id, retention_days) values ($1, $2)",
            bench.project_id,
            retention_days,
        )


async def raws(bench: Bench) -> list[float]:
    async with acquire(bench.pool) as connection:
        return [row["raw"] for row in await connection.fetch("select raw from readings order by time")]


async def drop(bench: Bench, now: datetime, retention_days: int) -> int:
    holds = [kept_by_projects(lambda: now)]
    return len(
        await drop_expired(bench.pool, bench.storage.layout, now=now, retention_days=retention_days, holds=holds)
    )


async def test_a_project_that_keeps_longer_holds_its_partitions(bench: Bench) -> None:
    series = await bench.series(await bench.sensor())
    await bench.store(series, [Reading(YEARS_S, 1.0)])
    async with acquire(bench.pool) as connection:
        end = (await partitions_of(connection, bench.storage.layout))[0].end
    await decide(bench, 200)
    assert await drop(bench, end + timedelta(days=199), 90) == 0
    assert await raws(bench) == [1.0]
    assert await drop(bench, end + timedelta(days=200), 90) == 1


async def test_a_project_that_keeps_for_ever_is_held_for_ever(bench: Bench) -> None:
    series = await bench.series(await bench.sensor())
    await bench.store(series, [Reading(YEARS_S, 1.0)])
    await decide(bench, 0)
    assert await drop(bench, START + timedelta(seconds=YEARS_S, days=9000), 90) == 0


async def test_a_project_that_keeps_shorter_loses_readings_and_keeps_aggregates(bench: Bench) -> None:
    series = await bench.series(await bench.sensor())
    await bench.store(series, [Reading(day * DAY_S, float(day)) for day in range(10)])
    now = START + timedelta(days=10)
    assert await delete_expired(bench.pool, now) == 0
    await decide(bench, 3)
    assert await delete_expired(bench.pool, now) == 7
    assert await raws(bench) == [7.0, 8.0, 9.0]
    assert await delete_expired(bench.pool, now) == 0
    async with acquire(bench.pool) as connection:
        kept = await connection.fetch("select sum_raw from aggregates_1m where series_id = $1 order by bucket", series)
    assert [row["sum_raw"] for row in kept][:7] == [float(day) for day in range(7)]


async def test_readings_of_sessions_stay_until_these_are_archived(bench: Bench) -> None:
    sensor = await bench.sensor()
    series = await bench.series(sensor)
    await bench.store(series, [Reading(day * DAY_S, float(day)) for day in range(6)])
    await decide(bench, 1)
    experiment, run, session = uuid7(), uuid7(), uuid7()
    async with transaction(bench.pool) as connection:
        await connection.execute(
            "insert into experiments (id, project_id, owner_id, name) values ($1, $2, $3, 'e')",
            experiment,
            bench.project_id,
            bench.user_id,
        )
        await connection.execute(
            "insert into runs (id, experiment_id, project_id, name) values ($1, $2, $3, 'r')",
            run,
            experiment,
            bench.project_id,
        )
        await connection.execute(
            "insert into capture_sessions (id, run_id, project_id, ordinal_number, status, started_at, stopped_at) "
            "values ($1, $2, $3, 1, 'succeeded', $4, $5)",
            session,
            run,
            bench.project_id,
            START + timedelta(days=2),
            START + timedelta(days=4),
        )
        await connection.execute(
            "insert into session_sensors values ($1, $2, $3, $4)",
            session,
            sensor,
            START + timedelta(days=2),
            START + timedelta(days=4),
        )
    now = START + timedelta(days=10)
    await delete_expired(bench.pool, now)
    assert await raws(bench) == [2.0, 3.0]
    async with transaction(bench.pool) as connection:
        await connection.execute("update capture_sessions set status = 'archived', archived = true")
    await delete_expired(bench.pool, now)
    assert await raws(bench) == []
