"""Timestamps of a series rise strictly."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.acquisition.order import NEAR_US, strictly_rising

NOW_US = 1_700_000_000_000_000


def rise(series: list[int], timestamps_us: list[int], latest_us: dict[int, int]) -> tuple[list[int], int]:
    latest = np.full(10, -1, np.int64)
    for reference, value in latest_us.items():
        latest[reference] = value
    risen, moved = strictly_rising(np.array(series, np.uint32), np.array(timestamps_us, np.int64), latest)
    return risen.tolist(), moved


def test_equal_timestamps_of_a_series_are_moved_apart_and_counted() -> None:
    assert rise([1, 1, 1, 2], [NOW_US, NOW_US, NOW_US + 5, NOW_US], {}) == (
        [NOW_US, NOW_US + 1, NOW_US + 5, NOW_US],
        1,
    )


def test_a_reading_at_the_latest_time_is_moved_behind_it() -> None:
    assert rise([1, 2], [NOW_US, NOW_US], {1: NOW_US, 2: NOW_US - 1}) == ([NOW_US + 1, NOW_US], 1)


def test_a_late_reading_keeps_its_time() -> None:
    late_us = NOW_US - NEAR_US
    assert rise([1], [late_us], {1: NOW_US}) == ([late_us], 0)


def test_no_readings_are_in_order() -> None:
    assert rise([], [], {1: NOW_US}) == ([], 0)


@given(
    st.lists(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3 * NEAR_US)), max_size=30), min_size=1, max_size=5)
)
def test_within_a_call_and_near_the_latest_timestamps_never_repeat(calls: list[list[tuple[int, int]]]) -> None:
    latest_us = np.full(4, -1, np.int64)
    for rows in calls:
        rows.sort()
        before_us = latest_us.copy()
        series = np.array([row[0] for row in rows], np.uint32)
        timestamp_us = np.array([NOW_US + row[1] for row in rows], np.int64)
        risen_us, moved = strictly_rising(series, timestamp_us, latest_us)
        assert (risen_us >= timestamp_us).all()
        assert moved == (risen_us != timestamp_us).sum()
        for reference in (1, 2, 3):
            own = risen_us[series == reference]
            assert (np.diff(own) > 0).all()
            assert not ((own <= before_us[reference]) & (own > before_us[reference] - NEAR_US)).any()
            assert latest_us[reference] == max([before_us[reference], *own.tolist()])
