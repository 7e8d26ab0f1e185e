"""The spool's one writer: takes batches for the collector, and marks them for the uplink.

`append` runs on the collector's thread and returns when the batches are on the disk. What the uplink has to say
(acknowledgements above all) it only leaves in a queue: the next commit carries it along, so that it costs no fsync of
its own while readings come in, and `flush` commits it when none do. Losing such a mark is harmless: the batch is sent
again and acknowledged again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from uuid import UUID

from agent.logging import event_log
from agent.spool import merge, salvage
from agent.spool.batch import PendingBatch, Standing, StoredBatch
from agent.spool.connection import LOG_PAGES, DiskFull, SpoolDamaged, connect
from agent.spool.journal import Journal
from agent.spool.lock import SpoolLock
from agent.spool.marks import Marks
from agent.spool.quota import Quota
from agent.spool.recode import ProfileOf, Recoder
from agent.spool.reserve import Reserve
from agent.spool.settings import SpoolSettings
from agent.spool.store import ROW_OVERHEAD_BYTES, Store
from agent.spool.thin import Thinner
from agent.spool.witness import gone, tell
from shared.clock import Clock
from shared.errors import SpoolUnavailable
from shared.messages import SpoolState
from shared.records import ClockRecord, Gap, ProfileEntry, SeriesEntry
from shared.wire import CHECKSUM_BYTES, HEADER

FILE_NAME = "spool.db"
LOCK_NAME = "spool.lock"
RESERVE_NAME = "spool.reserve"
MARKS_MAX = 100_000
"""What the uplink may leave in the queue; acknowledgements beyond it are forgotten, and their batches sent again."""

_FRAME_BYTES = HEADER.size + CHECKSUM_BYTES + ROW_OVERHEAD_BYTES
_TRY_FULL_DISK_AFTER_S = 30.0
_KEPT_ON_FULL_DISK = 0.95
_LOG_PAGES_ON_FULL_DISK = 64
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
        self._clock = clock
        self._agent_id = agent_id
        self._profile_of = profile_of
        self._version, self._host = version, host
        self._lock = threading.Lock()
        self._marks: deque[Callable[[], object]] = deque()
        self._declared: tuple[list[SeriesEntry], list[ProfileEntry]] = ([], [])
        self._held: set[int] = set()
        self._dropped_readings = 0
        self._oldest_us = 0
        self._full_disk_until_s = 0.0
        self._disk_full = False
        self._reserve = Reserve(folder / RESERVE_NAME)
        self.drops = 0
        """Rises whenever batches that were not acknowledged may have gone."""
        self.error = ""
        """What is wrong with the spool at the moment, for the operator."""
        self.rewinds = 0
        """Rises when batches that had been read became pending again, and when a damaged file was replaced."""
        self.on_append: Callable[[Sequence[StoredBatch]], bool] | None = None
        """Called with the batches and records that have just been committed, in order of their ids, on whichever
        thread wrote them; must not block. Those that it says it has taken are held."""
        self._damage: SpoolDamaged | None = None
        self._incarnation = ""
        self._owner = SpoolLock(folder / LOCK_NAME)
        try:
            self._open()
        except BaseException:
            self._owner.release()
            raise
        self._reserve.restore()

    @property
    def epoch(self) -> bytes:
        """The running epoch, 16 bytes."""
        return self._journal.epoch

    @property
    def incarnation(self) -> str:
        """Of the hub's database, as last heard; empty if never."""
        return self._incarnation

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
        self._marks.append(lambda: self._journal.record(record))

    def acknowledge(self, epoch: bytes, first: int, last: int) -> None:
        """Mark a range of seqs as stored at the hub, with the next commit."""
        if len(self._marks) >= MARKS_MAX:
            return
        at_us = self._clock.now_us()
        self._marks.append(lambda: self._on_file.acknowledge(epoch, first, last, at_us))

    def quarantine(self, batch_id: int, reason: str) -> None:
        """Set a batch aside for a person to look at, with the next commit."""
        _log.warning("batch_quarantined", batch=batch_id, reason=reason)
        self._marks.append(lambda: self._on_file.quarantine(batch_id, reason))

    def quarantine_corrupt(self, batch_id: int) -> None:
        """Set a batch aside that does not verify, and record the gap, with the next commit."""
        _log.error("batch_corrupt", batch=batch_id, path=self.path)
        self._marks.append(lambda: self._on_file.set_corrupt_aside(batch_id))

    def relabel(self, batch_id: int, epoch: bytes, seq: int) -> None:
        """Give a batch an identity of the running epoch, with the next commit: the hub knows another one by its own."""
        self._marks.append(lambda: self._on_file.relabel(batch_id, epoch, seq))

    def add_physical(self, batch_id: int) -> None:
        """Put the physical column into a batch, with the next commit."""
        self._marks.append(lambda: self._on_file.add_physical(batch_id))

    def meet(self, incarnation: str) -> bool:
        """Learn which database is behind the hub. Returns: whether it is another one than before, so that all that is
        held is pending again (once committed)."""
        before, self._incarnation = self._incarnation, incarnation
        if before == incarnation:
            return False
        if before:
            _log.warning("hub_database_changed", before=before, now=incarnation)
            self._marks.append(lambda: self._on_file.reoffer())
        self._marks.append(lambda: self._on_file.set_incarnation(incarnation))
        return bool(before)

    def resend_quarantined(self) -> None:
        """Offer everything in quarantine again, with the next commit; what does not verify stays there."""
        self._marks.append(lambda: self._on_file.resend_quarantined())

    @property
    def has_marks(self) -> bool:
        """Whether `flush` has something to commit."""
        return bool(self._marks)

    def flush(self) -> None:
        """Commit what has been left for the next commit; blocks on the disk. Also looks after the file.

        Raises: SpoolUnavailable.
        """
        with self._lock:
            if self._marks or self._damage or self._store.has_requests() or self._store.depth.batches[Standing.ACKED]:
                self._commit(())
            self._shrink()
            self._look_after_reserve()
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
        depth = self._store.depth
        return SpoolState(
            pending_batches=depth.batches[Standing.PENDING],
            pending_readings=depth.readings[Standing.PENDING],
            oldest_us=self._oldest_us if depth.batches[Standing.PENDING] else 0,
            bytes=depth.total_bytes,
            quota_bytes=self.settings.quota_bytes,
            quarantined_batches=depth.batches[Standing.QUARANTINED],
            dropped_readings=self._dropped_readings,
        )

    def close(self) -> None:
        """Commit what is left, merge the log into the file and let others have it."""
        with self._lock:
            try:
                if self._marks:
                    self._commit(())
            except SpoolUnavailable as error:
                _log.error("spool_not_flushed", error=error)
            finally:
                self._store.close()
                self._owner.release()

    def _open(self) -> None:
        try:
            if salvage.interrupted(self.path):
                raise SpoolDamaged("the spool's file was damaged, and saving what is readable was interrupted")
            self._attach(doubted=merge.verify(self.path))
        except SpoolDamaged as error:
            self._attach_after_salvage(error)

    def _attach(self, *, doubted: bool = False) -> None:
        store = Store(connect(self.path))
        try:
            if doubted:
                store.check()
            journal = Journal(store, agent_id=self._agent_id, clock=self._clock, version=self._version, host=self._host)
            with store.transaction():
                previous = store.latest_epoch()
                now_us = self._clock.now_us()
                gaps = (*salvage.take_gap(store), *gone(self.path, store, now_us))
                if previous is not None and not self.rewinds:  # the first opening of this process
                    through_us = previous.taken_through_us
                    gaps = (*gaps, Gap("downtime", through_us, max(now_us, through_us)))
                journal.open(previous, started_us=now_us, gaps=gaps)
                if self.rewinds and self._journal.clock_record is not None:
                    journal.record(self._journal.clock_record)
                    journal.save()
                incarnation = store.meta("incarnation")
            journal.take_fresh()  # whoever follows the spool begins by reading it
        except BaseException:
            store.close()
            raise
        self.rewinds += 1
        self._incarnation = incarnation
        recoder = Recoder(store, journal, self._profile_of)
        thinner = Thinner(store, journal, recoder)
        self._store: Store = store
        self._journal: Journal = journal
        self._on_file = Marks(store, journal, recoder, self._rewound)
        self._quota = Quota(
            self.settings, store, journal, thinner, clock=self._clock, held=lambda batch_id: batch_id in self._held
        )
        self._oldest_us = store.oldest_us()
        tell(self.path, self._journal.epoch, self._journal.last_seq)

    def _attach_after_salvage(self, error: SpoolDamaged) -> None:
        salvaged = salvage.move_aside_and_save(self.path, now_us=self._clock.now_us())
        self.error = f"{error.message}; moved to {salvaged.moved_to}, {salvaged.batches} batches saved"
        _log.error("spool_damaged", error=error, moved_to=salvaged.moved_to, saved=salvaged.batches)
        self._attach()
        self._damage = None
        self.drops += 1

    def _commit(self, batches: Sequence[PendingBatch]) -> None:
        """One transaction for all that there is to do."""
        if self._damage is not None:
            self._attach_after_salvage(self._damage)
        place = self._journal.place
        marks = list(self._marks)
        series, profiles = self._declared
        lost_before = self._dropped_readings
        if self._full_disk_until_s and time.monotonic() > self._full_disk_until_s:
            self._full_disk_until_s = 0.0
            self._quota.limit_bytes = self.settings.quota_bytes
        try:
            with self._store.transaction():
                for mark in marks:
                    mark()
                self._on_file.serve_requests()
                if batches or series or profiles:
                    needed = sum(len(batch.body.content) + _FRAME_BYTES for batch in batches)
                    self._make_room(needed)
                    self._journal.declare(series, profiles)
                for batch in batches:
                    self._journal.append(batch)
                self._quota.retire()
                self._journal.save()
                oldest_us = self._store.oldest_us()
        except BaseException as error:
            self._journal.return_to(place)
            self._dropped_readings = lost_before
            if isinstance(error, SpoolDamaged):
                self._recover(error)
            raise
        self._oldest_us = oldest_us
        tell(self.path, self._journal.epoch, self._journal.last_seq)
        for _ in marks:
            self._marks.popleft()
        if batches or series or profiles:
            self._journal.learn(series, profiles)
            self._declared = ([], [])

    def _commit_on_full_disk(self, batches: Sequence[PendingBatch]) -> None:
        """Merge the write-ahead log, which gives its space back; from now on often, lest it takes that again."""
        if not self._disk_full:
            _log.error("disk_full", path=self.path, policy=self.settings.policy)
            self._disk_full = True
            self._store.merge_every(_LOG_PAGES_ON_FULL_DISK)
        self._store.checkpoint()
        try:
            self._commit(batches)
        except DiskFull as error:
            self._commit_within_file(batches, error)

    def _commit_within_file(self, batches: Sequence[PendingBatch], error: DiskFull) -> None:
        """What the disk cannot give is a smaller quota: what the policy gives up makes room inside the file."""
        self._full_disk_until_s = time.monotonic() + _TRY_FULL_DISK_AFTER_S
        self._reserve.release()
        self._store.checkpoint()
        if self.settings.policy == "block":
            raise error
        used_bytes = int(self._store.depth.total_bytes * _KEPT_ON_FULL_DISK)
        self._quota.limit_bytes = min(self._quota.limit_bytes, used_bytes)
        self._commit(batches)

    def _look_after_reserve(self) -> None:
        """Take the reserve back once there is room for it, which also says that the disk is full no more."""
        if self._full_disk_until_s and time.monotonic() <= self._full_disk_until_s:
            return
        if self._reserve.restore() and self._disk_full:
            _log.info("disk_has_room_again", path=self.path)
            self._disk_full = False
            self._store.merge_every(LOG_PAGES)

    def _shrink(self) -> None:
        try:
            self._store.shrink(_SHRINK_PAGES)
        except SpoolDamaged as error:
            self._recover(error)
            raise

    def _hand_over(self) -> None:
        fresh = self._journal.take_fresh()
        if not fresh or self.on_append is None:
            return
        ids = [batch.id for batch in fresh]
        self._held.update(ids)
        if not self.on_append(fresh):
            self._held.difference_update(ids)

    def _make_room(self, needed_bytes: int) -> None:
        if lost := self._quota.make_room(needed_bytes):
            self.drops += 1
            self._dropped_readings += lost

    def _recover(self, error: SpoolDamaged) -> None:
        """Begin a new file and a new epoch with what is readable; the failed call still fails, and may be repeated."""
        self._damage = error
        self._store.close()
        self._declared = (
            [*self._journal.own_series(), *self._declared[0]],
            [*self._journal.own_profiles(), *self._declared[1]],
        )
        self._attach_after_salvage(error)

    def _rewound(self) -> None:
        self.rewinds += 1
