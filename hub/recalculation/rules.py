"""What a recalculation is about and what it writes, apart from any database."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from shared.readings import Float64, Int64, UInt8

SLICES_PER_STRETCH_MAX = 12
MINUTE_US = 60_000_000


class Scope(StrEnum):
    """Which readings of the sensor."""

    ALL = "all"
    CAPTURE_SESSIONS = "capture_sessions"


class TaskStatus(StrEnum):
    """Where a task is in its life."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Stretch:
    """A half-open range of time in UTC microseconds."""

    from_us: int
    to_us: int

    def within(self, from_us: int | None, to_us: int | None) -> Stretch | None:
        """What of it lies in another range, None if nothing does."""
        first = self.from_us if from_us is None else max(self.from_us, from_us)
        last = self.to_us if to_us is None else min(self.to_us, to_us)
        return Stretch(first, last) if first < last else None


def joined(stretches: Iterable[Stretch]) -> list[Stretch]:
    """The same times as stretches that neither touch nor overlap, rising."""
    found: list[Stretch] = []
    for one in sorted(stretches, key=lambda one: one.from_us):
        if found and one.from_us <= found[-1].to_us:
            found[-1] = Stretch(found[-1].from_us, max(found[-1].to_us, one.to_us))
        else:
            found.append(one)
    return found


def cut(stretch: Stretch) -> list[Stretch]:
    """The stretch in at most `SLICES_PER_STRETCH_MAX` parts, cut at whole minutes, so that no two dirty one minute."""
    step_us = -(-(stretch.to_us - stretch.from_us) // SLICES_PER_STRETCH_MAX)
    step_us = max(1, -(-step_us // MINUTE_US)) * MINUTE_US
    first_us = stretch.from_us // MINUTE_US * MINUTE_US + step_us
    edges = [stretch.from_us, *range(first_us, stretch.to_us, step_us), stretch.to_us]
    return [Stretch(*pair) for pair in pairwise(edges)]


@dataclass(frozen=True, slots=True)
class Previous:
    """Readings that follow one another in time and had one profile before.

    Attributes:
        from_us, to_us: of the first and the last.
        first_id, last_id: their least and greatest id.
        profile: `conversion_profiles.ref`, 0 for none.
    """

    from_us: int
    to_us: int
    first_id: int
    last_id: int
    readings: int
    profile: int


def previous_of(
    time_us: Int64, ids: Int64, profile: NDArray[np.int32], decided: NDArray[np.bool_], part: Int64, *, ref: int
) -> list[Previous]:
    """The profiles that readings had before, as runs in order of time.

    A run ends where a reading had another profile, the new one too, or is of another part.

    Args:
        time_us, ids, profile, decided: (n,), readings of one series in order of time.
        part: int64 (n,), the same where no other reading lies in between (`Reach.part`).
        ref: the profile that they have from now on.
    """
    which = np.flatnonzero(decided)
    if not len(which):
        return []
    had, part = profile[which], part[which]
    starts = np.flatnonzero(np.r_[True, (had[1:] != had[:-1]) | (part[1:] != part[:-1])])
    ends = np.r_[starts[1:], len(which)] - 1
    lows, highs = np.minimum.reduceat(ids[which], starts), np.maximum.reduceat(ids[which], starts)
    return [
        Previous(int(time_us[which[start]]), int(time_us[which[end]]), low, high, end - start + 1, int(had[start]))
        for start, end, low, high in zip(starts.tolist(), ends.tolist(), lows.tolist(), highs.tolist(), strict=True)
        if had[start] != ref
    ]


def differs(before: Float64, after: Float64, status: UInt8, outcome: UInt8) -> NDArray[np.bool_]:
    """bool (n,): which readings change by so much as a bit."""
    same = (before.view(np.int64) == after.view(np.int64)) | (np.isnan(before) & np.isnan(after))
    changed: NDArray[np.bool_] = ~same | (status != outcome)
    return changed


def share(processed: int, total: int | None) -> float:
    """How much of a task is done, from 0 to 1."""
    return min(1.0, processed / total) if total else 0.0
