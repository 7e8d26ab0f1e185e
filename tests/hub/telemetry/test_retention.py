"""Old readings go by whole partitions, their aggregates stay, and what comes late for them is not stored."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest

from hub.database.partitions import Partition, partitions_of
from hub.database.pool import Connection, acquire, transaction
from hub.telemetry import retention
from hub.telemetry.moments import to_us
from hub.telemetry.retention import drop_expired
from shared.errors import StorageUnavailable
from tests.fixtures.readings import START, Bench, Reading

pytestmark = pytest.mark.every_tier

YEARS_S = 20 * 366 * 86_400
"""So far ahead of `START` that the partitions are made long before they are old."""
WEEK_S = 7 * 86_400
FIRST, SECOND = Reading(YEARS_S, 1.0), Reading(YEARS_S + WEEK_S, 2.0)


async def stored(bench: Bench) -> int:
    """One series with a reading in each of two partitions."""
    series = await bench.series(await bench.sensor())
    await bench.store(series, [FIRST])
    await bench.store(series, [SECOND])
    return series


async def drop(bench: Bench, now: datetime, retention_days: int = 90, hold: retention.Hold | None = None) -> int:
    holds = [] if hold is None else [hold]
    layout = bench.storage.layout
    return len(await drop_expired(bench.pool, layout, now=now, retention_days=retention_days, holds=holds))


async def first_partition(bench: Bench) -> Partition:
    async with acquire(bench.pool) as connection:
        return (await partitions_of(connection, bench.storage.layout))[0]


async def raws(bench: Bench) -> list[float]:
    async with acquire(bench.pool) as connection:
        return [row["raw"] for row in await connection.fetch("select raw from readings order by time")]


async def test_a_partition_goes_when_its_last_moment_is_old_enough(bench: Bench) -> None:
    await stored(bench)
    end = (await first_partition(bench)).end
    assert await drop(bench, end + timedelta(days=90, microseconds=-1)) == 0
    assert await raws(bench) == [1.0, 2.0]
    assert await drop(bench, end + timedelta(days=90)) == 1
    assert await raws(bench) == [2.0]
    assert await drop(bench, end + timedelta(days=90)) == 0


async def test_aggregates_stay_although_their_minutes_were_not_settled(bench: Bench) -> None:
    series = await stored(bench)
    await drop(bench, (await first_partition(bench)).end + timedelta(days=90))
    async with acquire(bench.pool) as connection:
        kept = await connection.fetch("select series_id, bucket, sum_raw from aggregates_1m")
        assert [tuple(row) for row in kept] == [(series, FIRST.time.replace(second=0), 1.0)]
        closed = await connection.fetchrow("select time_from, time_to from dropped_ranges")
    assert closed is not None
    assert closed["time_from"] <= FIRST.time < closed["time_to"] <= SECOND.time


async def test_zero_days_keep_everything(bench: Bench) -> None:
    await stored(bench)
    assert await drop(bench, SECOND.time + timedelta(days=9000), retention_days=0) == 0


async def test_what_somebody_holds_stays(bench: Bench) -> None:
    await stored(bench)

    async def hold(_: Connection, start: datetime, end: datetime) -> bool:
        return start <= FIRST.time < end

    assert await drop(bench, SECOND.time + timedelta(days=900), hold=hold) == 1
    assert await raws(bench) == [1.0]


async def test_history_that_was_brought_in_late_is_kept_as_long_from_then(bench: Bench) -> None:
    series = await bench.series(await bench.sensor())
    async with acquire(bench.pool) as connection:
        now: datetime = await connection.fetchval("select now()")
    old = Reading((now - START).total_seconds() - 3000 * 86_400)
    await bench.store(series, [old])
    assert await drop(bench, now + timedelta(days=89)) == 0
    assert await drop(bench, now + timedelta(days=91)) == 1


async def test_what_was_interrupted_is_finished_by_the_next_pass(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await stored(bench)
    now = (await first_partition(bench)).end + timedelta(days=90)

    async def fail(*_: object) -> None:
        raise StorageUnavailable("the database is away")

    with monkeypatch.context() as broken:
        broken.setattr(retention, "drop_partition", fail)
        with pytest.raises(StorageUnavailable):
            await drop(bench, now)
    assert await raws(bench) == [1.0, 2.0]
    assert await drop(bench, now) == 1
    async with acquire(bench.pool) as connection:
        assert await connection.fetchval("select count(*) from dropped_ranges") == 1


async def test_a_reader_who_holds_a_partition_puts_its_end_off(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_LOCK_WAIT", "set local lock_timeout = '200ms'")
    await stored(bench)
    now = (await first_partition(bench)).end + timedelta(days=90)
    async with transaction(bench.pool) as reader:
        await reader.fetch("select * from readings")
        with pytest.raises(StorageUnavailable):
            await drop(bench, now)
    assert await raws(bench) == [1.0, 2.0]
    assert await drop(bench, now) == 1


async def test_a_dropped_partition_is_not_made_again(bench: Bench) -> None:
    await stored(bench)
    await drop(bench, (await first_partition(bench)).end + timedelta(days=90))
    bench.storage.partitions.forget()
    await bench.storage.partitions.ensure(np.array([to_us(FIRST.time), to_us(SECOND.time)], np.int64))
    assert (await first_partition(bench)).start > FIRST.time


async def test_meta_goes_with_its_readings(bench: Bench) -> None:
    series = await stored(bench)
    async with transaction(bench.pool) as connection:
        for one in (FIRST, SECOND):
            await connection.execute("insert into reading_meta values ($1, $2, $3)", series, one.time, {"by": "ada"})
    await drop(bench, (await first_partition(bench)).end + timedelta(days=90))
    async with acquire(bench.pool) as connection:
        assert [row["time"] for row in await connection.fetch("select time from reading_meta")] == [SECOND.time]
