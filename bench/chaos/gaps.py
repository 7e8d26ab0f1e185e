"""What gap records of the product excuse, and whether what they say adds up.

By cause:

``corrupt``                     the readings of the batches that it names, where the bench harmed these on the disk
``quota_oldest, quota_thin``    the readings of the batches that it names; how many it says have gone must be how many
                                are missing, point by point
``downtime``                    nothing by itself; but a stop of an agent's process excuses nothing without one
``blocked``                     nothing: instruments count polls, and a poll that is not made takes no number; what it
                                says must be what the instrument was not asked

The times of a record must cover those of the batches that it names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.chaos.evidence import POINT_SHIFT, Evidence, Identity, Keys, Taken

QUOTA = ("quota_oldest", "quota_thin")
HELD_POLLS_OFF = 10
"""A schedule's polls are known from outside only as time divided by interval; so exact is a count of those not made."""


@dataclass(frozen=True, slots=True)
class GapRecord:
    """A gap that the product itself has recorded.

    Attributes:
        readings: how many, -1 where it does not say.
        counts: by point.
        batches: epoch, first and last seq.
        identity: its own.
    """

    agent: int
    cause: str
    from_us: int
    to_us: int
    readings: int = -1
    counts: Counter[int] = field(default_factory=Counter)
    batches: tuple[tuple[bytes, int, int], ...] = ()
    identity: Identity = (b"", 0)

    def names(self, identity: Identity) -> bool:
        """Whether it says that this batch will not come."""
        epoch, seq = identity
        return any(epoch == one and first <= seq <= last for one, first, last in self.batches)

    def covers(self, batch: Taken) -> bool:
        """Whether its time is the batch's."""
        return self.from_us <= batch.from_us and batch.to_us <= self.to_us


@dataclass(frozen=True, slots=True)
class Held:
    """A time in which an agent was not to take more for a while.

    Attributes:
        least: polls not made while its instrument was seen to stand still.
        most: polls not made in all of the time, for whatever reason.
    """

    agent: int
    from_us: int
    to_us: int
    least: int
    most: int


def named(gap: GapRecord, evidence: Evidence) -> Iterator[tuple[Identity, Taken]]:
    """The batches of readings that a record names, as far as they were seen."""
    for epoch, first, last in gap.batches:
        if last - first < len(evidence.taken):
            found: Iterable[Identity] = ((epoch, seq) for seq in range(first, last + 1))
        else:
            found = [identity for identity in evidence.taken if identity[0] == epoch and first <= identity[1] <= last]
        for identity in found:
            if identity in evidence.taken:
                yield identity, evidence.taken[identity]


def excused(gaps: Sequence[GapRecord], evidence: Evidence) -> Keys:
    """Keys that will not come, by the records of one agent."""
    parts = [np.empty(0, np.int64)]
    for gap in gaps:
        if gap.cause == "corrupt":
            parts += [batch.keys for identity, batch in named(gap, evidence) if identity in evidence.harmed]
        elif gap.cause in QUOTA:
            parts += [batch.keys for _, batch in named(gap, evidence) if gap.covers(batch)]
    return np.concatenate(parts)


def miscounted(
    gaps: Sequence[GapRecord], evidence: Evidence, missing: Keys, delivered: frozenset[Identity], first: int
) -> Iterator[tuple[int, str]]:
    """By how many readings the quota's records are wrong, and how.

    A batch may be dropped although the hub has it: its acknowledgement was on the way. So a record may say more than is
    missing, but no more than such batches held. A record that another one names was joined with that one: a damaged
    file may give it back.

    Args:
        missing: what is stored nowhere.
        delivered: batches that records name and the hub has all the same.
        first: number with which the comparison begins; records about what lies before are left alone, all of them if
            one lies on either side.
    """
    own = [gap for gap in gaps if gap.cause in QUOTA]
    own = [gap for gap in own if not any(other.names(gap.identity) for other in own)]
    records = [(gap, dict(named(gap, evidence))) for gap in own]
    records = [(gap, batches) for gap, batches in records if any(batch.last >= first for batch in batches.values())]
    batches = {identity: batch for _, some in records for identity, batch in some.items()}
    if not batches or min(batch.first for batch in batches.values()) < first:
        return
    for gap, _ in records:
        if gap.readings != gap.counts.total():
            yield (
                abs(gap.readings - gap.counts.total()),
                f"{gap.cause} says {gap.readings}, by series {gap.counts.total()}",
            )
    said: Counter[int] = sum((gap.counts for gap, _ in records), Counter())
    dropped = np.unique(np.concatenate([batch.keys for batch in batches.values()]))
    gone = _by_point(np.intersect1d(dropped, missing))
    late = _by_point(np.concatenate([_NONE, *(b.keys for identity, b in batches.items() if identity in delivered)]))
    for point in sorted(said.keys() | gone.keys()):
        least, most = gone[point], gone[point] + late[point]
        if not least <= said[point] <= most:
            off = max(least - said[point], said[point] - most)
            yield (
                off,
                f"records of the quota say {said[point]} readings of p{point:02d} have gone, {least} … {most} have",
            )


_NONE: Keys = np.empty(0, np.int64)


def _by_point(keys: Keys) -> Counter[int]:
    points, counts = np.unique((keys >> POINT_SHIFT) & 0xFFFF, return_counts=True)
    return Counter(dict(zip(points.tolist(), counts.tolist(), strict=True)))


def misheld(gaps: Sequence[GapRecord], held: Held, points: int) -> tuple[int, str] | None:
    """By how many readings the records of a time without polls are wrong; None where they are right."""
    about = [one for one in gaps if one.cause == "blocked" and one.from_us <= held.to_us and held.from_us <= one.to_us]
    said = sum(gap.readings for gap in about)
    least, most = held.least * points, held.most * points
    off = max(least - said, said - most)
    if off <= points * HELD_POLLS_OFF:
        return None
    return off, f"blocked says {said} readings were not taken, {least} … {most} were not"
