"""Verdicts: what becomes of each reading of a group, and with which physical value. Pure; no database, no clock.

A batch either goes in whole (each of its readings stored, or set aside with a reason), or is asked for again:

==============  ====================================================================================
`DICTIONARY`    it uses a reference that its epoch's dictionary lacks here
`LATER`         a series that it uses is not registered yet, or its clock may still be measured
`PHYSICAL`      the physical column that it left out cannot be derived bit for bit
==============  ====================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import Enum
from uuid import UUID

import numpy as np

from hub.ingest.correction import Placing
from hub.ingest.dictionary import UNKNOWN, Dictionary, Verdict
from hub.ingest.values import derive, joined, settle
from shared.columns import DecodedColumns
from shared.conversion import ProfileTable
from shared.readings import Float64, Int64, UInt8


class Ask(Enum):
    """Why a batch cannot be taken now, and what is wanted."""

    DICTIONARY = "dictionary"
    LATER = "later"
    PHYSICAL = "physical"


class Naming(Enum):
    """Whether a post says which session its readings belong to, and whether that one still takes any."""

    NONE = "none"
    OPEN = "open"
    ARCHIVED = "archived"


@dataclass(frozen=True, slots=True)
class Part:
    """One batch's readings and what its references stand for.

    Attributes:
        placing: whether its times can be believed.
        naming: whether times or a name decide which session its readings belong to.
        session_id: that name.
    """

    content: DecodedColumns
    dictionary: Dictionary
    placing: Placing = Placing.PLACED
    naming: Naming = Naming.NONE
    session_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """Times within which readings are stored.

    Attributes:
        past_us, future_us: earliest and latest.
        dropped_us: int64 (n, 2), ranges (to exclusive) whose raw readings retention has dropped.
    """

    past_us: int
    future_us: int
    dropped_us: Int64


@dataclass(frozen=True, slots=True)
class Judged:
    """A group's readings, those of the batches that go in, in the order in which they came.

    Attributes:
        asks: by place of the part, why it does not go in.
        part: int64 (n,), which part each reading is of.
        slot: int64 (n,), its slot in that part's dictionary.
        series_id: int64 (n,), 0 where it is set aside.
        verdict: int64 (n,), `Verdict`.
        time_us: int64 (n,)
        raw, physical: float64 (n,), NaN where there is none; finite otherwise.
        status: uint8 (n,), status bytes.
        profile: int64 (n,), place in the hub's `ProfileTable`, 0 for none.
        replaced: int64 (n,), the one that its sender had converted it with, where another is in force; else 0.
    """

    asks: dict[int, Ask]
    part: Int64
    slot: Int64
    series_id: Int64
    verdict: Int64
    time_us: Int64
    raw: Float64
    physical: Float64
    status: UInt8
    profile: Int64
    replaced: Int64

    def __len__(self) -> int:
        return len(self.part)

    def chosen(self, keep: Int64) -> Judged:
        """Those readings that `keep`, int64 (n,), names."""
        columns = (getattr(self, field.name)[keep] for field in fields(self)[1:])
        return Judged(self.asks, *columns)


@dataclass(frozen=True, slots=True)
class _Resolved:
    """A part's columns with its references resolved; `sent` and `expected` are places in the `ProfileTable`."""

    part: int
    content: DecodedColumns
    slot: Int64
    series_id: Int64
    verdict: Int64
    sent: Int64
    expected: Int64


def judge(parts: Sequence[Part], table: ProfileTable, bounds: Bounds) -> Judged:
    """Decide over the readings of a group. Raises: nothing for any input that decoding has let through."""
    asks: dict[int, Ask] = {}
    resolved: list[_Resolved] = []
    for place, part in enumerate(parts):
        found = _resolve(place, part, bounds)
        if isinstance(found, Ask):
            asks[place] = found
        else:
            resolved.append(found)
    derived = _with_physical(resolved, table)
    for one, physical in zip(resolved, derived, strict=True):
        if physical is None:
            asks[one.part] = Ask.PHYSICAL
    pairs = [(one, physical) for one, physical in zip(resolved, derived, strict=True) if physical is not None]
    return _settle(pairs, asks, table, bounds)


def _resolve(place: int, part: Part, bounds: Bounds) -> _Resolved | Ask:
    columns, dictionary = part.content.columns, part.dictionary
    slot = dictionary.series.find(columns.series)
    if len(slot) and int(slot.min()) == UNKNOWN:
        return Ask.DICTIONARY
    verdict = dictionary.verdict[slot]
    if len(verdict) and int(verdict.max()) == Verdict.UNRESOLVED:
        return Ask.LATER
    if part.placing is Placing.LATER:
        return Ask.LATER
    if part.placing is Placing.UNPLACED:
        verdict = np.where(verdict == Verdict.STORE, int(Verdict.CLOCK_UNSYNCHRONISED), verdict)
    verdict = _within_policies(part, slot, _outside_archived(part, slot, verdict), bounds)
    sent = dictionary.profiles.find(columns.profile)
    expected = dictionary.in_force(slot, columns.timestamp_us, part.session_id)
    if verdict.any():  # what is set aside keeps what it was sent with
        expected = np.where(verdict == Verdict.STORE, expected, np.maximum(sent, 0))
    return _Resolved(place, part.content, slot, dictionary.series_id[slot], verdict, sent, expected)


def _outside_archived(part: Part, slot: Int64, verdict: Int64) -> Int64:
    """Verdicts, with what is for an archived session refused."""
    if part.naming is Naming.OPEN:
        return verdict
    if part.naming is Naming.ARCHIVED:
        return np.where(verdict == Verdict.STORE, int(Verdict.ARCHIVED_SESSION), verdict)
    archived = part.dictionary.in_archived(slot, part.content.columns.timestamp_us)
    if archived is None:
        return verdict
    return np.where(archived & (verdict == Verdict.STORE), int(Verdict.ARCHIVED_SESSION), verdict)


def _within_policies(part: Part, slot: Int64, verdict: Int64, bounds: Bounds) -> Int64:
    """Verdicts, with what the hub would take but the project does not."""
    sooner_us, later_us = part.dictionary.sooner_us, part.dictionary.later_us
    if sooner_us is None or later_us is None:
        return verdict
    time_us, stored = part.content.columns.timestamp_us, verdict == Verdict.STORE
    verdict = np.where(stored & (time_us < bounds.past_us + later_us[slot]), int(Verdict.TOO_OLD), verdict)
    return np.where(stored & (time_us > bounds.future_us - sooner_us[slot]), int(Verdict.FUTURE), verdict)


def _with_physical(resolved: Sequence[_Resolved], table: ProfileTable) -> list[Float64 | None]:
    """The physical columns as their senders had them; None where one was left out and does not come out the same."""
    left_out = [(one.content, one.sent) for one in resolved if one.content.physical_digest is not None]
    derived = iter(derive(left_out, table))
    return [one.content.columns.physical if one.content.physical_digest is None else next(derived) for one in resolved]


def _settle(
    pairs: Sequence[tuple[_Resolved, Float64]], asks: dict[int, Ask], table: ProfileTable, bounds: Bounds
) -> Judged:
    time_us = joined([one.content.columns.timestamp_us for one, _ in pairs], np.int64)
    verdict = joined([one.verdict for one, _ in pairs], np.int64)
    values = settle(
        joined([one.content.columns.raw for one, _ in pairs], np.float64),
        joined([physical for _, physical in pairs], np.float64),
        joined([one.content.columns.status for one, _ in pairs], np.uint8),
        joined([one.sent for one, _ in pairs], np.int64),
        joined([one.expected for one, _ in pairs], np.int64),
        table,
    )
    return Judged(
        asks,
        np.repeat([one.part for one, _ in pairs], [len(one.slot) for one, _ in pairs]).astype(np.int64),
        joined([one.slot for one, _ in pairs], np.int64),
        joined([one.series_id for one, _ in pairs], np.int64),
        _timely(verdict, time_us, bounds),
        time_us,
        values.raw,
        values.physical,
        values.status,
        values.profile,
        values.replaced,
    )


def _timely(verdict: Int64, time_us: Int64, bounds: Bounds) -> Int64:
    """Verdicts, with those added that only the time gives."""
    if not len(time_us):
        return verdict
    late_us, early_us = int(time_us.max()), int(time_us.min())
    if late_us <= bounds.future_us and early_us >= bounds.past_us and not len(bounds.dropped_us):
        return verdict
    by_time = np.full(len(time_us), int(Verdict.STORE), np.int64)
    for dropped_from_us, dropped_to_us in bounds.dropped_us.tolist():
        by_time[(time_us >= dropped_from_us) & (time_us < dropped_to_us)] = Verdict.DROPPED_RANGE
    by_time[time_us < bounds.past_us] = Verdict.TOO_OLD
    by_time[time_us > bounds.future_us] = Verdict.FUTURE
    return np.where(verdict == Verdict.STORE, by_time, verdict)
