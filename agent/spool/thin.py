"""Halving the rate of the oldest readings: of every two successive readings of a series, the first stays.

Neighbouring batches are thinned together, so that series with one reading a batch are thinned too. Thinned so many
times is a batch's *level*; what is thinned next is the oldest of the level that takes most of the disk. So the levels
share the disk evenly, each reaches twice as far back as the one before, and a long outage leaves no hole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from agent.spool.batch import PendingBatch, Standing
from agent.spool.depth import ROW_OVERHEAD_BYTES
from agent.spool.journal import Journal
from agent.spool.recode import Readings, Recoder
from agent.spool.store import Row, Store
from shared.columns import READINGS_MAX
from shared.readings import Columns

THINNED_AT_ONCE = 16
LOOKED_AT = 64
LEVEL_GOOD_FOR = 16
"""So often the fullest level is thinned before all are weighed again, for which all rows are read."""


@dataclass(frozen=True, slots=True)
class Thinned:
    """What is to replace what.

    Attributes:
        replaced: batches that go.
        lost: readings that go, per series reference of the running epoch.
        segment: their clock segment.
        write: puts the thinned batches in their place, once those have gone.
    """

    replaced: Sequence[Row]
    lost: Counter[int]
    segment: int
    write: Callable[[], None]


class Thinner:
    """Chooses batches and halves them, inside the writer's transactions."""

    def __init__(self, store: Store, journal: Journal, recoder: Recoder) -> None:
        self._store = store
        self._journal = journal
        self._recoder = recoder
        self._level = 0
        self._level_good_for = 0
        self._after_id: dict[int, int] = {}

    def halve_oldest(self, held: Callable[[int], bool]) -> Thinned | None:
        """The next batches, halved; None where that would not make room."""
        rows = self._next(held)
        if not rows:
            return None
        parts = [(row, self._recoder.readings(row)) for row in rows]
        readable = _alike([(row, readings) for row, readings in parts if readings is not None])
        if not readable:
            return None
        thinned, lost = self._halved(readable)
        replaced = [row for row, _ in readable]
        self._after_id[rows[0].thinned] = replaced[-1].id
        before = sum(row.bytes + ROW_OVERHEAD_BYTES for row in replaced)
        if sum(len(part.body.content) + ROW_OVERHEAD_BYTES for part in thinned) > 0.8 * before:
            return None

        def write() -> None:
            for row, part in zip(replaced, thinned, strict=False):
                self._journal.append(part, at_id=row.id, thinned=row.thinned + 1)

        return Thinned(replaced, lost, readable[0][1].header.clock_segment, write)

    def _next(self, held: Callable[[int], bool]) -> list[Row]:
        for _ in range(2):  # as was decided, then as it is now
            if self._level_good_for == 0:
                self._level = self._store.fullest_level()
                self._level_good_for = LEVEL_GOOD_FOR
                self._after_id.pop(self._level, None)
            self._level_good_for -= 1
            free = self._free(held)
            if free:
                return [row for row in free if row.epoch_ref == free[0].epoch_ref][:THINNED_AT_ONCE]
            self._level_good_for = 0
        return []

    def _free(self, held: Callable[[int], bool]) -> list[Row]:
        """The oldest of the level that are not in flight: enough of them, where there are. A whole window may be."""
        free: list[Row] = []
        after_id = self._after_id.get(self._level, 0)
        while len(free) < THINNED_AT_ONCE:
            rows = self._store.oldest(
                Standing.PENDING, LOOKED_AT, after_id=after_id, data_only=True, thinned=self._level
            )
            free += [row for row in rows if row.readings and not held(row.id)]
            if len(rows) < LOOKED_AT:
                break
            after_id = rows[-1].id
        return free

    def _halved(self, parts: Sequence[tuple[Row, Readings]]) -> tuple[list[PendingBatch], Counter[int]]:
        """At most as many batches as there were, and the readings lost of each series."""
        columns = _joined([readings.columns for _, readings in parts])
        run_starts = np.flatnonzero(np.diff(columns.series, prepend=0))
        lengths = np.diff(run_starts, append=len(columns))
        position = np.arange(len(columns)) - np.repeat(run_starts, lengths)
        kept = _rows(columns, np.flatnonzero(position % 2 == 0))
        row, first = parts[0]
        own = self._journal.adopt_series(row.epoch_ref, [int(ref) for ref in columns.series[run_starts]])
        lost = Counter(
            {own.get(int(columns.series[start]), 0): int(n) // 2 for start, n in zip(run_starts, lengths, strict=True)}
        )
        derivable = all(readings.derivable for _, readings in parts)
        slices = (np.arange(at, min(at + READINGS_MAX, len(kept))) for at in range(0, len(kept), READINGS_MAX))
        batches = [self._recoder.adopted(row, Readings(first.header, _rows(kept, some), derivable)) for some in slices]
        return batches, +lost


def _alike(parts: Sequence[tuple[Row, Readings]]) -> list[tuple[Row, Readings]]:
    """Those in the clock segment and configuration of the first."""
    if not parts:
        return []
    first = parts[0][1].header
    wanted = (first.clock_segment, first.generation)
    return [part for part in parts if (part[1].header.clock_segment, part[1].header.generation) == wanted]


def _joined(parts: Sequence[Columns]) -> Columns:
    whole = Columns(
        np.concatenate([part.series for part in parts]),
        np.concatenate([part.timestamp_us for part in parts]),
        np.concatenate([part.raw for part in parts]),
        np.concatenate([part.physical for part in parts]),
        np.concatenate([part.status for part in parts]),
        np.concatenate([part.profile for part in parts]),
    )
    return _rows(whole, np.lexsort((whole.timestamp_us, whole.series)))


def _rows(columns: Columns, index: np.ndarray[tuple[int], np.dtype[np.intp]]) -> Columns:
    return Columns(
        columns.series[index],
        columns.timestamp_us[index],
        columns.raw[index],
        columns.physical[index],
        columns.status[index],
        columns.profile[index],
    )
