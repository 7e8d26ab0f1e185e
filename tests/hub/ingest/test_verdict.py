"""Verdicts and profiles in force, without a database."""

from __future__ import annotations

import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hub.ingest.dictionary import UNKNOWN, Dictionary, Narrowing, References, Slot, Verdict
from hub.ingest.lookup import Reach
from hub.ingest.store import Stretch, stretches
from hub.ingest.timeline import Term, Timeline
from hub.ingest.verdict import Ask, Bounds, Part, judge
from shared.columns import DecodedColumns, physical_digest
from shared.conversion import ProfileTable
from shared.readings import Columns, Reason, Status, status_byte
from tests.hub.ingest.conftest import NOW_US, columns

TABLE = ProfileTable([("linear", {"a": 2.0, "b": 1.0}), ("linear", {"a": 10.0, "b": 0.0})])
OPEN = Bounds(0, NOW_US + 10**9, np.empty((0, 2), np.int64))
NAN = float("nan")
OVERFLOW = status_byte(Status.CONVERSION_FAILED, Reason.CONVERSION_OVERFLOW)


def _part(readings: Columns, *slots: Slot, profiles: dict[int, int] | None = None, digest: bytes | None = None) -> Part:
    return Part(DecodedColumns(readings, digest), Dictionary.of(slots, profiles or {}))


def _slot(ref: int = 1, timeline: Timeline | None = None, verdict: Verdict = Verdict.STORE) -> Slot:
    return Slot(ref, f"s{ref}", "value", verdict, series_id=ref + 100, timeline=timeline or Timeline())


def test_the_profile_that_began_later_holds_until_it_ends() -> None:
    timeline = Timeline([Term(1), Term(2, 10, 20)])
    assert timeline.at(np.array([-5, 9, 10, 19, 20, 99])).tolist() == [1, 1, 2, 2, 1, 1]
    assert (timeline.last_from_us, timeline.last_profile) == (20, 1)


def test_a_recalculation_rules_over_what_was_published_until_then() -> None:
    published = [Term(1), Term(2, 10), Term(3, 14, decided_us=30)]
    rulings = [Term(4, 0, 20, 25, is_ruling=True), Term(5, 5, 8, 26, is_ruling=True)]
    timeline = Timeline([*published, *rulings])
    assert timeline.at(np.array([-1, 0, 5, 7, 8, 13, 14, 19, 20])).tolist() == [1, 4, 5, 5, 4, 4, 3, 3, 3]


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 50), st.integers(1, 50)), max_size=6), st.integers(0, 120))
def test_a_timeline_agrees_with_asking_every_term(terms: list[tuple[int, int, int]], at: int) -> None:
    listed = [Term(profile, start, start + length) for profile, start, length in terms]
    holding = [term for term in listed if term.from_us <= at < term.to_us]
    expected = max(holding, key=lambda term: term.from_us).profile if holding else 0
    assert Timeline(listed).at(np.array([at])).tolist() == [expected]


KINDS = st.sampled_from(["default", "split", "ruling"])
TERMS = st.lists(st.tuples(KINDS, st.integers(0, 30), st.integers(0, 30), st.integers(0, 30)), max_size=10)


def _said(listed: list[Term], at: int) -> int:
    """What holds at a time, asked in the words of the rule."""
    there = [term for term in listed if term.from_us <= at < term.to_us]
    rulings = [term for term in there if term.is_ruling]
    splits = [term for term in there if term.is_split]
    defaults = [term for term in there if not term.is_ruling and not term.is_split]
    latest = max(term.from_us for term in defaults) if defaults else None
    speaks = splits[-1] if splits else next((term for term in defaults if term.from_us == latest), None)
    if not rulings:
        return speaks.profile if speaks else 0
    if not splits:  # of defaults, only what was published since can take it back
        since = [term for term in defaults if term.decided_us > rulings[-1].decided_us]
        latest = max(term.from_us for term in since) if since else None
        speaks = next((term for term in since if term.from_us == latest), None)
    taken_back = speaks is not None and speaks.decided_us > rulings[-1].decided_us
    return speaks.profile if speaks and taken_back else rulings[-1].profile


@given(TERMS, st.lists(st.integers(-5, 70), min_size=1))
def test_splits_hold_over_defaults_and_rulings_over_what_was_decided_before(
    drawn: list[tuple[str, int, int, int]], times: list[int]
) -> None:
    listed = [
        Term(place, start, start + length, decided, is_ruling=kind == "ruling", is_split=kind == "split")
        for place, (kind, start, length, decided) in enumerate(drawn, start=1)
    ]
    assert Timeline(listed).at(np.array(times)).tolist() == [_said(listed, at) for at in times]


def test_a_sensor_of_ten_thousand_sessions_has_a_timeline_at_once() -> None:
    windows = [Term(2, 10 * number, 10 * number + 5, 7, is_split=True) for number in range(10_000)]
    began_s = time.process_time()
    timeline = Timeline([Term(1), *windows])
    assert time.process_time() - began_s < 5
    assert timeline.at(np.array([-1, 4, 5, 99_994, 99_995])).tolist() == [1, 2, 1, 2, 1]


def test_ten_thousand_recalculations_that_overlap_make_a_timeline_at_once() -> None:
    rulings = [Term(2 + place % 2, place, 30_000 - place, 100 + place, is_ruling=True) for place in range(10_000)]
    began_s = time.process_time()
    timeline = Timeline([Term(1), *rulings])
    assert time.process_time() - began_s < 5
    assert timeline.at(np.array([-1, 0, 1, 9999, 20_000, 20_001, 30_000])).tolist() == [1, 2, 3, 3, 3, 2, 1]


@given(st.dictionaries(st.integers(1, 2**32 - 1), st.integers(0, 1000), max_size=50), st.integers(0, 2**32 - 1))
def test_references_find_what_was_given_and_nothing_else(values: dict[int, int], asked: int) -> None:
    if not values:
        return
    refs = np.array([*values, asked], np.uint32)
    found = References(values).find(refs).tolist()
    assert found == [*values.values(), values.get(asked, UNKNOWN)]


def test_a_reference_that_nobody_declared_asks_for_the_dictionary() -> None:
    judged = judge([_part(columns([2], [NOW_US], [1.0]), _slot(1))], TABLE, OPEN)
    assert judged.asks == {0: Ask.DICTIONARY}
    assert len(judged) == 0


def test_a_batch_that_is_asked_for_does_not_hold_up_its_neighbours() -> None:
    parts = [
        _part(columns([1], [NOW_US], [1.0]), _slot(1, verdict=Verdict.UNRESOLVED)),
        _part(columns([1], [NOW_US], [2.0]), _slot(1)),
    ]
    judged = judge(parts, TABLE, OPEN)
    assert judged.asks == {0: Ask.LATER}
    assert (judged.part.tolist(), judged.raw.tolist()) == ([1], [2.0])


def test_what_the_profile_in_force_has_made_is_kept_and_the_rest_is_converted_again() -> None:
    readings = columns(
        [1, 1, 1, 1],
        [5, 15, 25, 35],
        [1.0, 1.0, 1.0, 1.0],
        physical=[3.0, 3.0, NAN, 77.0],
        status=[1, 1, 0, 2],
        profile=[1, 1, 0, 0],
    )
    timeline = Timeline([Term(1, 0, 10), Term(2, 10)])
    judged = judge([_part(readings, _slot(1, timeline), profiles={1: 1})], TABLE, OPEN)
    assert judged.physical.tolist() == [3.0, 10.0, 10.0, 77.0]
    assert judged.profile.tolist() == [1, 2, 2, 0]
    assert judged.replaced.tolist() == [0, 1, 0, 0]
    assert judged.status.tolist() == [1, 1, 1, 2]


def test_a_failure_of_the_old_profile_is_undone_and_one_of_the_instrument_stays() -> None:
    bad = status_byte(Status.CONVERSION_FAILED, Reason.INSTRUMENT)
    readings = columns([1, 1], [5, 6], [1.0, 1.0], status=[OVERFLOW, bad], profile=[1, 1])
    judged = judge([_part(readings, _slot(1, Timeline([Term(2)])), profiles={1: 1})], TABLE, OPEN)
    assert judged.status.tolist() == [1, bad]
    assert judged.physical[0] == 10.0
    assert np.isnan(judged.physical[1])


def test_physical_values_left_out_are_derived_and_checked() -> None:
    readings = columns([1, 1], [5, 6], [0.1, 0.2], status=[1, 1], profile=[1, 1])
    physical, _ = TABLE.convert(np.ones(2, np.uint32), readings.raw, np.zeros(2, np.uint8))
    slot = _slot(1, Timeline([Term(1)]))
    good = judge([_part(readings, slot, profiles={1: 1}, digest=physical_digest(physical))], TABLE, OPEN)
    assert good.physical.tolist() == physical.tolist()
    bad = judge([_part(readings, slot, profiles={1: 1}, digest=b"12345678")], TABLE, OPEN)
    assert bad.asks == {0: Ask.PHYSICAL}
    unknown = judge([_part(readings, slot, profiles={1: UNKNOWN}, digest=b"12345678")], TABLE, OPEN)
    assert unknown.physical.tolist() == physical.tolist()


def test_values_without_a_finite_number_are_failures_with_a_reason() -> None:
    readings = columns(
        [1, 1, 1, 1], [1, 2, 3, 4], [np.inf, NAN, 1.0, 1.0], physical=[NAN, NAN, np.inf, 5.0], status=[0, 0, 2, 0]
    )
    judged = judge([_part(readings, _slot())], TABLE, OPEN)
    assert judged.status.tolist() == [0x23, 0x13, 0x23, 0]
    assert np.isnan(judged.raw[:2]).all()
    assert np.isnan(judged.physical).all()


def test_what_is_set_aside_keeps_the_value_it_was_sent_with() -> None:
    readings = columns([1], [5], [1.0], physical=[3.0], status=[1], profile=[1])
    slot = _slot(1, Timeline([Term(2)]), Verdict.SENSOR_DELETED)
    judged = judge([_part(readings, slot, profiles={1: 1})], TABLE, OPEN)
    assert (judged.physical.tolist(), judged.verdict.tolist()) == ([3.0], [Verdict.SENSOR_DELETED])


def test_times_out_of_bounds_are_set_aside() -> None:
    readings = columns([1, 1, 1, 1], [5, 15, 25, 35], [1.0] * 4)
    judged = judge([_part(readings, _slot())], TABLE, Bounds(10, 30, np.array([[20, 30]])))
    assert judged.verdict.tolist() == [Verdict.TOO_OLD, Verdict.STORE, Verdict.DROPPED_RANGE, Verdict.FUTURE]


def test_an_empty_batch_is_judged_too() -> None:
    judged = judge([_part(columns([], [], []), _slot())], TABLE, OPEN)
    assert (judged.asks, len(judged)) == ({}, 0)
    assert len(judge([], TABLE, OPEN)) == 0


def test_minutes_of_batches_that_touch_are_one_stretch_and_others_are_not() -> None:
    minute = 60_000_000
    time_us = np.array([5 * minute + 1, 6 * minute, 100 * minute, 7 * minute])
    found = stretches(np.array([1, 2, 3, 4]), time_us, np.array([0, 0, 1, 2]))
    assert found == [Stretch([1, 2, 4], 5 * minute, 7 * minute), Stretch([3], 100 * minute, 100 * minute)]


def test_what_the_hub_takes_and_the_project_does_not_is_set_aside() -> None:
    narrow = Slot(1, "s1", "value", Verdict.STORE, series_id=101, narrowing=Narrowing(sooner_us=10, later_us=5))
    wide = _slot(2)
    readings = columns([1, 1, 1, 1, 2, 2], [4, 5, 90, 91, 0, 100], [1.0] * 6)
    judged = judge([_part(readings, narrow, wide)], TABLE, Bounds(0, 100, np.empty((0, 2), np.int64)))
    stored, early, late = int(Verdict.STORE), int(Verdict.TOO_OLD), int(Verdict.FUTURE)
    assert judged.verdict.tolist() == [early, stored, stored, late, stored, stored]


def test_a_project_takes_no_more_than_the_hub() -> None:
    reach = Reach(ahead_s=60, back_days=100)
    assert reach.narrowing(None, None) == reach.narrowing(3600, 0) == reach.narrowing(60, 1000) == Narrowing()
    assert reach.narrowing(10, 90) == Narrowing(50_000_000, 10 * 86_400_000_000)
