"""Puts scheduled profiles in force when their time has come."""

from __future__ import annotations

import logging

from hub.database.storage import Storage
from hub.events.change import begin_change
from hub.events.event import HUB
from hub.sensors.history import publication_events
from hub.sensors.profiles import activate_scheduled
from hub.telemetry.moments import to_datetime
from shared.clock import Clock

log = logging.getLogger(__name__)


async def activate_due(storage: Storage, clock: Clock) -> None:
    """Activate the profiles that are due now. Raises: StorageUnavailable."""
    async with begin_change(storage.pool, HUB, to_datetime(clock.now_us())) as change:
        activated = await activate_scheduled(change.connection, change.now)
        for project_id, published in activated:
            for event in await publication_events(change.connection, published, project_id):
                change.record(event)
    if activated:
        log.info("event=profiles_activated profiles=%d", len(activated))
