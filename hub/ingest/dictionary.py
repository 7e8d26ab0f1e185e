"""References of a batch, resolved: which series each stands for, and what may be done with its readings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from hub.ingest.timeline import RAW_FOR_EVER, SINCE_EVER_US, NamedTimelines, Timeline
from shared.readings import Int64, UInt32

UNKNOWN = -1
_SPARSE_FROM = 4
"""References are kept as a plain array while the greatest is below this many times their number (and some)."""
_SPARSE_SLACK = 1024


class Verdict(IntEnum):
    """What becomes of a reading."""

    STORE = 0
    SENSOR_DELETED = 1
    SENSOR_REFUSED = 2
    SENSOR_DECOMMISSIONED = 3
    FUTURE = 4
    TOO_OLD = 5
    DROPPED_RANGE = 6
    CONFLICTING_VALUE = 7
    CLOCK_UNSYNCHRONISED = 8
    ARCHIVED_SESSION = 9
    UNRESOLVED = 10
    """Bound, but the series is not there yet: the batch is to come again."""

    @property
    def label(self) -> str:
        """The word in `set_aside.reason`."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Narrowing:
    """How much less than the hub a project takes (`hub.access.policies`).

    Attributes:
        sooner_us: so much nearer lies the latest time.
        later_us: so much nearer lies the earliest time.
    """

    sooner_us: int = 0
    later_us: int = 0


AS_THE_HUB = Narrowing()


@dataclass(frozen=True, slots=True)
class Slot:
    """What one series reference stands for.

    Attributes:
        series_id: `series.id`, 0 where the verdict is not STORE.
        verdict: STORE, or why nothing of it is stored.
        timeline: the sensor's profiles.
        named: those for posts that name their session; None where it is the same.
        archived_us: times (from, to exclusive) of archived sessions in which the sensor took part.
    """

    ref: int
    sensor_name: str
    signal: str
    verdict: Verdict
    series_id: int = 0
    sensor_id: UUID | None = None
    project_id: UUID | None = None
    timeline: Timeline = RAW_FOR_EVER
    named: NamedTimelines | None = None
    archived_us: tuple[tuple[int, int], ...] = ()
    narrowing: Narrowing = AS_THE_HUB


class References:
    """Numbers from 1, mapped to values; anything else maps to `UNKNOWN`. Immutable."""

    __slots__ = ("_dense", "_keys", "_values")

    def __init__(self, values: Mapping[int, int]) -> None:
        self._keys = np.array(sorted(values), np.int64)
        self._values = np.array([values[int(key)] for key in self._keys], np.int64)
        self._dense: Int64 | None = None
        greatest = int(self._keys[-1]) if len(self._keys) else 0
        if greatest <= _SPARSE_FROM * len(values) + _SPARSE_SLACK:
            self._dense = np.full(greatest + 2, UNKNOWN, np.int64)
            self._dense[self._keys] = self._values

    def find(self, refs: UInt32) -> Int64:
        """The value of each reference."""
        if self._dense is not None:
            return self._dense[np.minimum(refs, len(self._dense) - 1)]
        place = np.minimum(np.searchsorted(self._keys, refs), len(self._keys) - 1)
        return np.where(self._keys[place] == refs, self._values[place], UNKNOWN)


@dataclass(frozen=True, slots=True)
class Dictionary:
    """An epoch's references, ready for use on whole columns. Immutable.

    Attributes:
        slots: what the series references stand for.
        series: reference → place in the arrays below.
        profiles: reference → place in the hub's `ProfileTable`; 0 → 0.
        series_id, verdict, last_profile, last_from_us: int64 (n_slots,), of each slot.
        archived_until_us: int64 (n_slots,), the end of each slot's last archived session.
        sooner_us, later_us: int64 (n_slots,), of each slot's `Narrowing`; None where none has any.
    """

    slots: Sequence[Slot]
    series: References
    profiles: References
    series_id: Int64
    verdict: Int64
    last_profile: Int64
    last_from_us: Int64
    archived_until_us: Int64
    sooner_us: Int64 | None
    later_us: Int64 | None

    @staticmethod
    def of(slots: Sequence[Slot], profiles: Mapping[int, int]) -> Dictionary:
        """Ready for use.

        Args:
            profiles: profile reference → place in the hub's `ProfileTable`, `UNKNOWN` where the hub has no such one.
        """
        narrowed = any(slot.narrowing != AS_THE_HUB for slot in slots)
        return Dictionary(
            slots,
            References({slot.ref: place for place, slot in enumerate(slots)}),
            References({0: 0, **profiles}),
            np.array([slot.series_id for slot in slots], np.int64),
            np.array([slot.verdict for slot in slots], np.int64),
            np.array([slot.timeline.last_profile for slot in slots], np.int64),
            np.array([slot.timeline.last_from_us for slot in slots], np.int64),
            np.array([max((to for _, to in slot.archived_us), default=SINCE_EVER_US) for slot in slots], np.int64),
            np.array([slot.narrowing.sooner_us for slot in slots], np.int64) if narrowed else None,
            np.array([slot.narrowing.later_us for slot in slots], np.int64) if narrowed else None,
        )

    @property
    def is_complete(self) -> bool:
        """Whether every series is there."""
        return not len(self.verdict) or int(self.verdict.max()) != Verdict.UNRESOLVED

    def in_archived(self, place: Int64, time_us: Int64) -> NDArray[np.bool_] | None:
        """bool (n,): which readings lie in an archived session of their sensor; None where none does.

        Args:
            place: int64 (n,), slots.
            time_us: int64 (n,)
        """
        until = self.archived_until_us[place]
        if int(until.max(initial=SINCE_EVER_US)) == SINCE_EVER_US:
            return None
        found = np.zeros(len(place), np.bool_)
        candidates = np.flatnonzero(time_us < until)
        for slot in np.unique(place[candidates]).tolist():
            rows = candidates[place[candidates] == slot]
            for from_us, to_us in self.slots[slot].archived_us:
                found[rows] |= (time_us[rows] >= from_us) & (time_us[rows] < to_us)
        return found

    def in_force(self, place: Int64, time_us: Int64, session_id: UUID | None = None) -> Int64:
        """The profile in force for each reading, as a place in the hub's `ProfileTable`, 0 for none.

        Args:
            place: int64 (n,), slots.
            time_us: int64 (n,)
            session_id: the one that all of them name, if they do.
        """
        if session_id is not None and any(slot.named is not None for slot in self.slots):
            return self._in_force_for(session_id, place, time_us)
        profile = self.last_profile[place]
        since = self.last_from_us[place]
        if int(since.max(initial=SINCE_EVER_US)) == SINCE_EVER_US:
            return profile
        earlier = np.flatnonzero(time_us < since)
        for slot in np.unique(place[earlier]).tolist():
            rows = earlier[place[earlier] == slot]
            profile[rows] = self.slots[slot].timeline.at(time_us[rows])
        return profile

    def _in_force_for(self, session_id: UUID, place: Int64, time_us: Int64) -> Int64:
        profile = np.empty(len(place), np.int64)
        for number in np.unique(place).tolist():
            slot, rows = self.slots[number], np.flatnonzero(place == number)
            timeline = slot.timeline if slot.named is None else slot.named.of(session_id)
            profile[rows] = timeline.at(time_us[rows])
        return profile
