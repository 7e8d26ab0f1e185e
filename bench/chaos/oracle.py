"""Compares, number by number, what agents were seen to take with what the database holds.

lost
    taken, and in the end neither stored, nor set aside, nor named by a gap record, nor still in the spool.
duplicated
    stored more than once for a point.
unexplained
    numbers missing between two stored ones of a point, with no gap record and no known stop of the agent or its
    instrument in the time between the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.chaos.evidence import AGENT_SHIFT, POINT_SHIFT, Evidence, Keys, Standing
from bench.chaos.records import Records

_NUMBER = np.int64((1 << POINT_SHIFT) - 1)
_EXAMPLES_MAX = 8
_AGENT = np.int64((1 << 8) - 1)


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which an agent could not poll, as the one who saw to it knows."""

    agent: int
    from_us: int
    to_us: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """The figures, and examples of what is wrong."""

    taken: int
    stored: int
    set_aside: int
    waiting: int
    lost: int
    duplicated: int
    unexplained: int
    examples: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.duplicated or self.unexplained)


def judge(
    evidence: Sequence[Evidence],
    standing: Sequence[Sequence[Standing]],
    records: Records,
    outages: Sequence[Outage],
    *,
    since_us: int = 0,
) -> Judgement:
    """The verdict over all that was taken from a time on.

    Args:
        standing: what the spools of each agent (its own, and clones of it) held just before `records` was read.
    """
    named = records.named()
    examples: list[str] = []
    taken_parts, waiting_parts = [], []
    for one, spools in zip(evidence, standing, strict=True):
        taken_parts.append(one.keys(since_us=since_us, without=named))
        held = {identity for spool in spools for identity in spool.pending | spool.quarantined}
        waiting_parts.append(one.of(held))
    taken = np.unique(np.concatenate(taken_parts))
    waiting = np.unique(np.concatenate(waiting_parts))
    lost = np.setdiff1d(np.setdiff1d(taken, records.stored), np.union1d(records.set_aside, waiting))
    examples += [f"lost {_say(key)}" for key in lost[:2]]
    double = records.stored[1:][records.stored[1:] == records.stored[:-1]]
    examples += [f"duplicated {_say(key)}" for key in double[:2]]
    unexplained = _unexplained(records, outages, np.union1d(records.set_aside, waiting), examples)
    return Judgement(
        taken=len(taken),
        stored=len(np.unique(records.stored)),
        set_aside=len(records.set_aside),
        waiting=len(waiting),
        lost=len(lost),
        duplicated=len(double),
        unexplained=unexplained,
        examples=examples,
    )


def _unexplained(records: Records, outages: Sequence[Outage], elsewhere: Keys, examples: list[str]) -> int:
    keys, time_us = records.stored, records.time_us
    steps = np.diff(keys)
    holes = np.flatnonzero((steps > 1) & ((keys[1:] >> POINT_SHIFT) == (keys[:-1] >> POINT_SHIFT)))
    known = [(gap.agent, gap.from_us, gap.to_us) for gap in records.gaps]
    known += [(outage.agent, outage.from_us, outage.to_us) for outage in outages]
    total = 0
    for hole in holes.tolist():
        agent = int(keys[hole] >> AGENT_SHIFT)
        low, high = sorted((int(time_us[hole]), int(time_us[hole + 1])))
        if any(who == agent and begin <= high and low <= end for who, begin, end in known):
            continue
        first, last = np.searchsorted(elsewhere, (keys[hole], keys[hole + 1]))
        missing = int(steps[hole]) - 1 - int(last - first)
        if missing > 0:
            total += missing
            if len(examples) < _EXAMPLES_MAX:
                examples.append(f"unexplained: {missing} after {_say(keys[hole])}, {low} … {high} µs")
    return total


def _say(key: np.int64) -> str:
    number, point = int(key & _NUMBER), int((key >> POINT_SHIFT) & 0xFFFF)
    return f"agent {int(key >> AGENT_SHIFT) & int(_AGENT)} p{point:02d} number {number}"
