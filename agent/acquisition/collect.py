"""The collector: the one thread between the buses and the spool.

It takes what the buses hand over, converts it, shows the latest values, and commits batches: when the first reading
that waits is due, or `BATCH_READINGS` wait. A batch holds readings of one clock segment, sorted by series and time.

While the spool takes nothing (disk full, quota reached under the policy `block`), the collector goes on trying with
what it has; the queue in front of it fills, and acquisition waits. That is visible in `CollectorState.blocked`.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from agent.acquisition.batches import BATCH_READINGS, encode_batches, in_order, no_readings
from agent.acquisition.convert import Converter
from agent.acquisition.intake import Arrival, Haul, Intake
from agent.acquisition.latest import Latest
from agent.acquisition.roster import Roster
from agent.logging import event_log
from agent.newest import newest_rows
from agent.spool.batch import PendingBatch
from shared.clock import Clock
from shared.errors import SpoolError, SpoolFull, SpoolUnavailable
from shared.readings import Columns
from shared.records import Gap, ProfileEntry, SeriesEntry

LIVE_INTERVAL_S = 0.1
"""Readings are converted and shown at once, but no more often than this, or when their batch is due."""
IDLE_BATCH_S = 5.0
"""While a capture session runs, a batch says at least this often through when everything has been taken."""
RETRY_S = 0.5
STOPPING_RETRY_S = 0.05

T = TypeVar("T", bound=np.generic)

_log = event_log("collector")


class Spool(Protocol):
    """What the collector needs of the spool; called from the collector's thread alone, blocking."""

    def declare(self, series: Sequence[SeriesEntry], profiles: Sequence[ProfileEntry]) -> None:
        """Add to the epoch's dictionary; committed with the next `append`, ahead of its batches."""
        ...

    def append(self, batches: Sequence[PendingBatch]) -> None:
        """Give batches their identity and commit them. Raises: SpoolFull, SpoolUnavailable; nothing was taken then."""
        ...

    def note(self, record: Gap) -> None:
        """Have a record written soon. Never blocks on the disk."""
        ...


class LiveLane(Protocol):
    """Where the latest values go beside the spool; never blocks."""

    def offer(self, columns: Columns) -> None:
        """Readings as they come; series are references of the roster."""
        ...


@dataclass(frozen=True, slots=True)
class CollectorState:
    """How the collector is doing.

    Attributes:
        waiting: readings in memory that are not on disk yet.
        taken: readings committed since the start.
        adjusted: timestamps that were moved on because two of a series were equal.
        lost: readings that were still in memory when a stop could wait for the disk no longer.
        unwanted: readings of sensors that are out of service, which are not taken.
        blocked: why the spool takes nothing now, empty if it does.
    """

    waiting: int = 0
    taken: int = 0
    adjusted: int = 0
    lost: int = 0
    unwanted: int = 0
    blocked: str = ""


@dataclass(slots=True)
class _Pending:
    """Converted readings that wait for their batch, all of one clock segment."""

    segment: int
    parts: list[Columns] = field(default_factory=list)
    readings: int = 0
    due_s: float = float("inf")
    promised: list[Future[None]] = field(default_factory=list)


class Collector:
    """See the module.

    Args:
        stop_s: how long a stop waits for a spool that takes nothing.
    """

    def __init__(
        self,
        intake: Intake,
        roster: Roster,
        converter: Converter,
        latest: Latest,
        spool: Spool,
        live: LiveLane,
        clock: Clock,
        *,
        stop_s: float = 3.0,
    ) -> None:
        self._intake = intake
        self._roster = roster
        self._converter = converter
        self._latest = latest
        self._spool = spool
        self._live = live
        self._clock = clock
        self._stop_s = stop_s
        self._stopping = threading.Event()
        self._pending = _Pending(clock.segment)
        self._latest_us = np.full(1, -1, np.int64)
        self._latest_segment = clock.segment
        self._declared = 0
        self._through_us = 0
        self._appended_at_s = clock.monotonic_s()
        self._shown_at_s = float("-inf")
        self.state = CollectorState()
        self.thread = threading.Thread(target=self.run, name="collector", daemon=True)

    def stop(self) -> None:
        """Commit what has been handed over, and end. Returns at once; `thread` ends soon after."""
        self._intake.close()
        self._stopping.set()

    def run(self) -> None:
        """The thread. Ends after `stop`; a bug is logged and ends it too, which whoever started it notices."""
        try:
            self._collect()
        except Exception as error:  # noqa: BLE001 - the supervisor's edge
            self._intake.close()
            _log.error("collector_crashed", exc_info=error)

    def _collect(self) -> None:
        self._introduce()
        while not (self._intake.closed and not self._intake.readings and not self._pending.readings):
            self.step()
        if self._converter.capturing and not self.state.lost:
            self._commit(self._pending, self._claim_us(self._pending, self._intake.taken_through_us()))

    def _introduce(self) -> None:
        """Declare the configured points before they have readings: the hub binds them and sends their profiles."""
        self._declare()
        with contextlib.suppress(SpoolFull, SpoolUnavailable):  # the first batch will take it along
            self._spool.append([])

    def step(self) -> None:
        """Wait for something to do and do it: take, convert, show, commit what is due."""
        haul = self._wait()
        self._take(haul)
        pending = self._pending
        if pending.readings:
            full = pending.readings >= BATCH_READINGS or self._intake.closed
            due = full or self._clock.monotonic_s() >= pending.due_s
        else:
            due = self._converter.capturing and self._idle_s() >= IDLE_BATCH_S
            if pending.segment != self._clock.segment:
                pending = self._open_segment(self._clock.segment)
        if due:
            self._commit(pending, self._claim_us(pending, haul.taken_through_us))

    def _wait(self) -> Haul:
        pending, now_s = self._pending, self._clock.monotonic_s()
        shown_s = self._shown_at_s + LIVE_INTERVAL_S - now_s
        enough = max(BATCH_READINGS - pending.readings, 1) if shown_s > 0 else 1
        due_s = pending.due_s - now_s if pending.readings else max(IDLE_BATCH_S - self._idle_s(), LIVE_INTERVAL_S)
        return self._intake.take(due_s, enough=enough, patience_s=shown_s)

    def _idle_s(self) -> float:
        return self._clock.monotonic_s() - self._appended_at_s

    def _take(self, haul: Haul) -> None:
        run: list[Arrival] = []
        for arrival in haul.arrivals:
            if run and run[-1].segment != arrival.segment:
                self._convert(run)
                run = []
            run.append(arrival)
        if run:
            self._convert(run)

    def _convert(self, arrivals: list[Arrival]) -> None:
        """Convert and show arrivals of one clock segment. Those of an earlier one that wait are committed first."""
        if arrivals[0].segment != self._pending.segment:
            if self._pending.readings:
                self._commit(self._pending, self._through_us)
            self._open_segment(arrivals[0].segment)
        columns, pending = self._wanted(arrivals), self._pending
        if not len(columns):
            return
        pending.promised.extend(arrival.done for arrival in arrivals if arrival.done is not None)
        pending.parts.append(columns)
        pending.readings += len(columns)
        pending.due_s = min(pending.due_s, *(arrival.due_s for arrival in arrivals))
        newest = newest_rows(columns)
        self._latest.update(newest)
        self._live.offer(newest)
        self._shown_at_s = self._clock.monotonic_s()
        self.state = replace(self.state, waiting=pending.readings)

    def _wanted(self, arrivals: list[Arrival]) -> Columns:
        """What arrivals bring, converted; of sensors that are out of service only what somebody waits to see taken."""
        samples = [arrival.samples for arrival in arrivals]
        columns = self._converter.convert(
            _joined([self._roster.refs(a.device, a.samples.point) for a in arrivals]),
            _joined([part.timestamp_us for part in samples]),
            _joined([part.raw for part in samples]),
            _joined([part.reason for part in samples]),
        )
        wanted = self._converter.in_service(columns.series)
        if wanted.all():
            return columns
        wanted |= np.repeat([a.done is not None for a in arrivals], [len(part) for part in samples])
        self.state = replace(self.state, unwanted=self.state.unwanted + int((~wanted).sum()))
        return columns.rows(np.flatnonzero(wanted))

    def _open_segment(self, segment: int) -> _Pending:
        """Go on in another clock segment; through when everything was taken is unknown by its clock."""
        self._through_us = 0
        self._pending = _Pending(segment)
        return self._pending

    def _claim_us(self, pending: _Pending, through_us: int) -> int:
        """What a commit may claim to be taken: nothing new if the clock was stepped since its readings."""
        return through_us if pending.segment == self._clock.segment else self._through_us

    def _commit(self, pending: _Pending, through_us: int) -> None:
        self._pending = _Pending(pending.segment)
        if pending.parts:
            columns, adjusted = in_order(pending.parts, self._latest_timestamps(pending.segment))
        else:
            columns, adjusted = no_readings(), 0
        batches = encode_batches(
            columns,
            self._converter.table,
            before_us=self._through_us,
            through_us=max(through_us, self._through_us),
            segment=pending.segment,
            generation=self._converter.generation,
        )
        self._declare()
        refusal = self._append(batches)
        missed = self._intake.take_missed()
        if missed is not None:
            self._spool.note(Gap("blocked", missed.from_us, missed.to_us, missed.readings))
        if refusal is None:
            self._through_us = batches[-1].taken_through_us
        self._appended_at_s = self._clock.monotonic_s()
        taken, lost = (0, len(columns)) if refusal else (len(columns), 0)
        before = self.state
        self.state = replace(
            before,
            waiting=0,
            taken=before.taken + taken,
            adjusted=before.adjusted + adjusted,
            lost=before.lost + lost,
            blocked="",
        )
        for promise in pending.promised:
            _keep(promise, refusal)

    def _latest_timestamps(self, segment: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """The latest timestamp of every series in this clock segment; another one has a time of its own."""
        if segment != self._latest_segment:
            self._latest_segment = segment
            self._latest_us = np.full(1, -1, np.int64)
        missing = len(self._roster.series) + 1 - len(self._latest_us)
        if missing > 0:
            self._latest_us = np.append(self._latest_us, np.full(missing, -1, np.int64))
        return self._latest_us

    def _declare(self) -> None:
        known = len(self._roster.series)
        new = self._roster.series[self._declared : known]
        profiles = self._converter.take_undeclared()
        if new or profiles:
            self._spool.declare([SeriesEntry(s.ref, s.sensor, s.signal, s.unit) for s in new], profiles)
        self._declared = known

    def _append(self, batches: list[PendingBatch]) -> SpoolError | None:
        """Commit, trying again until it works. Returns what stood in the way if a stop could wait no longer."""
        give_up_s = float("inf")
        while True:
            try:
                self._spool.append(batches)
            except (SpoolFull, SpoolUnavailable) as error:
                if self._blocked(error) and give_up_s == float("inf"):
                    give_up_s = self._clock.monotonic_s() + self._stop_s
                if self._clock.monotonic_s() >= give_up_s:
                    _log.error("readings_lost_at_stop", readings=sum(b.readings for b in batches), error=error)
                    return error
            else:
                if self.state.blocked:
                    _log.info("spool_takes_again")
                return None

    def _blocked(self, error: SpoolError) -> bool:
        """Report once, wait a little; whether the collector is to stop."""
        if not self.state.blocked:
            _log.error("spool_takes_nothing", error=error)
        self.state = replace(self.state, blocked=str(error))
        if not self._stopping.wait(RETRY_S):
            return False
        time.sleep(STOPPING_RETRY_S)
        return True


def _joined(parts: list[NDArray[T]]) -> NDArray[T]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _keep(promise: Future[None], refusal: SpoolError | None) -> None:
    if not promise.set_running_or_notify_cancel():
        return
    if refusal is None:
        promise.set_result(None)
    else:
        promise.set_exception(refusal)
