"""The judge of `bench chaos`: it sees what is lost, stored twice or missing, and excuses no more than it may."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from bench.chaos.evidence import Evidence, Keys, Standing, Taken, key_of
from bench.chaos.faults import FAMILIES, FAULTS, deck
from bench.chaos.gaps import GapRecord, Held
from bench.chaos.oracle import Judgement, Seen, Stop, judge
from bench.chaos.records import Records

EPOCH = bytes(16)
NOTHING = np.empty(0, np.int64)
SECOND_US = 1_000_000


def keys(*numbers: int, point: int = 0, agent: int = 0) -> Keys:
    return key_of(agent, np.full(len(numbers), point, np.int64), np.array(numbers, np.int64))


def batch(*numbers: int) -> Taken:
    """Number n was taken at n seconds."""
    return Taken.of(keys(*numbers), min(numbers) * SECOND_US, max(numbers) * SECOND_US)


def taken(*batches: tuple[int, ...]) -> Evidence:
    """An agent that took these numbers, a batch each, seq 1, 2, …"""
    found = {(EPOCH, seq): batch(*numbers) for seq, numbers in enumerate(batches, start=1)}
    return Evidence(0, found, max(one.last for one in found.values()))


def stored(*numbers: int, aside: Keys = NOTHING, gaps: tuple[GapRecord, ...] = ()) -> Records:
    return Records(np.sort(keys(*numbers)), aside, gaps, 0)


def gap(cause: str, first_seq: int, last_seq: int, readings: int = -1, **changes: int) -> GapRecord:
    """About the batches from one seq to another, at any time."""
    counts = Counter({0: readings}) if readings >= 0 else Counter()
    record = GapRecord(0, cause, 0, 1_000 * SECOND_US, readings, counts, ((EPOCH, first_seq, last_seq),))
    return replace(record, **changes)  # type: ignore[arg-type]


def verdict(
    evidence: Evidence,
    records: Records,
    *,
    held: Standing | None = None,
    stops: tuple[Stop, ...] = (),
    blocked: tuple[Held, ...] = (),
    first: int = 1,
    last: int = 0,
    given: int = 0,
) -> tuple[int, int, int]:
    """Lost, duplicated, unexplained."""
    standing = [] if held is None else [held]
    seen = Seen(evidence, standing, first, last or evidence.last, given or last or evidence.last, stops, blocked)
    found: Judgement = judge([seen], records, points=1)
    assert bool(found.examples) is not found.clean
    return found.lost, found.duplicated, found.unexplained


def test_all_that_was_taken_and_stored_once_is_clean() -> None:
    assert verdict(taken((1, 2), (3, 4)), stored(1, 2, 3, 4)) == (0, 0, 0)


def test_what_was_taken_and_is_nowhere_is_lost_and_unexplained() -> None:
    assert verdict(taken((1, 2), (3, 4)), stored(1, 2, 4)) == (1, 0, 1)


@pytest.mark.parametrize("missing", [1, 2, 4])
def test_what_was_given_out_and_never_taken_is_unexplained_at_the_beginning_in_the_midst_and_at_the_end(
    missing: int,
) -> None:
    there = [number for number in (1, 2, 3, 4) if number != missing]
    assert verdict(taken(tuple(there)), stored(*there), last=4) == (0, 0, 1)


def test_a_point_without_any_reading_is_unexplained() -> None:
    seen = Seen(taken((1, 2)), (), 1, 2, 2)
    assert judge([seen], stored(1, 2), points=2).unexplained == 2


def test_numbers_before_the_comparison_are_left_to_an_earlier_one() -> None:
    assert verdict(taken((1, 2), (3, 4)), stored(4), first=4) == (0, 0, 0)


def test_what_stands_twice_is_duplicated() -> None:
    assert verdict(taken((1, 2)), stored(1, 2, 2)) == (0, 1, 0)


def test_a_batch_in_the_row_of_another_is_unexplained() -> None:
    evidence = taken((1, 2))
    evidence.foreign.add((EPOCH, 9))
    assert verdict(evidence, stored(1, 2)) == (0, 0, 1)


def test_what_no_instrument_gave_out_is_unexplained() -> None:
    assert verdict(taken((1, 2)), stored(1, 2, 3)) == (0, 0, 1)
    assert verdict(taken((1, 2)), stored(0, 1, 2)) == (0, 0, 1)
    assert verdict(taken((1, 2)), stored(1, 2, 3), given=3) == (0, 0, 0), "given out meanwhile"


@pytest.mark.parametrize("standing", ["pending", "quarantined"])
def test_what_is_still_in_the_spool_is_not_lost(standing: str) -> None:
    second = frozenset({(EPOCH, 2)})
    held = Standing(second, frozenset()) if standing == "pending" else Standing(frozenset(), second)
    assert verdict(taken((1, 2), (3,), (4,)), stored(1, 2, 4), held=held) == (0, 0, 0)


def test_what_is_set_aside_is_not_lost() -> None:
    assert verdict(taken((1, 2, 3)), stored(1, 3, aside=keys(2))) == (0, 0, 0)


def test_a_replaced_disk_excuses_what_was_on_it_and_nothing_else() -> None:
    evidence = taken((1, 2), (3,), (4, 5))
    assert evidence.withdraw([(EPOCH, 2)]) == 1
    assert verdict(evidence, stored(1, 2, 4, 5)) == (0, 0, 0)
    assert verdict(evidence, stored(1, 2, 5)) == (1, 0, 1)


class TestStops:
    def test_excuse_numbers_that_nobody_took(self) -> None:
        assert verdict(taken((1, 2), (4,)), stored(1, 2, 4), stops=(Stop(0, 3, 3),)) == (0, 0, 0)

    @pytest.mark.parametrize("window", [(4, 9), (1, 2), (9, 20)])
    def test_excuse_no_number_outside_their_window(self, window: tuple[int, int]) -> None:
        assert verdict(taken((1, 2), (4,)), stored(1, 2, 4), stops=(Stop(0, *window),)) == (0, 0, 1)

    def test_excuse_only_as_much_of_a_hole_as_they_reach(self) -> None:
        assert verdict(taken((1, 9)), stored(1, 9), stops=(Stop(0, 2, 5),)) == (0, 0, 3)

    def test_excuse_nothing_that_was_taken(self) -> None:
        assert verdict(taken((1, 2), (3,), (4,)), stored(1, 2, 4), stops=(Stop(0, 1, 9),)) == (1, 0, 1)

    def test_of_a_process_need_a_record_of_that_time_from_the_product(self) -> None:
        stop = Stop(0, 3, 3, 20 * SECOND_US, 22 * SECOND_US)
        evidence = taken((1, 2), (4,))
        record = GapRecord(0, "downtime", 19 * SECOND_US, 21 * SECOND_US)
        assert verdict(evidence, stored(1, 2, 4, gaps=(record,)), stops=(stop,)) == (0, 0, 0)
        assert verdict(evidence, stored(1, 2, 4), stops=(stop,)) == (0, 0, 2), "the number, and the record"
        elsewhere = replace(record, from_us=30 * SECOND_US, to_us=31 * SECOND_US)
        assert verdict(evidence, stored(1, 2, 4, gaps=(elsewhere,)), stops=(stop,)) == (0, 0, 2)
        somebody = replace(record, agent=1)
        assert verdict(evidence, stored(1, 2, 4, gaps=(somebody,)), stops=(stop,)) == (0, 0, 2)

    def test_are_not_made_up_by_the_product(self) -> None:
        record = GapRecord(0, "downtime", 0, 1_000 * SECOND_US)
        assert verdict(taken((1, 2), (4,)), stored(1, 2, 4, gaps=(record,))) == (0, 0, 1)


class TestCorruption:
    def test_excuses_batches_that_were_harmed_and_are_named(self) -> None:
        evidence = taken((1, 2), (3,), (4,))
        evidence.harmed.add((EPOCH, 2))
        assert verdict(evidence, stored(1, 2, 4, gaps=(gap("corrupt", 2, 2),))) == (0, 0, 0)

    def test_excuses_nothing_that_is_not_named(self) -> None:
        evidence = taken((1, 2), (3,), (4,))
        evidence.harmed.add((EPOCH, 2))
        assert verdict(evidence, stored(1, 2, 4)) == (1, 0, 1)
        assert verdict(evidence, stored(1, 2, 4, gaps=(gap("corrupt", 3, 7),))) == (1, 0, 1)

    def test_excuses_nothing_that_was_sound(self) -> None:
        evidence = taken((1, 2), (3,), (4,))
        evidence.harmed.add((EPOCH, 1))
        assert verdict(evidence, stored(1, 2, 4, gaps=(gap("corrupt", 1, 3),))) == (1, 0, 1)


class TestQuota:
    @pytest.mark.parametrize("cause", ["quota_oldest", "quota_thin"])
    def test_excuses_what_its_records_name_and_count(self, cause: str) -> None:
        records = stored(1, 2, 4, gaps=(gap(cause, 2, 2, 1),))
        assert verdict(taken((1, 2), (3,), (4,)), records) == (0, 0, 0)

    def test_excuses_what_was_thinned_once_more(self) -> None:
        thinned = (gap("quota_thin", 1, 1, 4), gap("quota_thin", 2, 2, 2))
        evidence = taken((1, 2, 3, 4, 5, 6, 7, 8), (1, 3, 5, 7), (1, 5))
        assert verdict(evidence, stored(1, 5, gaps=thinned)) == (0, 0, 0)

    def test_counts_once_what_two_records_say_if_one_was_joined_with_the_other(self) -> None:
        joined = gap("quota_oldest", 2, 2, 2)
        both = replace(gap("quota_oldest", 2, 3, 3), batches=((EPOCH, 2, 3), (EPOCH, 9, 9)))
        evidence, kept = taken((1,), (2, 3), (4,), (5,)), (1, 5)
        assert verdict(evidence, stored(*kept, gaps=(both,))) == (0, 0, 0)
        assert verdict(evidence, stored(*kept, gaps=(replace(joined, identity=(EPOCH, 9)), both))) == (0, 0, 0)
        assert verdict(evidence, stored(*kept, gaps=(replace(joined, identity=(EPOCH, 8)), both))) == (0, 0, 2)

    def test_excuses_no_batch_that_is_not_named(self) -> None:
        records = stored(1, 4, gaps=(gap("quota_oldest", 2, 2, 1),))
        assert verdict(taken((1, 2), (3,), (4,)), records) == (1, 0, 1)

    @pytest.mark.parametrize("says", [0, 1, 3, 50])
    def test_is_unexplained_by_as_much_as_it_miscounts(self, says: int) -> None:
        records = stored(1, 4, gaps=(gap("quota_oldest", 2, 2, says),))
        assert verdict(taken((1,), (2, 3), (4,)), records) == (0, 0, abs(says - 2))

    def test_is_unexplained_where_its_sum_is_not_that_of_its_series(self) -> None:
        records = stored(1, 4, gaps=(replace(gap("quota_oldest", 2, 2, 2), readings=7),))
        assert verdict(taken((1,), (2, 3), (4,)), records) == (0, 0, 5)

    def test_is_unexplained_where_it_counts_what_is_there(self) -> None:
        records = stored(1, 2, 3, 4, gaps=(gap("quota_thin", 2, 2, 1),))
        assert verdict(taken((1,), (2, 3), (4,)), records) == (0, 0, 1)

    def test_may_count_what_the_hub_had_when_it_was_dropped(self) -> None:
        records = replace(stored(1, 2, 3, 4, gaps=(gap("quota_oldest", 2, 2, 2),)), delivered=frozenset({(EPOCH, 2)}))
        assert verdict(taken((1,), (2, 3), (4,)), records) == (0, 0, 0)

    @pytest.mark.parametrize("times", [{"from_us": 3 * SECOND_US}, {"to_us": 2 * SECOND_US}])
    def test_excuses_nothing_outside_its_time(self, times: dict[str, int]) -> None:
        records = stored(1, 4, gaps=(gap("quota_oldest", 2, 2, 2, **times),))
        assert verdict(taken((1,), (2, 3), (4,)), records) == (2, 0, 2)


class TestBlocking:
    HELD = Held(0, 10 * SECOND_US, 20 * SECOND_US, 500, 600)

    @pytest.mark.parametrize(("said", "wrong"), [(500, 0), (600, 0), (493, 0), (607, 0), (400, 100), (700, 100)])
    def test_is_to_be_recorded_about_as_long_as_it_was(self, said: int, wrong: int) -> None:
        record = GapRecord(0, "blocked", 12 * SECOND_US, 18 * SECOND_US, said)
        found = verdict(taken((1, 2)), stored(1, 2, gaps=(record,)), blocked=(self.HELD,))
        assert found == (0, 0, wrong)

    def test_that_is_recorded_at_another_time_is_unexplained(self) -> None:
        record = GapRecord(0, "blocked", 22 * SECOND_US, 28 * SECOND_US, 500)
        assert verdict(taken((1, 2)), stored(1, 2, gaps=(record,)), blocked=(self.HELD,)) == (0, 0, 500)

    def test_excuses_no_number(self) -> None:
        record = GapRecord(0, "blocked", 0, 100 * SECOND_US, 1)
        assert verdict(taken((1, 3)), stored(1, 3, gaps=(record,))) == (0, 0, 1)


def test_a_seed_decides_on_the_faults_and_every_fault_has_its_turn() -> None:
    assert deck(7, 50) == deck(7, 50) != deck(8, 50)
    assert set(deck(3, len(FAULTS))) == set(FAULTS)
    assert all(set(family) & set(deck(3, len(FAMILIES))) for family in FAMILIES)
