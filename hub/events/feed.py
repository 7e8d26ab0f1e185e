"""The feed of public events: one reader a hub, shared by all streams.

Ids rise in commit order (see `hub.events.change`), so a cursor that has passed an id has passed everything below it
that will ever be. A subscriber is nothing but a cursor: within the ring it is served from memory, below from the
database. So a slow one lags, visibly in its ids, and nothing is dropped for it. While nobody subscribes, nothing is
read.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from uuid import UUID

from hub.database.pool import acquire
from hub.database.storage import Storage
from hub.events import store
from hub.events.bell import EventBell
from hub.events.store import Told
from hub.wake import set_within
from shared.errors import StorageUnavailable

RING_EVENTS_MAX = 2000
READ_EVENTS_MAX = 500
POLL_S = 5.0
RETRY_S = 2.0
CATCH_UPS_MAX = 3

log = logging.getLogger(__name__)


class EventFeed:
    """Public events, each once, in order of id. Used from one event loop."""

    def __init__(self, storage: Storage, bell: EventBell) -> None:
        self._storage = storage
        self._bell = bell
        self._ring: deque[Told] = deque()
        self._begins = 0
        self._cursor: int | None = None
        self._subscribed = asyncio.Event()
        self._waiting: set[asyncio.Event] = set()
        self._catch_ups = asyncio.Semaphore(CATCH_UPS_MAX)
        self._failures = 0
        self._stopped = False

    @property
    def stopped(self) -> bool:
        """Whether the hub is shutting down."""
        return self._stopped

    @property
    def subscribers(self) -> int:
        """How many subscriptions there are."""
        return len(self._waiting)

    @property
    def failures(self) -> int:
        """How often the database was lost; a subscription ends when this rises."""
        return self._failures

    def stop(self) -> None:
        """End all subscriptions, now and later: the hub is shutting down."""
        self._stopped = True
        self._announce()

    @contextmanager
    def subscribed(self, wake: asyncio.Event) -> Iterator[None]:
        """Read on, and set `wake` whenever there may be something to take, while the block lasts."""
        self._waiting.add(wake)
        self._subscribed.set()
        try:
            yield
        finally:
            self._waiting.discard(wake)
            if not self._waiting:
                self._subscribed.clear()
                self._bell.ring()

    def is_behind(self, cursor: int) -> bool:
        """Whether there are events behind this cursor."""
        return self._cursor is not None and cursor < self._cursor

    async def take(self, cursor: int, projects: Collection[UUID]) -> tuple[list[Told], int]:
        """The next events of these projects behind a cursor, and the cursor behind them.

        Raises: StorageUnavailable.
        """
        end = self._cursor
        if end is None or cursor >= end:
            return [], cursor
        if cursor >= self._begins:
            return [one for one in self._ring if one.id > cursor and one.project_id in projects], end
        async with self._catch_ups, acquire(self._storage.pool) as connection:
            found = await store.public_after(connection, cursor, READ_EVENTS_MAX, until=end, projects=projects)
        return found, found[-1].id if len(found) == READ_EVENTS_MAX else end

    async def run(self) -> None:
        """Read on while there are subscribers, until cancelled. A lost database ends subscriptions, not the feed."""
        wake = asyncio.Event()
        with self._bell.waking(wake):
            while True:
                await self._subscribed.wait()
                try:
                    await self._follow(wake)
                except StorageUnavailable as error:
                    log.warning("event=feed_lost_database subscribers=%d error=%r", self.subscribers, str(error))
                    self._failures += 1
                    self._announce()
                    await asyncio.sleep(RETRY_S)
                finally:
                    self._ring.clear()
                    self._cursor = None

    async def _follow(self, wake: asyncio.Event) -> None:
        async with acquire(self._storage.pool) as connection:
            self._begins = self._cursor = await store.last_id(connection)
        self._announce()
        while self._waiting:
            wake.clear()
            while await self._read():
                pass
            await set_within(wake, POLL_S)

    async def _read(self) -> bool:
        """Take note of what is new. Returns: whether there may be more."""
        assert self._cursor is not None
        async with acquire(self._storage.pool) as connection:
            found = await store.public_after(connection, self._cursor, READ_EVENTS_MAX)
        for one in found:
            self._ring.append(one)
            if len(self._ring) > RING_EVENTS_MAX:
                self._begins = self._ring.popleft().id
        if found:
            self._cursor = found[-1].id
            self._announce()
        return len(found) == READ_EVENTS_MAX

    def _announce(self) -> None:
        for wake in self._waiting:
            wake.set()
