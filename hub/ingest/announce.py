"""Who hears that readings were stored: this hub's streams, its sensors' heartbeats, and other hubs."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from hub.database.pool import acquire
from hub.ingest.heartbeat import Heartbeats
from hub.ingest.prepare import Database
from shared.clock import Clock
from shared.errors import StorageUnavailable
from shared.readings import Int64

log = logging.getLogger(__name__)

CHANNEL = "labrelay_readings"
"""What other hubs are told by, at most `_ANNOUNCE_HZ` times a second."""
_ANNOUNCE_HZ = 10.0


class Notifiable(Protocol):
    """The tail, as far as it is needed here."""

    def notify(self) -> None:
        """Something was committed."""
        ...


class Announcer:
    """Tells of commits, after them.

    Args:
        tail: told at once.
        heartbeat_interval_s: how often a sensor's last sign of life is written down.
    """

    def __init__(self, database: Database, tail: Notifiable, clock: Clock, *, heartbeat_interval_s: float) -> None:
        self._database = database
        self._tail = tail
        self.heartbeats = Heartbeats(heartbeat_interval_s, clock)
        self._others = asyncio.Event()

    def stored(self, series_ids: Int64) -> None:
        """Readings of these series were committed."""
        if len(series_ids):
            self.heartbeats.note(series_ids)
            self._tail.notify()
            self._others.set()

    async def run(self) -> None:
        """Keep heartbeats and other hubs up to date, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.heartbeats.run(self._database.pool), name="heartbeats")
            group.create_task(self._tell_others(), name="commit announcer")

    async def _tell_others(self) -> None:
        """Apart from the transactions: NOTIFY would make them commit one after the other."""
        while True:
            await self._others.wait()
            self._others.clear()
            try:
                async with acquire(self._database.pool) as connection:
                    await connection.execute("select pg_notify($1, '')", CHANNEL)
            except StorageUnavailable:
                log.debug("event=commit_not_announced")
            await asyncio.sleep(1 / _ANNOUNCE_HZ)
