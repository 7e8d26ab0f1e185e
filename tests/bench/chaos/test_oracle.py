"""The judge of `bench chaos`: it sees what is lost, stored twice or missing without a word, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from bench.chaos.evidence import Evidence, Keys, Standing, Taken, key_of
from bench.chaos.faults import FAULTS, deck
from bench.chaos.oracle import Judgement, Outage, judge
from bench.chaos.records import GapRecord, Records

EPOCH = bytes(16)
NOTHING = np.empty(0, np.int64)
HELD = Standing(frozenset(), frozenset())


def keys(*numbers: int, point: int = 0) -> Keys:
    return key_of(0, np.full(len(numbers), point, np.int64), np.array(numbers, np.int64))


def taken(*batches: tuple[int, ...]) -> Evidence:
    """An agent that took these numbers, a batch each, seq 1, 2, …"""
    return Evidence(0, {(EPOCH, seq): Taken(keys(*some), 1) for seq, some in enumerate(batches, start=1)})


def stored(*numbers: int, aside: Keys = NOTHING, gaps: tuple[GapRecord, ...] = ()) -> Records:
    """A database with these; number n was taken at n seconds."""
    found = np.sort(keys(*numbers))
    return Records(found, (found & 0xFFFF) * 1_000_000, aside, gaps, 0)


def verdict(
    evidence: Evidence, records: Records, *, held: Standing = HELD, outages: tuple[Outage, ...] = ()
) -> tuple[int, int, int]:
    found: Judgement = judge([evidence], [[held]], records, outages)
    return found.lost, found.duplicated, found.unexplained


def test_all_that_was_taken_and_stored_once_is_clean() -> None:
    assert verdict(taken((1, 2), (3, 4)), stored(1, 2, 3, 4)) == (0, 0, 0)


def test_what_was_taken_and_is_nowhere_is_lost_and_a_hole() -> None:
    assert verdict(taken((1, 2), (3, 4)), stored(1, 2, 4)) == (1, 0, 1)


def test_what_stands_twice_is_duplicated() -> None:
    assert verdict(taken((1, 2)), stored(1, 2, 2)) == (0, 1, 0)


@pytest.mark.parametrize("standing", ["pending", "quarantined"])
def test_what_is_still_in_the_spool_is_not_lost(standing: str) -> None:
    batch = frozenset({(EPOCH, 2)})
    held = Standing(batch, frozenset()) if standing == "pending" else Standing(frozenset(), batch)
    assert verdict(taken((1, 2), (3,), (4,)), stored(1, 2, 4), held=held) == (0, 0, 0)


def test_what_is_set_aside_is_not_lost() -> None:
    assert verdict(taken((1, 2, 3)), stored(1, 3, aside=keys(2))) == (0, 0, 0)


def test_a_gap_record_explains_the_batches_it_names_and_the_time_it_covers() -> None:
    named = GapRecord(0, 2_500_000, 3_500_000, ((EPOCH, 2, 2),))
    assert verdict(taken((1, 2), (3,), (4,)), stored(1, 2, 4, gaps=(named,))) == (0, 0, 0)
    elsewhere = GapRecord(0, 8_000_000, 9_000_000, ((EPOCH, 7, 7),))
    assert verdict(taken((1, 2), (3,), (4,)), stored(1, 2, 4, gaps=(elsewhere,))) == (1, 0, 1)


def test_a_stop_that_is_known_explains_numbers_that_nobody_took_but_no_lost_ones() -> None:
    stop = (Outage(0, 2_500_000, 3_500_000),)
    assert verdict(taken((1, 2), (4,)), stored(1, 2, 4), outages=stop) == (0, 0, 0)
    assert verdict(taken((1, 2), (3,), (4,)), stored(1, 2, 4), outages=stop) == (1, 0, 0)
    assert verdict(taken((1, 2), (4,)), stored(1, 2, 4), outages=(Outage(1, 0, 9_000_000),)) == (0, 0, 1)


def test_a_seed_decides_on_the_faults_and_every_fault_has_its_turn() -> None:
    assert deck(7, 50) == deck(7, 50) != deck(8, 50)
    assert set(deck(3, len(FAULTS))) == set(FAULTS)
