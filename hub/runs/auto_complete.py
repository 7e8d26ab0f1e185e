"""Ends runs that are older than they said they would be."""

from __future__ import annotations

import logging
from datetime import datetime
from uuid import UUID

from hub.database.pool import acquire
from hub.database.storage import Storage
from hub.events.change import begin_change
from hub.events.event import HUB
from hub.experiments.rules import Status
from hub.runs import store
from hub.runs.lifecycle import enter
from hub.runs.rules import is_overdue
from hub.runs.store import Row
from hub.telemetry.moments import to_datetime
from shared.clock import Clock

log = logging.getLogger(__name__)

_AT_ONCE_MAX = 500
"""What remains is done the next time."""


async def complete_overdue(storage: Storage, clock: Clock) -> int:
    """Let running runs succeed whose time is up, but for those with an active session; several hubs may do so at once.

    Returns: how many. Raises: StorageUnavailable.
    """
    async with acquire(storage.pool) as connection:
        overdue = await store.overdue(connection, to_datetime(clock.now_us()), _AT_ONCE_MAX)
    completed = 0
    for run_id in overdue:
        completed += await _complete(storage, clock, run_id)
    if completed:
        log.info("event=runs_auto_completed runs=%d", completed)
    return completed


async def _complete(storage: Storage, clock: Clock, run_id: UUID) -> bool:
    """End one run, if nobody has changed it meanwhile so that it should go on."""
    async with begin_change(storage.pool, HUB, to_datetime(clock.now_us())) as change:
        rows = await store.lock(change.connection, [run_id], None)
        if not rows or not _is_overdue(rows[0], change.now):
            return False
        if await store.active_sessions(change.connection, [run_id]):
            return False
        return await enter(change, rows[0], Status.SUCCEEDED, reason="auto_complete")


def _is_overdue(run: Row, now: datetime) -> bool:
    return is_overdue(Status(run["status"]), run["started_at"], run["auto_complete_after_minutes"], now)
