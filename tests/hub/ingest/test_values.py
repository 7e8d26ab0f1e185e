"""The values of a group: the short way for what is usual says what the long way would."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.ingest import store, values
from hub.ingest.values import Values, settle
from shared.conversion import ProfileTable
from shared.readings import Reason, Status, status_byte

TABLE = ProfileTable([("linear", {"a": 2.0, "b": 1.0}), ("linear", {"a": 1e308, "b": 0.0})])
_STATUS = [
    int(Status.RAW_ONLY),
    int(Status.CONVERTED),
    int(Status.CLIENT_PROVIDED),
    status_byte(Status.CONVERSION_FAILED, Reason.CONVERSION_OVERFLOW),
    status_byte(Status.CONVERSION_FAILED, Reason.NOT_A_NUMBER),
]
_numbers = st.sampled_from([0.0, 1.5, -3.0, 1e300, float("nan"), float("inf"), float("-inf")])
readings = st.lists(
    st.tuples(_numbers, _numbers, st.sampled_from(_STATUS), st.integers(-1, 2), st.integers(0, 2)), max_size=6
)
usual = st.lists(
    st.tuples(_numbers, _numbers, st.just(int(Status.CONVERTED)), st.just(1), st.sampled_from([1, 1, 1, 2])), max_size=4
)


def settled(rows: list[tuple[float, float, int, int, int]]) -> Values:
    columns = list(zip(*rows, strict=True)) or [()] * 5
    return settle(
        np.array(columns[0], np.float64),
        np.array(columns[1], np.float64),
        np.array(columns[2], np.uint8),
        np.array(columns[3], np.int64),
        np.array(columns[4], np.int64),
        TABLE,
    )


@given(st.one_of(readings, usual))
def test_the_short_way_says_what_the_long_way_says(rows: list[tuple[float, float, int, int, int]]) -> None:
    short = settled(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(values, "_is_usual", lambda *_: False)
        long = settled(rows)
    for column in fields(Values):
        one, other = getattr(short, column.name), getattr(long, column.name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other, column.name)


def test_what_is_usual_takes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "_converted", None)
    found = settled([(1.0, 3.0, int(Status.CONVERTED), 1, 1)] * 3)
    assert found.profile.tolist() == [1, 1, 1]
    assert not found.replaced.any()


@given(st.lists(st.integers(1, 20), max_size=200))
def test_different_series_are_told_apart_however_many_they_are(ids: list[int]) -> None:
    found = store.distinct(np.array(ids, np.int32))
    assert found.tolist() == sorted(set(ids))
    assert found.dtype == np.int32
