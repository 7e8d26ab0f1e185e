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
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol
from uuid import UUID

import asyncpg
import numpy as np

from hub.database.pool import acquire
from hub.ingest.acknowledge import Acknowledger, BatchAnswer, Publisher
from hub.ingest.answers import Answer, Settled
from hub.ingest.arrivals import Arrival, Item, Outcome, Submission
from hub.ingest.catalogue import Catalogue, Reach
from hub.ingest.clocks import Clocks
from hub.ingest.commit import Checkpoint, GroupCommit, no_checkpoint
from hub.ingest.connection import OwnConnection
from hub.ingest.heartbeat import Heartbeats
from hub.ingest.intake import Entry, Intake
from hub.ingest.prepare import Database, Preparation
from hub.ingest.quick import QuickGroup, plan
from hub.ingest.store import distinct
from hub.metrics import Metrics
from hub.settings import HubSettings
from shared.clock import Clock
from shared.errors import StorageUnavailable
from shared.readings import Int64

__all__ = ["Arrival", "IngestState", "IngestWriter", "Item", "Outcome", "Submission"]

log = logging.getLogger(__name__)

CHANNEL = "labrelay_readings"
"""What other hubs are told by, at most `_ANNOUNCE_HZ` times a second."""
_ANNOUNCE_HZ = 10.0
_RETRY_S_MIN = 0.1
_POST_ATTEMPTS_MAX = 2
_COLLISIONS_MAX = 10
_LONE_ATTEMPTS_MAX = 3
"""How often a batch that failed alone, and not because the database was away, is tried."""
_SUSPECT_GROUPS = 16
"""Groups for which an agent's readings go through staging after one of them was there already."""
_DAY_US = 86_400_000_000
_REFUSALS = (Answer.CONFLICT, Answer.NOT_YOURS, Answer.CORRUPT, Answer.UNSUPPORTED_VERSION)


class Notifiable(Protocol):
    """The tail, as far as it is needed here."""

    def notify(self) -> None:
        """Something was committed."""
        ...


@dataclass(frozen=True, slots=True)
class IngestState:
    """How ingest is doing, for `/health/ready` and `/metrics`.

    Attributes:
        waiting_readings, waiting_batches: not yet committed.
        last_commit_age_s: None before the first commit.
        error: why nothing can be written now; empty when it can.
    """

    waiting_readings: int
    waiting_batches: int
    last_commit_age_s: float | None
    stored: int
    repeated: int
    set_aside: int
    refused: int
    failed: int
    error: str


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
        self._tail = tail
        self._clock = clock
        self._checkpoint = checkpoint
        self._intake = Intake(
            readings_max=settings.ingest_queue_readings_max, items_max=settings.ingest_queue_batches_max
        )
        self._catalogue = Catalogue(Reach(settings.future_skew_s, settings.past_limit_days))
        self._clocks = Clocks(clock)
        self._preparation = Preparation(
            database, self._catalogue, self._clocks, sensors_max=settings.sensors_per_agent_max
        )
        self._suspects: dict[UUID, int] = {}
        self._announce = asyncio.Event()
        self._last_commit_s: float | None = None
        self._error = ""
        self.acknowledger = Acknowledger(publisher, clock, window_batches=settings.broker_window_batches)
        self._heartbeats = Heartbeats(settings.heartbeat_interval_s)
        self._readings = metrics.counter("labrelay_ingest_readings_total", "Readings by what became of them")
        self._batches = metrics.counter("labrelay_ingest_batches_total", "Batches by the answer they got")
        self._failures = metrics.counter("labrelay_ingest_failures_total", "Groups that had to be tried again")
        self._commit_s = metrics.histogram("labrelay_ingest_commit_seconds", "How long a group takes, with its commit")
        metrics.gauge("labrelay_ingest_waiting_readings", "Readings that wait", lambda: float(self._intake.readings))
        metrics.gauge("labrelay_ingest_waiting_batches", "Batches that wait", lambda: float(self._intake.items))

    def state(self) -> IngestState:
        """How it is doing."""
        age = None if self._last_commit_s is None else self._clock.monotonic_s() - self._last_commit_s
        return IngestState(
            self._intake.readings,
            self._intake.items,
            age,
            int(self._readings.value(outcome="stored")),
            int(self._readings.value(outcome="repeated")),
            int(self._readings.value(outcome="set_aside")),
            sum(
                int(self._batches.value(answer=one.value))
                for one in (Answer.CONFLICT, Answer.NOT_YOURS, Answer.CORRUPT)
            ),
            int(self._batches.value(answer="failed")),
            self._error,
        )

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
            group.create_task(self._heartbeats.run(self._database.pool), name="heartbeats")
            group.create_task(self._announce_commits(), name="commit announcer")

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
            together = self._clocks.run_length([entry.item for entry in group])
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
                settled = await self._commit([entry.item for entry in group], own, careful=careful)
            except StorageUnavailable as error:
                self._note_away(error)
                if attempts >= _POST_ATTEMPTS_MAX:
                    group = _without_awaited(group, error)
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(2 * pause_s, self._settings.ingest_retry_s_max)
            except asyncpg.UniqueViolationError as error:
                self._catalogue.forget()
                if attempts > _COLLISIONS_MAX:
                    await self._isolate(group, own, error)
                    return
                if careful:  # not of (series, time) then: another hub has entered one of the batches
                    await asyncio.sleep(_RETRY_S_MIN)
                careful = True
                self._suspect(group)
            except Exception as error:  # noqa: BLE001 - the writers' supervisor: no batch may stop the others
                self._catalogue.forget()
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
        self._failures.add()
        if len(group) > 1:
            log.warning("event=group_halved items=%d reason=%r", len(group), str(error))
            middle = len(group) // 2
            await self._persist(group[:middle], own)
            await self._persist(group[middle:], own)
            return
        entry = group[0]
        self._batches.add(answer="failed")
        log.error("event=batch_failed lane=%s identity=%s", entry.lane, entry.identity, exc_info=error)
        entry.fail(error)

    async def _commit(self, items: Sequence[Item], own: OwnConnection, *, careful: bool) -> list[Settled]:
        started_s = self._clock.monotonic_s()
        incarnation = self._database.incarnation
        self._catalogue.meet(incarnation, self._database.connects)
        self._clocks.meet(incarnation, self._database.connects)
        window_us = self._window_us()
        settled: dict[int, Settled] = {}
        try:
            items = await self._preparation.prepare(items, window_us, own)
            quick = None if careful else plan(items, self._catalogue, window_us)
            if quick is not None:
                settled = await self._commit_quickly(quick, items, own)
            rest = [place for place in range(len(items)) if place not in settled]
            if rest:
                left = [items[place] for place in rest]
                commit = await self._commit_slowly(left, own, window_us, careful=careful)
                settled |= dict(zip(rest, commit.settled, strict=True))
                await self._preparation.complete(self._later(commit.settled), own)  # first: they come again at once
        except StorageUnavailable:
            self._catalogue.forget()
            raise
        finally:
            if settled:  # also when only a part was committed: what was, is acknowledged
                self._acknowledge(incarnation, settled.values())
        self._last_commit_s = self._clock.monotonic_s()
        self._commit_s.observe(self._last_commit_s - started_s)
        return [settled[place] for place in range(len(items))]

    async def _commit_quickly(self, quick: QuickGroup, items: Sequence[Item], own: OwnConnection) -> dict[int, Settled]:
        outcomes = await quick.run(own, partial(self._checkpoint, "before commit"))
        await self._checkpoint("after commit")
        if outcomes:
            self._note_stored(distinct(quick.rows.series_id).astype(np.int64))
        return {place: Settled(items[place], Answer.COMMITTED, outcome) for place, outcome in outcomes.items()}

    async def _commit_slowly(
        self, items: Sequence[Item], own: OwnConnection, window_us: tuple[int, int], *, careful: bool
    ) -> GroupCommit:
        commit = GroupCommit(items, self._catalogue, window_us=window_us, careful=careful)
        async with own.transaction() as connection:
            await commit.run(connection)
            await self._checkpoint("before commit")
        await self._checkpoint("after commit")
        self._note_stored(commit.series_stored)
        return commit

    def _note_stored(self, series_ids: Int64) -> None:
        if len(series_ids):
            self._heartbeats.note(series_ids)
            self._tail.notify()
            self._announce.set()

    def _window_us(self) -> tuple[int, int]:
        now_us = self._clock.now_us()
        past_us = max(now_us - self._settings.past_limit_days * _DAY_US, 0)
        return past_us, now_us + self._settings.future_skew_s * 1_000_000

    def _acknowledge(self, incarnation: UUID, settled: Collection[Settled]) -> None:
        batches = [(one.item, one.answer) for one in settled if isinstance(one.item, Arrival)]
        told = [(item.header, answer) for item, answer in batches if not item.imported]
        self.acknowledger.tell(
            incarnation,
            [
                BatchAnswer(header.agent_id, header.epoch, header.seq, answer)
                for header, answer in told
                if answer is not Answer.UNANSWERED
            ],
        )
        for answer, count in Counter(answer for _, answer in batches).items():
            self._batches.add(count, answer=answer.value)
        self._readings.add(sum(one.outcome.new for one in settled), outcome="stored")
        self._readings.add(sum(one.outcome.repeated for one in settled), outcome="repeated")
        self._readings.add(sum(one.outcome.set_aside for one in settled), outcome="set_aside")

    def _later(self, settled: Collection[Settled]) -> list[Arrival]:
        return [one.item for one in settled if one.answer is Answer.LATER and isinstance(one.item, Arrival)]

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
        self._failures.add()
        if not self._error:
            log.warning("event=ingest_waits reason=%r", error.message)
        self._error = error.message

    async def _announce_commits(self) -> None:
        """Tell other hubs. Apart from the transactions: NOTIFY would make them commit one after the other."""
        while True:
            await self._announce.wait()
            self._announce.clear()
            try:
                async with acquire(self._database.pool) as connection:
                    await connection.execute("select pg_notify($1, '')", CHANNEL)
            except StorageUnavailable:
                log.debug("event=commit_not_announced")
            await asyncio.sleep(1 / _ANNOUNCE_HZ)


def _without_awaited(group: list[Entry], error: Exception) -> list[Entry]:
    for entry in group:
        entry.fail(error)
    return [entry for entry in group if not entry.is_awaited]
