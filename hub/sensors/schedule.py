"""Puts scheduled profiles in force when their time has come."""

from __future__ import annotations

import asyncio
import logging

import asyncpg

from hub.database.storage import Storage
from hub.sensors.profiles import activate_scheduled
from hub.telemetry.moments import to_datetime
from shared.clock import Clock
from shared.errors import StorageUnavailable

EVERY_S = 1.0

log = logging.getLogger(__name__)


class Activation:
    """Looks for profiles that are due as long as the hub runs."""

    def __init__(self, storage: Storage, clock: Clock, *, every_s: float = EVERY_S) -> None:
        self._storage = storage
        self._clock = clock
        self._every_s = every_s

    async def run(self) -> None:
        """Look every now and then, until cancelled. What failed is tried again the next time."""
        failing = False
        while True:
            await self._storage.ready()
            try:
                activated = await activate_scheduled(self._storage.pool, to_datetime(self._clock.now_us()))
                failing = False
                if activated:
                    log.info("event=profiles_activated profiles=%d", activated)
            except (StorageUnavailable, asyncpg.PostgresError) as error:
                if not failing:
                    log.warning("event=profile_activation_failed error=%r", str(error))
                failing = True
            await asyncio.sleep(self._every_s)
