"""What is done from time to time, by one hub at a time: expired sign-ins removed, the next partitions made."""

from __future__ import annotations

import asyncio
import logging
import random
from datetime import UTC, datetime, timedelta

import asyncpg

from hub.access import store as people
from hub.database.partitions import DAY_US, ensure_partitions
from hub.database.pool import transaction
from hub.database.storage import Storage
from shared.clock import Clock
from shared.errors import StorageUnavailable

log = logging.getLogger(__name__)

EVERY_S = 600.0
KEEP_EXPIRED = timedelta(days=1)
"""How long an expired sign-in can still be told from one that never was."""
_LOCK = 0x6C61_6272_0003


class Upkeep:
    """Runs the periodic work while the database is there."""

    def __init__(self, storage: Storage, clock: Clock, *, every_s: float = EVERY_S) -> None:
        self._storage = storage
        self._clock = clock
        self._every_s = every_s

    async def run(self) -> None:
        """Work every now and then, until cancelled. What failed is tried again the next time."""
        while True:
            await self._storage.ready()
            try:
                await self.once()
            except (StorageUnavailable, asyncpg.PostgresError) as error:
                log.warning("event=upkeep_failed error=%r", str(error))
            await asyncio.sleep(self._every_s * random.uniform(0.9, 1.1))

    async def once(self) -> bool:
        """Do all of it now, unless another hub is at it. Returns: whether this hub did. Raises: StorageUnavailable."""
        now_us = self._clock.now_us()
        async with transaction(self._storage.pool) as connection:
            if not await connection.fetchval("select pg_try_advisory_xact_lock($1)", _LOCK):
                return False
            await people.purge(connection, datetime.fromtimestamp(now_us / 1e6, UTC) - KEEP_EXPIRED)
        layout = self._storage.layout
        async with transaction(self._storage.pool) as connection:
            await ensure_partitions(connection, layout, now_us, now_us + layout.chunk_days * DAY_US)
        return True
