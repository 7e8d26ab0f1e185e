"""What goes when the spool is full: acknowledged batches first, then what the policy says, with a gap record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from agent.logging import event_log
from agent.spool.batch import Standing
from agent.spool.depth import ROW_OVERHEAD_BYTES
from agent.spool.gaps import UNREADABLE, merged, unreadable
from agent.spool.journal import Journal
from agent.spool.settings import SpoolSettings
from agent.spool.store import Row, Store
from agent.spool.thin import Thinner
from shared.clock import Clock
from shared.columns import DecodedColumns
from shared.errors import SpoolFull, WireError
from shared.records import Gap
from shared.wire import decode

DROPPED_AT_ONCE = 64
"""Batches that one gap record accounts for: not a record for every commit, no long stop of acquisition either."""
EVICTED_AT_ONCE = 256
RETIRE_EVERY_S = 1.0
GAP_ALLOWANCE_BYTES = 4096
"""What a gap record may take over the quota, until the next batch makes room for it too."""
JOINED_WITH_LATEST = 4
"""Gap records that are looked at for one to join: those of several causes and clocks take turns."""

_log = event_log("spool")


@dataclass(slots=True)
class _Lot:
    """Batches of one epoch and clock segment that go together, and their readings per series of the running epoch."""

    rows: list[Row] = field(default_factory=list)
    counts: Counter[int] = field(default_factory=Counter)


class Quota:
    """Makes room, inside the writer's transactions.

    Args:
        held: whether a batch is in flight, and therefore stays.
        thinner: recodes batches for the policy `thin`.
    """

    def __init__(
        self,
        settings: SpoolSettings,
        store: Store,
        journal: Journal,
        thinner: Thinner,
        *,
        clock: Clock,
        held: Callable[[int], bool],
    ) -> None:
        self._settings = settings
        self._store = store
        self._journal = journal
        self._thinner = thinner
        self._clock = clock
        self._held = held
        self.limit_bytes = settings.quota_bytes
        """Less than the quota while the disk is full."""
        self._retire_again_s = 0.0

    def make_room(self, needed_bytes: int) -> int:
        """Room for so many bytes of new batches. Returns: readings that this cost.

        Raises: SpoolFull when the policy is `block`, or when everything left is in flight.
        """
        lost = 0
        while (over := self._store.depth.total_bytes + needed_bytes - self.limit_bytes) > 0:
            if self._evict(over):
                continue
            if self._settings.policy == "block":
                raise SpoolFull("the spool has reached its quota", hint="restore the link, or raise spool.quota_bytes")
            dropped = self._thin() if self._settings.policy == "thin" else None
            dropped = self._drop_oldest(over) if dropped is None else dropped
            if dropped is None:
                raise SpoolFull("the spool has reached its quota and all of it is in flight", hint="raise quota_bytes")
            lost += dropped
        return lost

    def retire(self) -> None:
        """Let go of acknowledged batches that are old or take too much of the quota."""
        depth = self._store.depth
        if depth.batches[Standing.ACKED] == 0:
            return
        excess = depth.bytes[Standing.ACKED] - int(self._settings.quota_bytes * self._settings.retain_acked_share)
        if excess > 0:
            self._evict(excess)
        now_s = self._clock.monotonic_s()
        if now_s < self._retire_again_s:
            return
        old_us = self._clock.now_us() - int(self._settings.retain_acked_s * 1e6)
        rows = self._store.expired(old_us, self._journal.ref, EVICTED_AT_ONCE)
        self._store.delete([row.id for row in rows])
        if len(rows) < EVICTED_AT_ONCE:
            self._retire_again_s = now_s + RETIRE_EVERY_S
        if rows:
            self._store.epochs.forget(self._journal.ref)

    def _evict(self, excess_bytes: int) -> bool:
        """Delete acknowledged batches, oldest first. Returns: whether there were any."""
        limit = min(EVICTED_AT_ONCE, 4 + excess_bytes // ROW_OVERHEAD_BYTES)
        rows = self._store.expired(1 << 62, self._journal.ref, limit)
        self._store.delete([row.id for row in _enough(rows, excess_bytes)])
        return bool(rows)

    def _drop_oldest(self, excess_bytes: int) -> int | None:
        rows = self._store.oldest(Standing.QUARANTINED, DROPPED_AT_ONCE, data_only=True)
        if not rows:
            candidates = self._store.oldest(Standing.PENDING, DROPPED_AT_ONCE * 4, data_only=True)
            rows = [row for row in candidates if not self._held(row.id)][:DROPPED_AT_ONCE]
        rows = _enough(rows, excess_bytes + GAP_ALLOWANCE_BYTES)
        if not rows:
            return None
        return self._drop(rows)

    def _thin(self) -> int | None:
        thinned = self._thinner.halve_oldest(self._held)
        if thinned is None:
            return None
        lot = _Lot(list(thinned.replaced), thinned.lost)
        return self._let_go(lot, "quota_thin", thinned.segment, after=thinned.write)

    def _drop(self, rows: Sequence[Row]) -> int:
        """Delete batches. Returns: readings that are lost by it, not counting those that were lost before."""
        lots: dict[tuple[int, int], _Lot] = {}
        lost = 0
        for row in rows:
            found = _counted(self._store.content(row.id))
            if found is None:
                lost += self._drop_unreadable(row)
                continue
            lot = lots.setdefault((row.epoch_ref, found.segment), _Lot())
            lot.rows.append(row)
            for ref, count in found.readings.items():
                lot.counts[self._journal.adopt_series(row.epoch_ref, (ref,)).get(ref, 0)] += count
        for (_, segment), lot in lots.items():
            lost += self._let_go(lot, "quota_oldest", segment)
        return lost

    def _drop_unreadable(self, row: Row) -> int:
        """Delete a batch that does not verify; one that nobody has come across yet is recorded as such."""
        is_recorded = self._store.reason(row.id) == UNREADABLE
        self._store.delete([row.id])
        if not is_recorded:
            self._record(unreadable(row, self._store.epochs.of_ref(row.epoch_ref)))
        _log.warning("unreadable_batch_dropped", batch=row.id, readings=row.readings)
        return 0 if is_recorded else row.readings

    def _let_go(
        self,
        lot: _Lot,
        cause: Literal["quota_oldest", "quota_thin"],
        segment: int,
        after: Callable[[], None] | None = None,
    ) -> int:
        """Replace batches of one epoch and clock segment by the record of their loss."""
        epoch = self._store.epochs.of_ref(lot.rows[0].epoch_ref).hex()
        readings = sum(row.readings for row in lot.rows) if cause == "quota_oldest" else lot.counts.total()
        gap = Gap(
            cause=cause,
            from_us=min(row.from_us for row in lot.rows),
            to_us=max(row.to_us for row in lot.rows),
            readings=readings,
            counts=sorted((ref, count) for ref, count in lot.counts.items() if ref),
            batches=[(epoch, row.seq, row.seq) for row in lot.rows],
            clock=(epoch, segment),
        )
        self._store.delete([row.id for row in lot.rows])
        if after is not None:
            after()
        self._record(gap)
        return readings

    def _record(self, gap: Gap) -> None:
        """Write a gap record, joined with one of the latest where that has not been sent."""
        for before in self._store.last_gaps(JOINED_WITH_LATEST):
            if before.epoch_ref != self._journal.ref or self._held(before.id):
                continue
            joined = merged(self._store.content(before.id), gap, (self._journal.epoch.hex(), before.seq))
            if joined is not None:
                self._store.delete([before.id])
                self._journal.withdraw(before.id)
                gap = joined
                break
        self._journal.record(gap)


def _enough(rows: Sequence[Row], wanted_bytes: int) -> list[Row]:
    """The first rows that make up so many bytes."""
    chosen: list[Row] = []
    for row in rows:
        if wanted_bytes <= 0:
            break
        chosen.append(row)
        wanted_bytes -= row.bytes + ROW_OVERHEAD_BYTES
    return chosen


@dataclass(frozen=True, slots=True)
class _Counted:
    """A data batch's clock segment, and its readings per series reference."""

    segment: int
    readings: dict[int, int]


def _counted(content: bytes) -> _Counted | None:
    """None for a batch that cannot be read."""
    try:
        batch = decode(content)
    except WireError:
        return None
    if not isinstance(batch.content, DecodedColumns):
        return None
    refs, counts = np.unique(batch.content.columns.series, return_counts=True)
    return _Counted(batch.header.clock_segment, dict(zip(refs.tolist(), counts.tolist(), strict=True)))
