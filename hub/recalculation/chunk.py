"""One step of a task: some readings of one series, in one transaction with all that is noted of them.

Invariants
    * Values, the minutes that they dirty, the profiles that they had before and the place where the next step begins
      are committed together. Whoever dies in between leaves the step undone, and it is done again.
    * A step shares the catalogue lock, as ingest does: what retention is about to drop is left alone, and nothing is
      published or ruled while it lasts.
    * Whoever works on a slice holds its row, so that two hubs do one step after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import numpy as np

from hub.database.pool import Pool, transaction
from hub.recalculation import previous, store
from hub.recalculation.reach import Reach
from hub.recalculation.rules import differs, previous_of
from hub.recalculation.staging import overwrite
from hub.recalculation.store import Slice
from hub.telemetry.as_of import AsOf
from hub.telemetry.scan import Where, scan_by_time

READINGS_MAX = 16_384
"""A few hundred milliseconds at worst; a publication, and ingest behind it, may have to wait so long."""
_ENTER = "select enter_ingest('{}'::integer[])"
_NOT_DROPPED = "not exists (select from dropped_ranges d where r.time >= d.time_from and r.time < d.time_to)"


@dataclass(frozen=True, slots=True)
class Step:
    """What the steps of a task have in common.

    Attributes:
        before_id: readings with this id or a higher one came after the decision, and were converted by it as they came.
        reach: which of the others it is about; None for all.
    """

    task_id: UUID
    profile: AsOf
    before_id: int
    reach: Reach | None = None

    async def run(self, pool: Pool, number: int, now: datetime) -> bool:
        """Do the next readings of a slice. Returns: whether there may be more. Raises: StorageUnavailable."""
        async with transaction(pool) as connection:
            await connection.execute(_ENTER)
            left = await store.lock_slice(connection, self.task_id, number)
            if left is None:
                return False
            rows = await scan_by_time(connection, self._where(left), limit=READINGS_MAX)
            changed = 0
            if len(rows):
                found = self.profile.convert(rows.raw, rows.physical, rows.status)
                ref = self.profile.ref
                stale = (rows.profile != ref) | differs(rows.physical, found.physical, rows.status, found.status)
                which = np.flatnonzero(found.decided & stale)
                part = self.reach.part(rows.time_us, rows.id) if self.reach else np.zeros(len(rows), np.int64)
                runs = previous_of(rows.time_us, rows.id, rows.profile, found.decided, part, ref=ref)
                if runs:
                    await previous.keep(connection, left.series_id, runs, self.task_id, now)
                if len(which):
                    times, values = rows.time_us[which], found.physical[which]
                    changed = await overwrite(connection, left.series_id, ref, times, values, found.status[which])
                    await store.mark_dirty(connection, left.series_id, int(times[0]), int(times[-1]))
            more = len(rows) == READINGS_MAX
            at_us = int(rows.time_us[-1]) + 1 if more else left.stretch.to_us
            await store.move(connection, self.task_id, number, at_us, len(rows), changed)
            return more

    def _where(self, left: Slice) -> Where:
        belongs = f"{self.reach.condition()} and {_NOT_DROPPED}" if self.reach else _NOT_DROPPED
        return Where(
            series=(left.series_id,),
            id_to=self.before_id,
            time_from_us=left.stretch.from_us,
            time_to_us=left.stretch.to_us,
            belongs=belongs,
        )
