"""Coalescing values into requests."""

from __future__ import annotations

from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.modbus.plan import Limits, plan, settle, split
from drivers.modbus.registers import Table

values = st.lists(
    st.tuples(st.just(Table.HOLDING), st.integers(0, 24), st.sampled_from([1, 1, 2, 4])), min_size=1, max_size=8
)
limits = st.builds(Limits, gap_fill=st.integers(0, 4), registers_max=st.integers(4, 10))
mixed = st.lists(
    st.tuples(st.sampled_from(list(Table)), st.integers(0, 400), st.sampled_from([1, 2, 4])), min_size=1, max_size=60
)


def is_legal(address, end, used, limits):
    """Whether a request for [address, end) reads no more than allowed and no gap that is too wide."""
    run = longest = 0
    for place in range(address, end):
        run = 0 if place in used else run + 1
        longest = max(longest, run)
    return end - address <= limits.registers_max and longest <= limits.gap_fill


def fewest(values, limits):
    """The least number of legal requests, by trying every start and every end for the first uncovered value."""
    spans = sorted({(address, address + width) for _, address, width in values})
    used = {place for start, end in spans for place in range(start, end)}
    candidates = [
        frozenset(span for span in spans if start <= span[0] and span[1] <= end)
        for start in range(30)
        for end in range(start + 1, 30)
        if is_legal(start, end, used, limits)
    ]
    candidates = [brings for brings in set(candidates) if brings]

    @cache
    def best(left):
        if not left:
            return 0
        first = min(left)
        return 1 + min(best(left - brings) for brings in candidates if first in brings)

    return best(frozenset(spans))


@given(values, limits)
@settings(max_examples=150, deadline=None)
def test_no_plan_has_fewer_requests(values, limits):
    assert len(plan(values, limits)) == fewest(values, limits)


@given(mixed, st.builds(Limits, gap_fill=st.integers(0, 20), registers_max=st.integers(4, 125)))
@settings(max_examples=100, deadline=None)
def test_every_value_is_brought_whole_and_once_by_a_legal_request(values, limits):
    used = {table: set() for table in Table}
    for table, address, width in values:
        used[table].update(range(address, address + width))
    blocks = plan(values, limits)
    assert sorted(span.value for block in blocks for span in block.spans) == list(range(len(values)))
    for block in blocks:
        if not block.table.of_bits:
            assert is_legal(block.address, block.address + block.count, used[block.table], limits)
        for span in block.spans:
            table, address, width = values[span.value]
            assert block.table is table
            assert (span.address, span.end) == (address, address + width)
            assert block.address <= address
            assert address + width <= block.address + block.count


def test_a_thousand_registers_take_eight_requests():
    blocks = plan([(Table.HOLDING, i, 1) for i in range(1000)], Limits())
    assert [(block.address, block.count) for block in blocks] == [(i * 125, 125) for i in range(8)]


def test_a_float64_is_never_cut_by_the_limit():
    blocks = plan([(Table.HOLDING, i * 4, 4) for i in range(40)], Limits(registers_max=125))
    assert [block.count for block in blocks] == [124, 36]


def test_a_gap_is_read_over_up_to_its_limit_and_not_beyond():
    near = [(Table.INPUT, 0, 1), (Table.INPUT, 9, 1)]
    assert len(plan(near, Limits(gap_fill=8))) == 1
    assert len(plan(near, Limits(gap_fill=7))) == 2


def test_tables_are_never_mixed():
    assert len(plan([(table, 0, 1) for table in Table], Limits())) == 4


def test_coils_have_their_own_limit():
    assert len(plan([(Table.COIL, i, 1) for i in range(2001)], Limits())) == 2


@given(values)
@settings(deadline=None)
def test_a_split_block_keeps_all_its_values_and_gets_smaller(values):
    for block in plan(values, Limits()):
        if block.divisible:
            low, high = split(block)
            assert low.spans + high.spans == block.spans
            assert low.spans
            assert high.spans


def test_a_split_cuts_at_the_widest_gap():
    (block,) = plan(
        [(Table.HOLDING, 0, 1), (Table.HOLDING, 2, 1), (Table.HOLDING, 8, 1), (Table.HOLDING, 9, 1)], Limits()
    )
    low, high = split(block)
    assert (low.address, low.count, high.address, high.count) == (0, 3, 8, 2)


def test_neighbours_that_were_refused_become_one_request_that_is_not_split_again():
    blocks = [plan([(Table.HOLDING, i, 1)], Limits())[0] for i in range(4)]
    settled = settle([(blocks[0], True), (blocks[1], False), (blocks[2], False), (blocks[3], True)], Limits())
    assert [(block.address, block.count, block.divisible) for block in settled] == [
        (0, 1, False),
        (1, 2, False),
        (3, 1, False),
    ]
    assert settled[1].whole
