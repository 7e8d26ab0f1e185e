"""Forgets what has been kept for long enough, and frees deliveries whose hub has died. A piece at a time."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from hub.database.pool import Connection, Pool, transaction
from hub.events import keys, outbox, store
from hub.events.views import DeliveryStatus
from hub.settings import EventSettings

PIECE_ROWS = 5000

log = logging.getLogger(__name__)


async def forget(pool: Pool, settings: EventSettings, now: datetime) -> None:
    """Purge idempotency keys, deliveries and the audit. Raises: StorageUnavailable."""
    audit_before = now - timedelta(days=settings.audit_days)
    delivered_before = now - timedelta(days=settings.delivery_days)

    async def old_keys(connection: Connection) -> int:
        return await keys.purge(connection, now - timedelta(hours=settings.idempotency_hours), PIECE_ROWS)

    async def succeeded(connection: Connection) -> int:
        return await outbox.purge(connection, DeliveryStatus.SUCCEEDED, delivered_before, PIECE_ROWS)

    async def given_up(connection: Connection) -> int:
        return await outbox.purge(connection, DeliveryStatus.DEAD_LETTERED, audit_before, PIECE_ROWS)

    async def audit(connection: Connection) -> int:
        return await store.purge(connection, audit_before, PIECE_ROWS)

    for piece in (old_keys, succeeded, given_up, audit):
        await _whole(pool, piece)


async def free_stuck(pool: Pool, settings: EventSettings, now: datetime) -> None:
    """Make pending what was under way in a hub that has died. Raises: StorageUnavailable."""
    async with transaction(pool) as connection:
        before = now - timedelta(seconds=settings.webhook_stuck_after_s)
        freed = await outbox.release_stuck(connection, before, now)
        if freed:
            await outbox.wake(connection)
    if freed:
        log.warning("event=webhooks_freed deliveries=%d", freed)


async def _whole(pool: Pool, piece: Callable[[Connection], Awaitable[int]]) -> None:
    while True:
        async with transaction(pool) as connection:
            if await piece(connection) < PIECE_ROWS:
                return
