"""What is done from time to time, by one hub at a time: expired sign-ins removed, the next partitions made, what was
kept for long enough forgotten: readings, answers to idempotency keys, deliveries, the audit.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hub.accounts.purge import forget as forget_sign_ins
from hub.database.partitions import DAY_US, ensure_partitions
from hub.database.pool import acquire, transaction
from hub.database.storage import Storage
from hub.events import purge
from hub.sensors import heard
from hub.settings import EventSettings
from hub.telemetry.project_retention import delete_expired, kept_by_projects
from hub.telemetry.retention import Hold, drop_expired
from shared.clock import Clock

KEEP_EXPIRED = timedelta(days=1)
"""How long an expired sign-in can still be told from one that never was."""
_LOCK = 0x6C61_6272_0003


class Upkeep:
    """The periodic work.

    Args:
        retention_days: age at which readings are dropped, 0 for never.
        holds: who may need readings that are older.
        events: how long what happened is remembered.
    """

    def __init__(
        self,
        storage: Storage,
        clock: Clock,
        *,
        retention_days: int,
        holds: Sequence[Hold] = (),
        events: EventSettings | None = None,
    ) -> None:
        self._storage = storage
        self._clock = clock
        self._retention_days = retention_days
        self._holds = holds
        self._events = events or EventSettings()

    async def once(self) -> bool:
        """Do all of it now, unless another hub is at it. Returns: whether this hub did. Raises: StorageUnavailable."""
        async with acquire(self._storage.pool) as connection:
            if not await connection.fetchval("select pg_try_advisory_lock($1)", _LOCK):
                return False
            await self._work()
        return True  # the lock went as the pool took its connection back

    async def _work(self) -> None:
        pool, layout, now_us = self._storage.pool, self._storage.layout, self._clock.now_us()
        now = datetime.fromtimestamp(now_us / 1e6, UTC)
        async with transaction(pool) as connection:
            await forget_sign_ins(connection, now - KEEP_EXPIRED)
        async with transaction(pool) as connection:
            await ensure_partitions(connection, layout, now_us, now_us + layout.chunk_days * DAY_US)
        holds = (*self._holds, kept_by_projects(lambda: now))
        await drop_expired(pool, layout, now=now, retention_days=self._retention_days, holds=holds)
        await delete_expired(pool, now)
        await purge.forget(pool, self._events, now)
        await heard.forget(pool, now)
