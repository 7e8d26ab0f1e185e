"""Public events over MQTT: to `labrelay/v1/projects/{project_id}/events`, in order, with QoS 1, at least once.

One hub at a time publishes: it holds the row of the cursor, which moves on in the same transaction, so a hub that dies
leaves it to the next. While the broker is away the cursor stays, and everything follows when it is back.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from hub.database.pool import Connection, transaction
from hub.database.storage import Storage
from hub.events import store
from hub.events.bell import EventBell
from hub.metrics import Metrics
from hub.wake import set_within
from shared import topics
from shared.clock import Clock
from shared.errors import LinkUnavailable, StorageUnavailable

TURN_EVENTS_MAX = 100
TURN_S_MAX = 5.0
"""A turn ends after so long, to write down how far it came: no transaction stands open for a slow broker."""
POLL_S = 10.0
RETRY_S = 1.0

log = logging.getLogger(__name__)

_TAKE_TURN = "select event_id from event_cursors where name = 'mqtt' for update skip locked"
_MOVE_ON = "update event_cursors set event_id = $1 where name = 'mqtt'"


class Broker(Protocol):
    """Where events go (`hub.broker.link.BrokerLink`)."""

    async def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None: ...

    async def wait_connected(self) -> None: ...


class EventPublisher:
    """Publishes events; any number of hubs may, one at a time does."""

    def __init__(self, storage: Storage, broker: Broker, bell: EventBell, clock: Clock, metrics: Metrics) -> None:
        self._storage = storage
        self._broker = broker
        self._bell = bell
        self._clock = clock
        self._published = metrics.counter("labrelay_events_published_total", "Events handed to the broker.")

    async def run(self) -> None:
        """Until cancelled."""
        wake = asyncio.Event()
        with self._bell.waking(wake):
            while True:
                await self._storage.ready()
                await self._broker.wait_connected()
                wake.clear()
                try:
                    if not await self._turn():
                        await set_within(wake, POLL_S)
                except (StorageUnavailable, LinkUnavailable) as error:
                    log.info("event=events_wait reason=%r", error.message)
                    await asyncio.sleep(RETRY_S)

    async def _turn(self) -> bool:
        """Publish what is next, unless another hub is at it. Returns: whether there may be more.

        Raises: StorageUnavailable; LinkUnavailable, after the cursor has moved as far as was published.
        """
        failed: LinkUnavailable | None = None
        async with transaction(self._storage.pool) as connection:
            cursor: int | None = await connection.fetchval(_TAKE_TURN)
            if cursor is None:
                return False
            through, failed = await self._publish_behind(connection, cursor)
            if through > cursor:
                await connection.execute(_MOVE_ON, through)
        if failed is not None:
            raise failed
        return through > cursor

    async def _publish_behind(self, connection: Connection, cursor: int) -> tuple[int, LinkUnavailable | None]:
        began_s = self._clock.monotonic_s()
        for told in await store.public_after(connection, cursor, TURN_EVENTS_MAX):
            try:
                await self._broker.publish(topics.events(told.project_id), told.body, qos=1)
            except LinkUnavailable as error:
                return cursor, error
            cursor = told.id
            self._published.add()
            if self._clock.monotonic_s() - began_s > TURN_S_MAX:
                break
        return cursor, None
