"""One file of the spool, open for writing, with all that works on it. Another one takes its place after damage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from agent.spool.batch import PendingBatch, Standing
from agent.spool.depth import ROW_OVERHEAD_BYTES
from agent.spool.journal import Journal
from agent.spool.marks import Marks
from agent.spool.quota import Quota
from agent.spool.store import Store
from agent.spool.witness import Witness
from shared.messages import SpoolState
from shared.records import ProfileEntry, SeriesEntry
from shared.wire import CHECKSUM_BYTES, HEADER

_FRAME_BYTES = HEADER.size + CHECKSUM_BYTES + ROW_OVERHEAD_BYTES


class SpoolFile:
    """Not thread-safe: the writer's lock guards it.

    Args:
        path: where it is.
        incarnation: of the hub's database, as the file remembers it.
        oldest_us: first timestamp of the oldest pending batch, 0 if there is none.
        error: what was wrong with the file that was here before, for the operator.
    """

    def __init__(
        self,
        path: Path,
        store: Store,
        journal: Journal,
        marks: Marks,
        quota: Quota,
        *,
        incarnation: str,
        oldest_us: int,
        error: str,
    ) -> None:
        self.store = store
        self.journal = journal
        self.marks = marks
        self.quota = quota
        self.incarnation = incarnation
        self.oldest_us = oldest_us
        self.error = error
        self._witness = Witness(path)

    def state(self, quota_bytes: int, dropped_readings: int) -> SpoolState:
        """How full it is. Never blocks; may be called by any thread."""
        depth = self.store.depth
        return SpoolState(
            pending_batches=depth.batches[Standing.PENDING],
            pending_readings=depth.readings[Standing.PENDING],
            oldest_us=self.oldest_us if depth.batches[Standing.PENDING] else 0,
            bytes=depth.total_bytes,
            quota_bytes=quota_bytes,
            quarantined_batches=depth.batches[Standing.QUARANTINED],
            dropped_readings=dropped_readings,
        )

    def close(self) -> None:
        """Close it; the write-ahead log is merged into it."""
        self._witness.close()
        self.store.close()

    def has_work(self) -> bool:
        """Whether a commit may have something to do though nobody has asked for one. Raises: SpoolUnavailable."""
        return self.store.has_requests() or self.store.depth.batches[Standing.ACKED] > 0

    def commit(
        self,
        marks: Sequence[Callable[[SpoolFile], object]],
        batches: Sequence[PendingBatch],
        series: Sequence[SeriesEntry],
        profiles: Sequence[ProfileEntry],
    ) -> int:
        """One transaction for all that there is to do. Returns: readings that the quota gave up for it.

        Raises: SpoolFull, SpoolUnavailable; nothing has changed then.
        """
        place = self.journal.place
        lost = 0
        try:
            with self.store.transaction():
                for mark in marks:
                    mark(self)
                self.marks.serve_requests()
                if batches or series or profiles:
                    lost = self.quota.make_room(sum(len(batch.body.content) + _FRAME_BYTES for batch in batches))
                    self.journal.declare(series, profiles)
                for batch in batches:
                    self.journal.append(batch)
                self.quota.retire()
                self.journal.save()
                oldest_us = self.store.oldest_us()
        except BaseException:
            self.journal.return_to(place)
            raise
        self.oldest_us = oldest_us
        self._witness.tell(self.journal.epoch, self.journal.last_seq)
        self.journal.learn(series, profiles)
        return lost
