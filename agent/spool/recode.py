"""The same readings in another batch: with the physical column, or under the running epoch's identity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import msgspec
import numpy as np

from agent.spool.batch import PendingBatch
from agent.spool.gaps import clock_of
from agent.spool.journal import Journal
from agent.spool.store import Row, Store
from shared import wire
from shared.columns import DecodedColumns, physical_digest
from shared.conversion import Compiled, ProfileTable
from shared.errors import WireError
from shared.readings import Columns, UInt32
from shared.records import ClockRecord, Gap
from shared.wire import Header, Kind

ProfileOf = Callable[[UUID], Compiled | None]
"""Looks a profile up on the agent's disk; None for one that is not there any more."""


@dataclass(frozen=True, slots=True)
class Readings:
    """A data batch taken apart.

    Attributes:
        columns: with the physical column, derived where it had been left out.
        derivable: whether it may be left out again.
    """

    header: Header
    columns: Columns
    derivable: bool


class Recoder:
    """Takes data batches apart and puts them together again, inside the writer's transactions."""

    def __init__(self, store: Store, journal: Journal, profile_of: ProfileOf) -> None:
        self._store = store
        self._journal = journal
        self._profile_of = profile_of

    def readings(self, row: Row) -> Readings | None:
        """A data batch's readings; None for one that cannot be read."""
        try:
            batch = wire.decode(self._store.content(row.id))
        except WireError:
            return None
        if not isinstance(batch.content, DecodedColumns):
            return None
        columns, digest = batch.content.columns, batch.content.physical_digest
        if digest is None:
            return Readings(batch.header, columns, bool(np.isnan(columns.physical).all()))
        derived = self._derive(row.epoch_ref, columns)
        # Without its profile the column stays empty, and the hub converts from raw.
        known = derived is not None and physical_digest(derived.physical) == digest
        return Readings(batch.header, derived if known and derived is not None else columns, True)

    def with_physical(self, row: Row) -> bytes | None:
        """The batch under the same identity with its physical column; None where the profile is not known any more."""
        found = self.readings(row)
        if found is None or (np.isnan(found.columns.physical).all() and found.derivable and len(found.columns)):
            return None
        header = found.header
        return wire.seal(
            wire.data_body(found.columns, derivable=False),
            agent_id=header.agent_id,
            epoch=header.epoch,
            seq=header.seq,
            created_us=header.created_us,
            taken_through_us=header.taken_through_us,
            clock_segment=header.clock_segment,
            generation=header.generation,
        )

    def relabel(self, row: Row) -> bool:
        """Give a batch's content a new identity under the running epoch, at the same place in the queue.

        Returns: False where it cannot be, and nothing has changed.
        """
        if row.kind is Kind.DATA:
            found = self.readings(row)
            if found is None:
                return False
            pending = self.adopted(row, found)
            self._store.delete([row.id])
            self._journal.append(pending, at_id=row.id, thinned=row.thinned)
            return True
        return row.kind is Kind.GAP and self._relabel_gap(row)

    def adopted(self, row: Row, readings: Readings) -> PendingBatch:
        """A batch of the running epoch with these readings, which came from `row`'s epoch."""
        header, columns = readings.header, self._in_own_terms(row.epoch_ref, readings.columns)
        times = columns.timestamp_us
        return PendingBatch(
            wire.data_body(columns, derivable=readings.derivable),
            len(columns),
            int(times.min()) if len(times) else row.from_us,
            int(times.max()) if len(times) else row.to_us,
            0,
            self._segment(row.epoch_ref, header.clock_segment),
            header.generation,
        )

    def _relabel_gap(self, row: Row) -> bool:
        try:
            batch = wire.decode(self._store.content(row.id))
        except WireError:
            return False
        gap = batch.content
        if not isinstance(gap, Gap):
            return False
        own = self._journal.adopt_series(row.epoch_ref, [ref for ref, _ in gap.counts])
        counts = sorted((own[ref], count) for ref, count in gap.counts if ref in own)
        self._store.delete([row.id])
        self._journal.record(msgspec.structs.replace(gap, counts=counts, clock=clock_of(batch)), at_id=row.id)
        return True

    def _in_own_terms(self, epoch_ref: int, columns: Columns) -> Columns:
        """With the running epoch's references, and in their order; series without a name are lost to it."""
        if epoch_ref == self._journal.ref or not len(columns):
            return columns
        series, named = _mapped(columns.series, self._journal.adopt_series(epoch_ref, _refs(columns.series)))
        profile, _ = _mapped(columns.profile, self._journal.adopt_profiles(epoch_ref, _refs(columns.profile)))
        order = np.lexsort((columns.timestamp_us, series))
        order = order[named[order]]
        return Columns(
            series[order],
            columns.timestamp_us[order],
            columns.raw[order],
            columns.physical[order],
            columns.status[order],
            profile[order],
        )

    def _segment(self, epoch_ref: int, segment: int) -> int:
        if epoch_ref == self._journal.ref:
            return segment
        return self._journal.adopt_segment(epoch_ref, segment, self._clock_record(epoch_ref, segment))

    def _clock_record(self, epoch_ref: int, segment: int) -> ClockRecord | None:
        for row in reversed(self._store.records(Kind.CLOCK, epoch_ref=epoch_ref)):
            try:
                record = wire.decode(self._store.content(row.id)).content
            except WireError:
                continue
            if isinstance(record, ClockRecord) and record.segment == segment:
                return record
        return None

    def _derive(self, epoch_ref: int, columns: Columns) -> Columns | None:
        names = self._journal.names.of(epoch_ref).profiles
        compiled: list[Compiled] = []
        places: dict[int, int] = {0: 0}
        for ref in _refs(columns.profile):
            found = self._profile_of(names[ref]) if ref in names else None
            if found is None and ref:
                return None
            if found is not None:
                compiled.append(found)
                places[ref] = len(compiled)
        profile, _ = _mapped(columns.profile, places)
        physical, _ = ProfileTable(compiled).convert(profile, columns.raw, columns.status)
        return Columns(columns.series, columns.timestamp_us, columns.raw, physical, columns.status, columns.profile)


def _refs(column: UInt32) -> list[int]:
    return [int(ref) for ref in np.unique(column)]


def _mapped(column: UInt32, mapping: dict[int, int]) -> tuple[UInt32, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """The column through the mapping, and where that knew the value (0 where not)."""
    found, inverse = np.unique(column, return_inverse=True)
    known = np.array([int(ref) in mapping for ref in found], np.bool_)
    targets = np.array([mapping.get(int(ref), 0) for ref in found], np.uint32)
    return targets[inverse], known[inverse]
