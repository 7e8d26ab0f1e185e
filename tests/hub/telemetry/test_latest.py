"""The latest readings are found without looking at all of them, whatever their density."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.database.pool import acquire
from hub.telemetry.latest import Span, latest
from hub.telemetry.scan import Where
from tests.fixtures.readings import START, Bench, Reading

START_US = round(START.timestamp()) * 1_000_000
YEAR_US = 31_536_000_000_000
STEPS_MAX = 60


def counts(span: Span, ages_us: np.ndarray, steps_max: int = STEPS_MAX) -> list[int]:
    """What was counted until the span was found."""
    counted: list[int] = []
    while not span.is_found:
        found = int((ages_us < span.length_us).sum())
        counted.append(min(found, span.enough + 1))
        span.learn(counted[-1])
        assert len(counted) <= steps_max
    return counted


@given(
    st.lists(st.integers(0, YEAR_US), min_size=1, max_size=50),
    st.integers(1, 20_000),
    st.integers(1, 60_000),
    st.integers(0, 1_000_000),
)
def test_a_span_holds_as_many_as_are_wanted_or_all_but_not_many_more(
    ages: list[int], wanted: int, burst: int, step_us: int
) -> None:
    ages_us = np.concatenate([ages, max(ages) + step_us * np.arange(burst, dtype=np.int64)])
    ages_us -= ages_us.min()
    span = Span(wanted, int(ages_us.max()) + 1)
    counts(span, ages_us)
    within = int((ages_us < span.length_us).sum())
    assert within >= min(wanted, len(ages_us))
    assert within <= span.enough or int((ages_us < span.length_us - 1).sum()) < wanted


def test_what_is_evenly_dense_is_found_by_its_density() -> None:
    ages_us = 50_000 * np.arange(1_000_000, dtype=np.int64)
    span = Span(100_000, int(ages_us.max()) + 1)
    assert counts(span, ages_us) == [20, 321, pytest.approx(110_000, abs=1000)]


def test_a_burst_after_a_year_of_silence_is_not_counted_a_hundred_times() -> None:
    burst = 10 * np.arange(90_000, dtype=np.int64)
    ages_us = np.concatenate([burst, burst + YEAR_US])
    span = Span(100_000, int(ages_us.max()) + 1)
    assert len(counts(span, ages_us)) <= 10


def test_too_long_a_span_is_halved_until_it_holds_few_enough() -> None:
    ages_us = np.concatenate([900_000 * np.arange(1, 20), 10_000_000 + 10 * np.arange(1_000_000)])
    span = Span(20_000, int(ages_us.max()) + 1)
    counts(span, ages_us)
    assert 20_000 <= int((ages_us < span.length_us).sum()) <= 40_000


@pytest.mark.every_tier
@pytest.mark.parametrize("limit", [1, 2, 7, 40, 1000])
async def test_the_latest_of_several_signals_are_those_of_a_sort(bench: Bench, limit: int) -> None:
    sensor = await bench.sensor()
    fast, slow = await bench.series(sensor, "fast"), await bench.series(sensor, "slow")
    await bench.series(sensor, "silent")
    at_s = {fast: [*np.arange(0, 30, 0.25), *np.arange(7000, 7001, 0.01)], slow: [*range(0, 8000, 500), 7000.5]}
    stored = [(round(at * 1e6) + START_US, series) for series, times in at_s.items() for at in times]
    for series, times in at_s.items():
        await bench.store(series, [Reading(at_s=float(at)) for at in times])
    where = Where(series=(fast, slow))
    until_us = START_US + 7_000_600_000
    async with acquire(bench.pool) as connection:
        rows = await latest(connection, where, limit=limit)
        ranged = await latest(
            connection, Where(series=(fast, slow), time_from_us=START_US + 5_000_000, time_to_us=until_us), limit=limit
        )
        none = await latest(connection, Where(series=(fast,), time_from_us=until_us + 10**12), limit=limit)
    assert list(zip(rows.time_us.tolist(), rows.series.tolist(), strict=True)) == sorted(stored)[-limit:]
    inside = sorted(one for one in stored if START_US + 5_000_000 <= one[0] < until_us)
    assert list(zip(ranged.time_us.tolist(), ranged.series.tolist(), strict=True)) == inside[-limit:]
    assert len(none) == 0


async def test_no_series_have_no_readings(bench: Bench) -> None:
    async with acquire(bench.pool) as connection:
        assert len(await latest(connection, Where(series=()), limit=3)) == 0
