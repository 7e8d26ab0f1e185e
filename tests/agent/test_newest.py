"""The newest reading of every series, whatever the order in which readings come."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.newest import NOTED_MAX, Newest, newest_rows
from shared.readings import Columns, Status
from shared.records import SeriesEntry

SERIES = [SeriesEntry(ref, f"sensor {ref}") for ref in range(1, 5)]

rows = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 40)), max_size=30)


def readings(rows: list[tuple[int, int]], number: int = 0) -> Columns:
    """Rows of (series, timestamp); raw counts on from `number`."""
    raw = number + np.arange(len(rows), dtype=np.float64)
    return Columns(
        np.array([row[0] for row in rows], np.uint32),
        np.array([row[1] for row in rows], np.int64),
        raw,
        raw * 2,
        np.full(len(rows), Status.CONVERTED, np.uint8),
        np.ones(len(rows), np.uint32),
    )


@given(st.lists(rows, max_size=4))
def test_the_newest_of_each_series_is_known_and_of_equals_the_one_that_came_last(
    parts: list[list[tuple[int, int]]],
) -> None:
    newest = Newest(SERIES)
    wanted: dict[int, tuple[int, float]] = {}
    number = 0
    for part in parts:
        newest.note(newest_rows(readings(part, number)))
        for ref, timestamp_us in part:
            if timestamp_us >= wanted.get(ref, (-1, 0.0))[0]:
                wanted[ref] = (timestamp_us, float(number))
            number += 1
    found = {int(value.sensor[-1]): (value.timestamp_us, value.raw) for value in newest.values()}
    assert found == wanted
    assert {ref for ref, _ in newest.take_changed()} == wanted.keys()
    assert not newest.may_have_changed
    assert newest.take_changed() == []


def test_an_exchange_in_order_is_reduced_to_a_row_a_series() -> None:
    reduced = newest_rows(readings([(1, 10), (1, 20), (2, 10), (2, 20), (1, 15)]))
    assert reduced.timestamp_us.tolist() == [20, 20, 15]


def test_an_older_reading_changes_nothing() -> None:
    newest = Newest(SERIES)
    newest.note(readings([(1, 20)]))
    newest.take_changed()
    newest.note(readings([(1, 10)]))
    assert newest.take_changed() == []
    assert newest.values()[0].timestamp_us == 20


def test_what_is_given_back_counts_as_changed_again() -> None:
    newest = Newest(SERIES)
    newest.note(readings([(1, 20), (2, 20)]))
    newest.take_changed()
    newest.give_back([2])
    assert [ref for ref, _ in newest.take_changed()] == [2]


def test_no_more_waits_than_is_said() -> None:
    newest = Newest(SERIES)
    for number in range(10 * NOTED_MAX):
        newest.note(readings([(1, number)]))
        assert len(newest._noted) < NOTED_MAX
    assert newest.values()[0].timestamp_us == 10 * NOTED_MAX - 1
