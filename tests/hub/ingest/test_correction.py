"""What is added to a clock segment's times: what is believed, in which order, and that nothing is reordered."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from hub.ingest.correction import Correction, Neighbour, Segment, Surroundings, decide, fit, in_order

S = 1_000_000
OPENED_US = 1_790_000_000 * S


def segment(
    number: int = 1, source: str = "hub", offset_us: int = 0, uncertainty_us: int = 500, step_us: int = 0
) -> Segment:
    return Segment(number, OPENED_US, offset_us, uncertainty_us, step_us, source)


def around(
    own: Segment | None,
    *siblings: Segment,
    before: Neighbour | None = None,
    after: Neighbour | None = None,
    seconds: int = 60,
) -> Surroundings:
    told = {one.segment: one for one in (own, *siblings) if one is not None}
    return Surroundings(own, told, before, after, OPENED_US, OPENED_US + seconds * S)


def test_a_measured_offset_is_added_and_one_within_its_uncertainty_is_none() -> None:
    assert decide(around(segment(offset_us=3 * S))) == Correction(3 * S, 500, "measured")
    assert decide(around(segment(offset_us=500))) == Correction(0, 500, "measured")
    assert decide(around(segment(offset_us=-501))) == Correction(-501, 500, "measured")


def test_a_segment_before_or_after_a_measured_one_of_the_same_process_follows_from_the_steps() -> None:
    third = segment(3, offset_us=-10 * S, step_us=40 * S)
    second = segment(2, "none", uncertainty_us=-1, step_us=-5 * S)
    first = segment(1, "none", uncertainty_us=-1)
    assert decide(around(second, first, third)) == Correction(30 * S, 500, "derived")
    assert decide(around(first, second, third)) == Correction(25 * S, 500, "derived")
    measured_first = segment(1, offset_us=2 * S)
    assert decide(around(second, measured_first)) == Correction(7 * S, 500, "derived")
    assert decide(around(first, third)) is None, "the step into the second is not known"


def test_a_clock_that_a_time_service_keeps_is_believed() -> None:
    assert decide(around(segment(source="system", uncertainty_us=9000))) == Correction(0, 9000, "vouched")


def test_a_sender_that_says_nothing_of_its_clock_is_taken_as_it_is() -> None:
    assert decide(around(None)) == Correction(0, None, "unstated")


def test_a_clock_that_nobody_vouches_for_is_not_decided_over() -> None:
    assert decide(around(segment(source="none", uncertainty_us=-1))) is None


def test_it_fits_between_its_neighbours_by_the_correction_of_either() -> None:
    unknown = around(
        segment(source="none", uncertainty_us=-1),
        before=Neighbour(OPENED_US + 3590 * S, 3600 * S, 500),
        after=Neighbour(OPENED_US + 3700 * S, 0, 500),
    )
    assert fit(unknown) == Correction(3600 * S, 40 * S, "neighbours"), "the later one's would put it before its time"
    assert fit(replace(unknown, after=None)) is None
    assert fit(replace(unknown, before=None)) is None


def test_an_agents_first_segment_comes_after_its_enrolment() -> None:
    first = around(
        segment(source="none", uncertainty_us=-1), before=None, after=Neighbour(OPENED_US + 3600 * S, 5 * S, 500)
    )
    assert fit(first) is None
    enrolled = replace(first, enrolled_us=OPENED_US - 60 * S)
    found = fit(enrolled)
    assert found is not None
    assert (found.correction_us, found.basis) == (5 * S, "neighbours")
    assert fit(replace(first, enrolled_us=OPENED_US + 60 * S)) is None, "it says that it is from before"


def test_a_machine_without_a_battery_clock_fits_nowhere() -> None:
    long_ago = around(
        segment(source="none", uncertainty_us=-1),
        before=Neighbour(OPENED_US + 10**9 * S, 0, 500),
        after=Neighbour(OPENED_US + 10**9 * S + 7200 * S, 5 * S, 500),
    )
    assert fit(long_ago) is None


@given(
    offset_us=st.integers(-(10**12), 10**12),
    uncertainty_us=st.integers(0, 10**7),
    overlap_us=st.integers(-(10**7), 10**7),
)
def test_a_segment_never_begins_within_its_predecessor_where_uncertainty_explains_it(
    offset_us: int, uncertainty_us: int, overlap_us: int
) -> None:
    found = Correction(offset_us, uncertainty_us, "measured")
    before = Neighbour(OPENED_US + offset_us + overlap_us, 0, uncertainty_us)
    placed = in_order(found, around(segment(), before=before))
    begins_us = OPENED_US + placed.correction_us
    if overlap_us < max(2 * uncertainty_us, S):
        assert begins_us >= max(before.edge_us, OPENED_US + offset_us)
        assert begins_us <= max(before.edge_us + 1, OPENED_US + offset_us)
    else:
        assert placed == found, "a greater overlap is no inexactness"
