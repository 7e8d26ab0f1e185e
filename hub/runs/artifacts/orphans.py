"""Removes contents that no artifact names: uploads that a crash cut off from their row, and what belonged to runs that
were removed.

A content goes when it was found without a name for a day, by one hub and in one incarnation of the database. So who has
put back an old copy of the database, which does not know of all contents yet, has a day to notice.
"""

from __future__ import annotations

import logging
import re
from datetime import datetime, timedelta
from uuid import UUID

from hub.database.pool import acquire
from hub.database.storage import Storage
from hub.runs.artifacts import store
from hub.runs.artifacts.contents import Contents
from hub.telemetry.moments import to_datetime
from shared.clock import Clock
from shared.errors import ContentsUnavailable

KEEP = timedelta(days=1)
"""Longer than any upload takes from its last byte to its row."""
_UNNAMED_MAX = 100_000
"""Remembered at a time; the others' day begins when these are gone."""
_OURS = re.compile(r"[0-9a-f]{2}/[0-9a-f]{32}")

log = logging.getLogger(__name__)


class Orphans:
    """The periodic work. Several hubs may do it at once."""

    def __init__(self, contents: Contents | None, storage: Storage, clock: Clock) -> None:
        self._contents = contents
        self._storage = storage
        self._clock = clock
        self._incarnation: UUID | None = None
        self._unnamed: dict[str, datetime] = {}

    async def remove(self) -> int:
        """Remove those whose day is over. If the store is away, it is tried the next time.

        Returns: how many. Raises: StorageUnavailable.
        """
        if self._contents is None:
            return 0
        now, removed = to_datetime(self._clock.now_us()), 0
        try:
            removed = await self._contents.remove_unfinished(now - KEEP)
            removed += await self._remove_unnamed(self._contents, now)
        except ContentsUnavailable as error:
            log.warning("event=orphans_left error=%r", str(error))
        if removed:
            log.info("event=orphans_removed contents=%d", removed)
        return removed

    async def _remove_unnamed(self, contents: Contents, now: datetime) -> int:
        if self._incarnation != self._storage.incarnation:
            self._incarnation = self._storage.incarnation
            self._unnamed.clear()
        since: dict[str, datetime] = {}
        due: list[str] = []
        async for listed in contents.older_than(now - KEEP):
            for key in await self._without_name(listed):
                first = self._unnamed.get(key, now)
                if now - first >= KEEP:
                    due.append(key)
                elif len(since) < _UNNAMED_MAX:
                    since[key] = first
        await contents.remove(due)
        self._unnamed = since
        return len(due)

    async def _without_name(self, listed: list[str]) -> list[str]:
        """Those of our keys that no artifact names. Raises: StorageUnavailable."""
        keys = [key for key in listed if _OURS.fullmatch(key)]
        async with acquire(self._storage.pool) as connection:
            known = await store.known_keys(connection, keys)
        return [key for key in keys if key not in known]
