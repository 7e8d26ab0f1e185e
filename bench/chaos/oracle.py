"""Compares, number by number, what instruments gave out with what the database holds.

Every number of every point, from the first to the last of the comparison, is stored, set aside, still in a spool, or
missing. A missing one is excused by exactly one of

* a disk that the bench replaced, with the batch on it;
* a stop that the bench caused, for numbers that nobody took: those given out in the last moment before an agent was
  killed (its flush interval and a commit), or under way to it. The counter of the instrument bounds them, not time.
  Where a process was stopped, the product's `downtime` record has to be there as well;
* a gap record that names it, by the rules in `bench.chaos.gaps`.

lost
    taken, missing, and excused by no disk and no record.
duplicated
    stored more than once for a point.
unexplained
    missing without excuse, lost ones included; stored and never given out; and by how much gap records are wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.chaos import gaps
from bench.chaos.evidence import AGENT_SHIFT, NUMBER, POINT_SHIFT, Evidence, Keys, Standing, key_of
from bench.chaos.gaps import GapRecord, Held
from bench.chaos.instrument import POINTS
from bench.chaos.records import Records

_EXAMPLES_MAX = 8
_AGENT = np.int64((1 << 8) - 1)
_NONE: Keys = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Stop:
    """What the bench did to an agent or its instrument, and which numbers that may cost.

    Attributes:
        first, last: numbers that were given out and may not have reached the disk.
        from_us, to_us: when the process was gone, by the agent's clock; 0 where it was not.
    """

    agent: int
    first: int
    last: int
    from_us: int = 0
    to_us: int = 0

    def recorded(self, records: Sequence[GapRecord]) -> bool:
        """Whether the product has noted what it is to note of it."""
        return not self.to_us or any(
            gap.cause == "downtime" and gap.from_us <= self.to_us and self.from_us <= gap.to_us for gap in records
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is to say of one agent.

    Attributes:
        standing: what its spools (its own, and those of clones) held just before the database was read.
        first, last: the numbers to be compared.
        given: the last number that the instrument had given out after the database was read.
    """

    evidence: Evidence
    standing: Sequence[Standing]
    first: int
    last: int
    given: int
    stops: Sequence[Stop] = ()
    held: Sequence[Held] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """The figures, and examples of what is wrong.

    Attributes:
        excused: missing readings by what excuses them.
    """

    taken: int
    stored: int
    set_aside: int
    waiting: int
    lost: int
    duplicated: int
    unexplained: int
    excused: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> tuple[int, int, int]:
        """Lost, duplicated, unexplained."""
        return self.lost, self.duplicated, self.unexplained

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not any(self.wrong)


@dataclass(slots=True)
class _Account:
    """Of one agent."""

    taken: Keys
    waiting: Keys
    lost: Keys
    unexplained: Keys
    excused: Counter[str]
    wrong_records: list[tuple[int, str]]


def judge(seen: Sequence[Seen], records: Records, *, points: int = POINTS) -> Judgement:
    """The verdict.

    Args:
        points: of each instrument.
    """
    accounts = [_account(one, records, points) for one in seen]
    double = records.stored[1:][records.stored[1:] == records.stored[:-1]]
    examples = [f"duplicated {_say(key)}" for key in double[:2]]
    for one in accounts:
        examples += [f"lost {_say(key)}" for key in one.lost[:2]]
        examples += [f"unexplained {_say(key)}" for key in np.setdiff1d(one.unexplained, one.lost)[:2]]
        examples += [f"unexplained: {what}" for _, what in one.wrong_records[:2]]
    return Judgement(
        taken=sum(len(one.taken) for one in accounts),
        stored=len(np.unique(records.stored)),
        set_aside=len(records.set_aside),
        waiting=sum(len(one.waiting) for one in accounts),
        lost=sum(len(one.lost) for one in accounts),
        duplicated=len(double),
        unexplained=sum(len(one.unexplained) + sum(off for off, _ in one.wrong_records) for one in accounts),
        excused=dict(sum((one.excused for one in accounts), Counter())),
        examples=examples[:_EXAMPLES_MAX],
    )


def _account(seen: Seen, records: Records, points: int) -> _Account:
    evidence = seen.evidence
    held = {identity for spool in seen.standing for identity in spool.pending | spool.quarantined}
    waiting = np.unique(evidence.of(held))
    there = np.concatenate([records.stored, records.set_aside, waiting])
    given = _all(evidence.agent, seen.first, seen.last, points)
    taken = np.unique(evidence.keys(seen.first))
    missing = np.setdiff1d(np.union1d(given, taken), there)
    own = [gap for gap in records.gaps if gap.agent == evidence.agent]
    disk = np.concatenate([_NONE, *evidence.destroyed])
    record = np.setdiff1d(gaps.excused(own, evidence), disk)
    left = np.setdiff1d(missing, np.union1d(disk, record))
    lost = np.intersect1d(left, taken)
    untaken = open_ = np.setdiff1d(left, taken)
    for stop in seen.stops:
        if stop.recorded(own):
            open_ = open_[((open_ & NUMBER) < stop.first) | ((open_ & NUMBER) > stop.last)]
    excused = Counter(
        disk=len(np.intersect1d(missing, disk)),
        record=len(np.intersect1d(missing, record)),
        stop=len(untaken) - len(open_),
    )
    wrong = list(_wrong(seen, own, missing, records, points))
    return _Account(taken, waiting, lost, np.union1d(lost, open_), excused, wrong)


def _wrong(
    seen: Seen, own: Sequence[GapRecord], missing: Keys, records: Records, points: int
) -> Iterator[tuple[int, str]]:
    yield from gaps.miscounted(own, seen.evidence, missing, records.delivered, seen.first)
    for held in seen.held:
        off = gaps.misheld(own, held, points)
        if off is not None:
            yield off
    for epoch, seq in sorted(seen.evidence.foreign):
        yield 1, f"in the row of {epoch.hex()}/{seq} lies another batch"
    stored = records.stored[(records.stored >> AGENT_SHIFT) == seen.evidence.agent]
    made_up = stored[((stored & NUMBER) > seen.given) | ((stored & NUMBER) < 1)]
    if len(made_up):
        yield len(made_up), f"stored and never given out: {_say(made_up[0])}"
    for stop in seen.stops:
        if not stop.recorded(own):
            yield 1, f"no downtime record for a stop before number {stop.last}"


def _all(agent: int, first: int, last: int, points: int) -> Keys:
    """Every number of every point of an instrument."""
    numbers = np.arange(first, last + 1, dtype=np.int64)
    return key_of(agent, np.repeat(np.arange(points, dtype=np.int64), len(numbers)), np.tile(numbers, points))


def _say(key: np.int64) -> str:
    number, point = int(key & NUMBER), int((key >> POINT_SHIFT) & 0xFFFF)
    return f"agent {int(key >> AGENT_SHIFT) & int(_AGENT)} p{point:02d} number {number}"
