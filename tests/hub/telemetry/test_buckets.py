"""What is summed up always equals what the readings say, however much of it is folded and however late it came."""

from __future__ import annotations

import math
import random
from datetime import timedelta
from typing import Any

import pytest

from hub.database.pool import acquire
from hub.telemetry.aggregate import fold_dirty
from hub.telemetry.buckets import MINUTE_US, Extent, default_interval_us, extent_of, read_buckets
from hub.telemetry.catalogue import Catalogue
from hub.telemetry.moments import to_us
from tests.fixtures.readings import START, Bench, Reading

pytestmark = pytest.mark.every_tier

START_US = to_us(START)
STEPS = 12


def raw_buckets(
    stored: dict[int, list[Reading]], extent: Extent, interval_us: int
) -> dict[tuple[int, int], tuple[float | None, ...]]:
    """The same by hand: (bucket, series) → count, average, least, greatest of raw, then of physical."""
    groups: dict[tuple[int, int], list[Reading]] = {}
    for series, readings in stored.items():
        for one in readings:
            time_us = to_us(one.time)
            if extent.from_us <= time_us < extent.to_us:
                groups.setdefault((time_us // interval_us * interval_us, series), []).append(one)
    return {
        key: (
            len(group),
            *_summary([one.raw for one in group if one.raw is not None]),
            *_summary([one.physical for one in group if one.physical is not None]),
        )
        for key, group in groups.items()
    }


def _summary(values: list[float]) -> tuple[float | None, ...]:
    return (math.fsum(values) / len(values), min(values), max(values)) if values else (None, None, None)


async def answer(bench: Bench, series: dict[int, str], extent: Extent, interval_us: int) -> dict[Any, Any]:
    catalogue = Catalogue()
    async with acquire(bench.pool) as connection:
        sensors = await connection.fetch("select distinct sensor_id from series")
        known = await catalogue.series_of(connection, [record[0] for record in sensors])
        found = await read_buckets(connection, catalogue, list(series), extent, interval_us, 100_000)
    ids = {one.signal: one.id for one in known}
    return {
        (to_us(bucket["bucket"]), ids[bucket["signal"]]): (
            bucket["sample_count"],
            bucket["avg_raw"],
            bucket["min_raw"],
            bucket["max_raw"],
            bucket["avg_physical"],
            bucket["min_physical"],
            bucket["max_physical"],
        )
        for bucket in found
    }


@pytest.mark.parametrize("seed", range(3))
async def test_buckets_equal_the_readings_after_writes_late_data_and_folds_in_any_order(
    bench: Bench, seed: int
) -> None:
    rng = random.Random(seed)
    sensor = await bench.sensor()
    series = {await bench.series(sensor, name): name for name in ("a", "b")}
    stored: dict[int, list[Reading]] = {ref: [] for ref in series}
    taken: set[tuple[int, float]] = set()
    for _ in range(STEPS):
        ref = rng.choice(list(series))
        base_s = rng.randrange(0, 1200)
        group = [_reading(rng, base_s) for _ in range(rng.randrange(1, 30))]
        group = [one for one in {one.at_s: one for one in group}.values() if (ref, one.at_s) not in taken]
        if group:
            taken |= {(ref, one.at_s) for one in group}
            stored[ref] += group
            await bench.store(ref, group)
        if rng.random() < 0.4:
            await fold_dirty(bench.pool, START + timedelta(seconds=rng.randrange(0, 2000)))
        await _check(bench, rng, series, stored)


def _reading(rng: random.Random, base_s: int) -> Reading:
    raw = rng.choice([None, rng.uniform(-1e6, 1e6)])
    return Reading(round(base_s + rng.uniform(0, 150), 6), raw, None if raw is None or rng.random() < 0.5 else raw * 2)


async def _check(bench: Bench, rng: random.Random, series: dict[int, str], stored: dict[int, list[Reading]]) -> None:
    for interval_us in (10_000_000, MINUTE_US, 5 * MINUTE_US, 90_000_000):
        from_us = START_US + rng.randrange(0, 300_000_000)
        extent = Extent(from_us, from_us + rng.randrange(1, 1_200_000_000))
        found = await answer(bench, series, extent, interval_us)
        expected = raw_buckets(stored, extent, interval_us)
        assert found.keys() == expected.keys()
        for key, values in expected.items():
            assert _numbers(found[key]) == pytest.approx(_numbers(values), rel=1e-9, abs=1e-6, nan_ok=True)


def _numbers(values: tuple[float | None, ...]) -> list[float]:
    return [math.nan if value is None else value for value in values]


async def test_marks_are_folded_once_settled_and_their_minutes_then_come_from_the_aggregates(bench: Bench) -> None:
    series = await bench.series(await bench.sensor(), "a")
    await bench.store(series, [Reading(0, 1.0), Reading(61, 5.0)])
    assert await fold_dirty(bench.pool, START) == 0
    assert await fold_dirty(bench.pool, START + timedelta(minutes=5)) == 1
    async with acquire(bench.pool) as connection:
        assert await connection.fetchval("select count(*) from dirty_minutes") == 0
        await connection.execute("delete from readings")  # as retention does
    extent = Extent(START_US, START_US + 2 * MINUTE_US)
    found = await answer(bench, {series: "a"}, extent, MINUTE_US)
    assert [value[:2] for value in found.values()] == [(1, 1.0), (1, 5.0)]
    async with acquire(bench.pool) as connection:
        assert await extent_of(connection, [series]) == extent


async def test_a_mark_that_reaches_across_dropped_readings_does_not_hide_their_aggregates(bench: Bench) -> None:
    series = await bench.series(await bench.sensor(), "a")
    await bench.store(series, [Reading(0, 1.0), Reading(61, 5.0)])
    await fold_dirty(bench.pool, START + timedelta(minutes=5))
    async with acquire(bench.pool) as connection:
        await connection.execute("delete from readings")  # as retention does
        marked = "insert into dirty_minutes values (0, $1, $2, $3)"
        await connection.execute(marked, [series], START - timedelta(minutes=3), START + timedelta(minutes=3))
    for _ in range(2):
        found = await answer(bench, {series: "a"}, Extent(START_US, START_US + 2 * MINUTE_US), MINUTE_US)
        assert [value[:2] for value in found.values()] == [(1, 1.0), (1, 5.0)]
        await fold_dirty(bench.pool, START + timedelta(minutes=5))


async def test_an_interval_chosen_by_us_keeps_the_number_of_buckets_bounded() -> None:
    day_us = 24 * 60 * MINUTE_US
    assert default_interval_us(Extent(0, 60 * MINUTE_US), 1) == MINUTE_US
    assert default_interval_us(Extent(0, day_us), 1) == MINUTE_US
    assert default_interval_us(Extent(0, 30 * day_us), 1) == 60 * MINUTE_US
    assert default_interval_us(Extent(0, day_us), 400) == 60 * MINUTE_US
    assert default_interval_us(Extent(0, 10_000 * day_us), 50_000) == 366 * day_us
