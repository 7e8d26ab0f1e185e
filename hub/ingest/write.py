"""Group commit: writers that take what waits, commit it together, and only then acknowledge.

Invariants
    * Nothing is acknowledged before its commit. Whatever happens to a group (a crash, a failed statement, a connection
      lost while the commit was under way), it is tried again or offered again, and the ledger decides.
    * A database that is away loses nothing: batches wait in bounded queues, here and on the agents' disks; posts are
      answered with 503.
    * A group that cannot be committed for any other reason is halved until the culprit stands alone. Alone, it gets no
      answer (its agent will quarantine it), and the rest has long gone in.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from uuid import UUID

import asyncpg

from hub.ingest.acknowledge import Acknowledger, Publisher
from hub.ingest.announce import Announcer, Notifiable
from hub.ingest.answers import Answer, Settled
from hub.ingest.arrivals import Arrival, Outcome, Submission
from hub.ingest.commit import Checkpoint, no_checkpoint
from hub.ingest.committer import Committer
from hub.ingest.connection import OwnConnection
from hub.ingest.intake import Entry, Intake
from hub.ingest.prepare import Database
from hub.ingest.tally import IngestState, Tally
from hub.metrics import Metrics
from hub.settings import HubSettings
from shared.clock import Clock
from shared.errors import StorageUnavailable

log = logging.getLogger(__name__)

_RETRY_S_MIN = 0.1
_POST_ATTEMPTS_MAX = 2
_COLLISIONS_MAX = 10
_LONE_ATTEMPTS_MAX = 3
"""How often a batch that failed alone, and not because the database was away, is tried."""
_SUSPECT_GROUPS = 16
"""Groups for which an agent's readings go through staging after one of them was there already."""


class IngestWriter:
    """The only way into `readings`.

    Args:
        database: pool, incarnation and partitions; may be away.
        publisher: takes the acknowledgements.
        tail: told after each commit.
        checkpoint: awaited before and after each commit; tests die there.
    """

    def __init__(
        self,
        settings: HubSettings,
        database: Database,
        publisher: Publisher,
        tail: Notifiable,
        *,
        clock: Clock,
        metrics: Metrics,
        checkpoint: Checkpoint = no_checkpoint,
    ) -> None:
        self._settings = settings
        self._database = database
        self._intake = Intake(
            readings_max=settings.ingest_queue_readings_max, items_max=settings.ingest_queue_batches_max
        )
        self._tally = Tally(metrics, lambda: self._intake.readings, lambda: self._intake.items)
        self._announcer = Announcer(database, tail, clock, heartbeat_interval_s=settings.heartbeat_interval_s)
        self.acknowledger = Acknowledger(publisher, clock, window_batches=settings.broker_window_batches)
        self._committer = Committer(
            settings,
            database,
            clock,
            acknowledger=self.acknowledger,
            announcer=self._announcer,
            tally=self._tally,
            checkpoint=checkpoint,
        )
        self._suspects: dict[UUID, int] = {}
        self._error = ""

    def state(self) -> IngestState:
        """How it is doing."""
        return self._tally.state(self._committer.last_commit_age_s, self._error)

    def heard_us(self, series_ids: Sequence[int]) -> int | None:
        """When something of one of these series was last stored here, where the database may not know of it yet."""
        return self._announcer.heartbeats.heard_us(series_ids)

    async def room(self) -> None:
        """Wait until there is room for another batch."""
        await self._intake.room()

    def offer(self, arrival: Arrival) -> None:
        """Queue an agent's batch; its answer goes to the agent. After `room`."""
        self._intake.add(Entry(arrival))

    def bring(self, arrival: Arrival) -> asyncio.Future[Settled] | None:
        """Queue a batch that an owner imports; its agent hears nothing of it. After `room`.

        Returns: what becomes of it (it fails with StorageUnavailable, or with whatever speaks against the batch); None
            while the same batch waits already.
        """
        settled: asyncio.Future[Settled] = asyncio.get_running_loop().create_future()
        return settled if self._intake.add(Entry(arrival, settled=settled)) else None

    def submit(self, submission: Submission) -> asyncio.Future[Outcome]:
        """Queue a sensor's post.

        Returns: its outcome, once it is committed; fails with StorageUnavailable, or with whatever speaks against it.
        Raises: StorageUnavailable when the database is away or too much waits.
        """
        if self._error and self._intake.items:  # someone is trying already
            raise StorageUnavailable(self._error)
        if self._intake.is_full:
            raise StorageUnavailable("too many readings wait for the database", hint="try again in a moment")
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._intake.add(Entry(submission, outcome))
        return outcome

    async def run(self) -> None:
        """Write until cancelled. What then still waits is offered again by its agent."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._settings.ingest_writers):
                group.create_task(self._write(), name=f"ingest writer {number}")
            group.create_task(self.acknowledger.run(), name="acknowledger")
            group.create_task(self._announcer.run(), name="commit announcer")

    async def _write(self) -> None:
        own = OwnConnection(self._database)
        try:
            while True:
                group = await self._intake.take()
                try:
                    await self._persist(group, own)
                finally:
                    self._intake.done(group)
                    for entry in group:
                        entry.fail(StorageUnavailable("the hub is shutting down"))
        finally:
            await own.give_back()

    async def _persist(self, group: list[Entry], own: OwnConnection) -> None:
        """Commit a group; what decides over a clock segment goes ahead of its readings. Posts wait for none of it."""
        while group:
            together = self._committer.run_length([entry.item for entry in group])
            rest = group[together:]
            posts = [entry for entry in rest if isinstance(entry.item, Submission)]
            await self._persist_together([*group[:together], *posts], own)
            group = [entry for entry in rest if not isinstance(entry.item, Submission)]

    async def _persist_together(self, group: list[Entry], own: OwnConnection) -> None:
        """Commit a group, however long it takes and in however many parts."""
        pause_s, attempts, careful = _RETRY_S_MIN, 0, self._is_suspect(group)
        while group:
            attempts += 1
            try:
                settled = await self._committer.commit([entry.item for entry in group], own, careful=careful)
            except StorageUnavailable as error:
                self._note_away(error)
                if attempts >= _POST_ATTEMPTS_MAX:
                    group = _without_awaited(group, error)
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(2 * pause_s, self._settings.ingest_retry_s_max)
            except asyncpg.UniqueViolationError as error:
                self._committer.forget()
                if attempts > _COLLISIONS_MAX:
                    await self._isolate(group, own, error)
                    return
                if careful:  # not of (series, time) then: another hub has entered one of the batches
                    await asyncio.sleep(_RETRY_S_MIN)
                careful = True
                self._suspect(group)
            except Exception as error:  # noqa: BLE001 - the writers' supervisor: no batch may stop the others
                self._committer.forget()
                if len(group) == 1 and attempts < _LONE_ATTEMPTS_MAX:
                    await asyncio.sleep(pause_s)
                    continue
                await self._isolate(group, own, error)
                return
            else:
                self._error = ""
                self._answer(group, settled)
                return

    async def _isolate(self, group: list[Entry], own: OwnConnection, error: Exception) -> None:
        self._tally.put_off()
        if len(group) > 1:
            log.warning("event=group_halved items=%d reason=%r", len(group), str(error))
            middle = len(group) // 2
            await self._persist(group[:middle], own)
            await self._persist(group[middle:], own)
            return
        entry = group[0]
        self._tally.failed()
        log.error("event=batch_failed lane=%s identity=%s", entry.lane, entry.identity, exc_info=error)
        entry.fail(error)

    def _answer(self, group: Sequence[Entry], settled: Sequence[Settled]) -> None:
        for entry, one in zip(group, settled, strict=True):
            if entry.settled is not None and not entry.settled.done():
                entry.settled.set_result(one)
            if entry.outcome is None or entry.outcome.done():
                continue
            if one.answer is Answer.COMMITTED:
                entry.outcome.set_result(one.outcome)
            else:
                entry.outcome.set_exception(StorageUnavailable("the sensor's signals are not registered yet"))

    def _is_suspect(self, group: Sequence[Entry]) -> bool:
        found = False
        for lane in {entry.lane for entry in group} & self._suspects.keys():
            found = True
            self._suspects[lane] -= 1
            if self._suspects[lane] <= 0:
                del self._suspects[lane]
        return found

    def _suspect(self, group: Sequence[Entry]) -> None:
        for entry in group:
            self._suspects[entry.lane] = _SUSPECT_GROUPS

    def _note_away(self, error: StorageUnavailable) -> None:
        self._tally.put_off()
        if not self._error:
            log.warning("event=ingest_waits reason=%r", error.message)
        self._error = error.message


def _without_awaited(group: list[Entry], error: Exception) -> list[Entry]:
    for entry in group:
        entry.fail(error)
    return [entry for entry in group if not entry.is_awaited]
