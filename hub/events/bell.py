"""Rings when any hub has recorded an event: one connection listens for all parts that want to know.

Whoever waits looks by itself now and then as well: a notification that is lost costs time, nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager

from hub.database.pool import acquire
from hub.database.storage import Storage
from hub.wake import set_within
from shared.errors import StorageUnavailable

CHANNEL = "labrelay_events"
CHECK_S = 20.0
RETRY_S = 1.0

log = logging.getLogger(__name__)


class EventBell:
    """Sets the events of those who wait."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._waiting: set[asyncio.Event] = set()

    @contextmanager
    def waking(self, wake: asyncio.Event) -> Iterator[None]:
        """Set `wake` at each ring while the block lasts."""
        self._waiting.add(wake)
        try:
            yield
        finally:
            self._waiting.discard(wake)

    def ring(self) -> None:
        """Wake all."""
        for wake in self._waiting:
            wake.set()

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            await self._storage.ready()
            try:
                await self._listen()
            except StorageUnavailable as error:
                log.info("event=events_unheard reason=%r", error.message)
                await asyncio.sleep(RETRY_S * random.uniform(0.5, 1.0))

    async def _listen(self) -> None:
        lost = asyncio.Event()

        def hear(*_: object) -> None:
            self.ring()

        def lose(*_: object) -> None:
            lost.set()

        async with acquire(self._storage.pool) as connection:
            await connection.add_listener(CHANNEL, hear)
            connection.add_termination_listener(lose)
            try:
                self.ring()  # what was recorded while nobody listened
                while not lost.is_set():
                    await set_within(lost, CHECK_S)
                    await connection.execute("select 1")
            finally:
                if not connection.is_closed():
                    connection.remove_termination_listener(lose)
                    await connection.remove_listener(CHANNEL, hear)
