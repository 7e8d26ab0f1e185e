"""Puts scheduled profiles in force when their time has come."""

from __future__ import annotations

import logging

from hub.database.storage import Storage
from hub.sensors.profiles import activate_scheduled
from hub.telemetry.moments import to_datetime
from shared.clock import Clock

log = logging.getLogger(__name__)


async def activate_due(storage: Storage, clock: Clock) -> None:
    """Activate the profiles that are due now. Raises: StorageUnavailable."""
    activated = await activate_scheduled(storage.pool, to_datetime(clock.now_us()))
    if activated:
        log.info("event=profiles_activated profiles=%d", activated)
