"""The spool's one writer: takes batches for the collector, and marks them for the uplink.

`append` runs on the collector's thread and returns when the batches are on the disk. What the uplink has to say
(acknowledgements above all) it only leaves in a queue: the next commit carries it along, so that it costs no fsync of
its own while readings come in, and `flush` commits it when none do. Losing such a mark is harmless: the batch is sent
again and acknowledged again.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from uuid import UUID

from agent.logging import event_log
from agent.spool.batch import PendingBatch, StoredBatch
from agent.spool.connection import DiskFull, SpoolDamaged
from agent.spool.full_disk import FullDisk
from agent.spool.lock import SpoolLock
from agent.spool.mark_queue import MarkQueue
from agent.spool.opener import Opener
from agent.spool.recode import ProfileOf
from agent.spool.settings import SpoolSettings
from shared.clock import Clock
from shared.errors import SpoolUnavailable
from shared.messages import SpoolState
from shared.records import ClockRecord, Gap, ProfileEntry, SeriesEntry

FILE_NAME = "spool.db"
LOCK_NAME = "spool.lock"
_SHRINK_PAGES = 512

_log = event_log("spool")


class SpoolWriter:
    """The spool, open for writing. All methods may be called from any thread.

    Args:
        folder: the agent's data directory; created if need be.
        profile_of: for policies and requests that need physical values again; see `ProfileOf`.
        version, host: of this agent, told to the hub at the start of each epoch.

    Raises: SpoolUnavailable when the file cannot be written or another agent uses it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        agent_id: UUID,
        settings: SpoolSettings,
        clock: Clock,
        profile_of: ProfileOf = lambda _: None,
        version: str = "",
        host: str = "",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = folder / FILE_NAME
        self.settings = settings
        self.started_us = clock.now_us()
        self.marks = MarkQueue(self.path, clock)
        """What the uplink leaves for the next commit."""
        self.drops = 0
        """Rises whenever batches that were not acknowledged may have gone."""
        self.rewinds = 0
        """Rises when batches that had been read became pending again, and when a damaged file was replaced."""
        self.on_append: Callable[[Sequence[StoredBatch]], bool] | None = None
        """Called with the batches and records that have just been committed, in order of their ids, on whichever
        thread wrote them; must not block. Those that it says it has taken are held."""
        self._lock = threading.Lock()
        self._declared: tuple[list[SeriesEntry], list[ProfileEntry]] = ([], [])
        self._held: set[int] = set()
        self._dropped_readings = 0
        self._damage: SpoolDamaged | None = None
        self._opener = Opener(
            path=self.path,
            agent_id=agent_id,
            settings=settings,
            clock=clock,
            profile_of=profile_of,
            version=version,
            host=host,
            held=lambda batch_id: batch_id in self._held,
            rewound=self._rewound,
        )
        self._owner = SpoolLock(folder / LOCK_NAME)
        try:
            self._file = self._opener.open()
        except BaseException:
            self._owner.release()
            raise
        self._incarnation = self._file.incarnation
        self._disk = FullDisk(self.path, settings)

    @property
    def epoch(self) -> bytes:
        """The running epoch, 16 bytes."""
        return self._file.journal.epoch

    @property
    def incarnation(self) -> str:
        """Of the hub's database, as last heard; empty if never."""
        return self._incarnation

    @property
    def error(self) -> str:
        """What was wrong with the spool, for the operator."""
        return self._file.error

    def append(self, batches: Sequence[PendingBatch]) -> None:
        """Take batches: when this returns they are on the disk, all of them; when it raises, none is.

        Raises: SpoolFull under the policy `block`, SpoolUnavailable when the disk does not let us.
        """
        with self._lock:
            try:
                self._commit(batches)
            except DiskFull:
                self._commit_on_full_disk(batches)
            self._hand_over()

    def declare(self, series: Sequence[SeriesEntry] = (), profiles: Sequence[ProfileEntry] = ()) -> None:
        """Say what references stand for; written in the next commit, before its batches. References are the caller's,
        from 1 and below 2^31."""
        with self._lock:
            self._declared[0].extend(series)
            self._declared[1].extend(profiles)

    def note(self, record: Gap | ClockRecord) -> None:
        """Have a record written by the next commit. Never blocks on the disk."""
        self.marks.leave(lambda file: file.journal.record(record))

    def meet(self, incarnation: str) -> bool:
        """Learn which database is behind the hub. Returns: whether it is another one than before, so that all that is
        held is pending again (once committed)."""
        before, self._incarnation = self._incarnation, incarnation
        if before == incarnation:
            return False
        if before:
            _log.warning("hub_database_changed", before=before, now=incarnation)
            self.marks.leave(lambda file: file.marks.reoffer())
        self.marks.leave(lambda file: file.marks.set_incarnation(incarnation))
        return bool(before)

    def flush(self) -> None:
        """Commit what has been left for the next commit; blocks on the disk. Also looks after the file.

        Raises: SpoolUnavailable.
        """
        with self._lock:
            if self.marks or self._damage or self._has_work():
                self._commit(())
            with self._recovering():
                self._file.store.shrink(_SHRINK_PAGES)
            self._disk.look_after_reserve(self._file.store)
            self._hand_over()

    def damaged(self, error: SpoolDamaged) -> None:
        """Tell the writer that reading has found the file damaged: what is readable goes into a new one.

        Raises: SpoolUnavailable when that cannot be written.
        """
        with self._lock:
            if self._damage is None:
                self._recover(error)

    def hold(self, ids: Iterable[int]) -> int:
        """Keep the quota from these batches. Returns: `drops`; what was read before it changed may have gone."""
        with self._lock:
            self._held.update(ids)
            return self.drops

    def let_go(self, ids: Iterable[int]) -> None:
        """They are not in flight any more."""
        self._held.difference_update(ids)

    def state(self) -> SpoolState:
        """How full it is. Never blocks."""
        return self._file.state(self.settings.quota_bytes, self._dropped_readings)

    def close(self) -> None:
        """Commit what is left, merge the log into the file and let others have it."""
        with self._lock:
            try:
                if self.marks:
                    self._commit(())
            except SpoolUnavailable as error:
                _log.error("spool_not_flushed", error=error)
            finally:
                self._file.close()
                self._owner.release()

    def _commit(self, batches: Sequence[PendingBatch]) -> None:
        if self._damage is not None:
            self._replace(self._damage)
        self._disk.try_again(self._file)
        marks, (series, profiles) = self.marks.waiting(), self._declared
        with self._recovering():
            lost = self._file.commit(marks, batches, series, profiles)
        if lost:
            self.drops += 1
            self._dropped_readings += lost
        self.marks.done(len(marks))
        if series or profiles:
            self._declared = ([], [])

    def _commit_on_full_disk(self, batches: Sequence[PendingBatch]) -> None:
        self._disk.merge_log(self._file.store)
        try:
            self._commit(batches)
        except DiskFull as error:
            self._disk.stay_within(self._file, error)
            self._commit(batches)

    def _hand_over(self) -> None:
        fresh = self._file.journal.take_fresh()
        if not fresh or self.on_append is None:
            return
        ids = [batch.id for batch in fresh]
        self._held.update(ids)
        if not self.on_append(fresh):
            self._held.difference_update(ids)

    def _has_work(self) -> bool:
        with self._recovering():
            return self._file.has_work()

    @contextlib.contextmanager
    def _recovering(self) -> Iterator[None]:
        """Where the file turns out damaged, the call still fails, and may be repeated with a new file."""
        try:
            yield
        except SpoolDamaged as error:
            self._recover(error)
            raise

    def _recover(self, error: SpoolDamaged) -> None:
        """Begin a new file and a new epoch with what is readable."""
        self._damage = error
        self._file.close()
        self._replace(error)

    def _replace(self, damage: SpoolDamaged) -> None:
        self._file = self._opener.replace(damage, self._file)
        self._incarnation = self._file.incarnation
        self._damage = None
        self._rewound()
        self.drops += 1

    def _rewound(self) -> None:
        self.rewinds += 1
