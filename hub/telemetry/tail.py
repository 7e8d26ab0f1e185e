"""The tail of committed readings: one reader a hub, shared by all streams.

Invariants
    * Ids rise in commit order up to `reading_horizon()`; the tail never looks beyond it, so a cursor that has passed an
      id has passed everything below it that will ever be.
    * Chunks in the ring follow one another without a gap: each begins where the one before ends.
    * A subscriber is nothing but a cursor. Within the ring it is served from memory; below, from the database, until it
      meets the ring. So a slow one lags, visibly in its ids, and nothing is ever dropped for it.
    * Taking never waits: what has to be read from the database is read aside.

Limits: the ring keeps `ROWS_MAX` rows in `CHUNKS_MAX` chunks; `CATCH_UPS_MAX` subscribers read from the database at the
same time. While nobody subscribes nothing is read and no connection is held.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from functools import partial

from hub.database.pool import Connection, Pool, acquire
from hub.telemetry.catalogue import Catalogue
from hub.telemetry.chunk import Chunk, Delivery
from hub.telemetry.errands import Errand, Errands
from hub.telemetry.live import NO_SENSORS, SensorIds
from hub.telemetry.scan import Where, horizon, prefer_indexes
from hub.telemetry.windows import Windows
from hub.wake import set_within
from shared.errors import StorageUnavailable

CHANNEL = "labrelay_readings"
"""What PostgreSQL's NOTIFY says when any hub has committed readings."""
ROWS_MAX = 65_536
CHUNKS_MAX = 512
POLL_S = 0.5
"""How often the database is asked when nobody has notified."""
TICK_S = 0.05
"""Commits that follow one another within this time are read together."""
RETRY_S = 2.0
CATCH_UPS_MAX = 3
RECHECKS_MAX = 3

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Since:
    """Where a subscription begins in time: of what was committed up to id `until`, only what is behind `after`.

    Attributes:
        after: UTC microseconds, and an id that breaks ties among readings of that very moment.
    """

    after: tuple[int, int]
    until: int


@dataclass(frozen=True, slots=True)
class _Fetch:
    """A stretch that is being read from the database, for these sensors."""

    sensor_ids: SensorIds
    errand: Errand[Chunk]


class Tail:
    """Newly committed readings, each once, in order of id. Used from one event loop."""

    def __init__(self, pool: Pool, *, catalogue: Catalogue | None = None, poll_s: float = POLL_S) -> None:
        self.catalogue = catalogue or Catalogue()
        self._pool = pool
        self._poll_s = poll_s
        self._ring: deque[Chunk] = deque()
        self._ring_rows = 0
        self._cursor: int | None = None
        self._subscribed = asyncio.Event()
        self._wake = asyncio.Event()
        self._waiting: set[asyncio.Event] = set()
        self.catch_ups = Errands(CATCH_UPS_MAX, "catch-up")
        """Reading from the database for subscribers who are behind the ring."""
        self.rechecks = Errands(RECHECKS_MAX, "recheck")
        """Asking the database whether streams may go on."""
        self._failures = 0
        self._stopped = False

    def notify(self) -> None:
        """This hub has committed readings."""
        self._wake.set()

    def stop(self) -> None:
        """End all subscriptions, now and later: the hub is shutting down."""
        self._stopped = True
        self._announce()

    @property
    def stopped(self) -> bool:
        """Whether the hub is shutting down."""
        return self._stopped

    @property
    def subscribers(self) -> int:
        """How many subscriptions there are."""
        return len(self._waiting)

    def subscribe(self, wake: asyncio.Event, cursor: int, since: Since | None = None) -> Subscription:
        """A subscription to what has a higher id than `cursor`; to be entered as a context manager.

        Args:
            wake: set whenever there may be something to take, the database is lost, or the tail has stopped.
        """
        return Subscription(self, wake, cursor, since)

    async def last_id(self) -> int:
        """The cursor behind everything that is committed now. Raises: StorageUnavailable."""
        async with acquire(self._pool) as connection:
            return await horizon(connection) - 1

    async def run(self) -> None:
        """Read on while there are subscribers, until cancelled. A lost database ends subscriptions, not the tail."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.catch_ups.run(), name="catch-ups")
            group.create_task(self.rechecks.run(), name="rechecks")
            group.create_task(self._read_on(), name="tail reader")

    async def _read_on(self) -> None:
        while True:
            await self._subscribed.wait()
            try:
                async with acquire(self._pool) as connection:
                    await self._follow(connection)
            except StorageUnavailable as error:
                log.warning("event=tail_lost_database subscribers=%d error=%r", self.subscribers, str(error))
                self._failures += 1
                self._announce()
                await asyncio.sleep(RETRY_S)
            finally:
                self._ring.clear()
                self._ring_rows = 0
                self._cursor = None

    async def _follow(self, connection: Connection) -> None:
        await prefer_indexes(connection)
        await connection.add_listener(CHANNEL, self._on_notification)
        windows = Windows(self.catalogue)
        try:
            cursor = self._cursor = await horizon(connection) - 1
            self._announce()
            while self._waiting:
                self._wake.clear()
                end = await horizon(connection)
                while cursor + 1 < end:
                    chunk = await windows.read(connection, cursor, end)
                    self._append(chunk)
                    cursor = chunk.through
                await asyncio.sleep(TICK_S)
                await set_within(self._wake, self._poll_s)
        finally:
            if not connection.is_closed():
                await connection.remove_listener(CHANNEL, self._on_notification)

    def _append(self, chunk: Chunk) -> None:
        self._ring.append(chunk)
        self._ring_rows += len(chunk)
        while len(self._ring) > 1 and (self._ring_rows > ROWS_MAX or len(self._ring) > CHUNKS_MAX):
            self._ring_rows -= len(self._ring.popleft())
        self._cursor = chunk.through
        self._announce()

    def _announce(self) -> None:
        for event in self._waiting:
            event.set()

    def _on_notification(self, *_: object) -> None:
        self._wake.set()

    def _chunk_behind(self, cursor: int) -> Chunk | None:
        """The chunk that a cursor stands in or right before, None where the ring begins later."""
        for chunk in reversed(self._ring):
            if chunk.after <= cursor:
                return chunk
        return None


class Subscription:
    """One subscriber's place in the tail. Not shared between tasks.

    Attributes:
        cursor: the id up to which everything was taken.
    """

    def __init__(self, tail: Tail, wake: asyncio.Event, cursor: int, since: Since | None) -> None:
        self.cursor = cursor
        self._tail = tail
        self._wake = wake
        self._since = since
        self._failures = tail._failures
        self._fetch: _Fetch | None = None
        self._windows = Windows(tail.catalogue, wide=since is not None)

    def __enter__(self) -> Subscription:
        self._tail._waiting.add(self._wake)
        self._tail._subscribed.set()
        return self

    def __exit__(self, *_: object) -> None:
        self._tail._waiting.discard(self._wake)
        if self._fetch is not None:
            self._fetch.errand.abandon()
        if not self._tail._waiting:
            self._tail._subscribed.clear()
            self._tail._wake.set()

    @property
    def behind(self) -> bool:
        """Whether there is something to take.

        Raises: StorageUnavailable if the database was lost since this subscription began.
        """
        if self._tail._failures != self._failures:
            raise StorageUnavailable("the database was lost", hint="connect again with the last event's id")
        end = self._tail._cursor
        return (end is not None and self.cursor < end) or (self._since is not None and self.cursor < self._since.until)

    @property
    def fetching(self) -> bool:
        """Whether the next stretch is being read from the database; the subscriber is woken when it is there."""
        return self._fetch is not None and not self._fetch.errand.done

    def take(self, sensor_ids: SensorIds, limit: int | None = None, hidden: SensorIds = NO_SENSORS) -> Delivery:
        """The next stretch of readings of these sensors, at most `limit`; it may be empty although there is more.

        What has to be read from the database first comes with a later call.

        Args:
            hidden: sensors whose raw values are left out.

        Raises: StorageUnavailable.
        """
        chunk = self._chunk(sensor_ids)
        if chunk is None:
            return Delivery(b"", 0, self.cursor)
        delivery = chunk.deliver(self.cursor, sensor_ids, limit, hidden)
        self.cursor = delivery.through
        return delivery

    def _chunk(self, sensor_ids: SensorIds) -> Chunk | None:
        if self._fetch is not None:
            return self._fetched(sensor_ids)
        if self._since is not None and self.cursor >= self._since.until:
            self._since = None
        end = self._tail._cursor
        if self._since is not None:
            self._ask(sensor_ids, self._since.until)
        elif end is not None and self.cursor < end:
            chunk = self._tail._chunk_behind(self.cursor)
            if chunk is not None:
                return chunk
            self._ask(sensor_ids, end)
        return None

    def _ask(self, sensor_ids: SensorIds, until: int) -> None:
        work = partial(self._catch_up, sensor_ids, until)
        self._fetch = _Fetch(sensor_ids, self._tail.catch_ups.send(work, self._wake))

    def _fetched(self, sensor_ids: SensorIds) -> Chunk | None:
        """What was read; None if it is not there yet, or was read for other sensors."""
        fetch = self._fetch
        assert fetch is not None
        if not fetch.errand.done:
            return None
        self._fetch = None
        chunk = fetch.errand.result()
        return chunk if fetch.sensor_ids == sensor_ids else None

    async def _catch_up(self, sensor_ids: SensorIds, until: int) -> Chunk:
        async with acquire(self._tail._pool) as connection:
            await prefer_indexes(connection)
            series = await self._tail.catalogue.series_of(connection, sensor_ids)
            where = Where(series=tuple(one.id for one in series), after=self._since.after if self._since else None)
            return await self._windows.read(connection, self.cursor, until + 1, where)
