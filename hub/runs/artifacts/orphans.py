"""Removes contents that no artifact names: uploads that a crash cut off from their row, and what belonged to runs that
were removed.
"""

from __future__ import annotations

import logging
import re
from datetime import datetime, timedelta

from hub.database.pool import acquire
from hub.database.storage import Storage
from hub.runs.artifacts import store
from hub.runs.artifacts.contents import Contents
from hub.telemetry.moments import to_datetime
from shared.clock import Clock
from shared.errors import ContentsUnavailable

KEEP = timedelta(days=1)
"""Longer than any upload takes from its last byte to its row."""
_OURS = re.compile(r"[0-9a-f]{2}/[0-9a-f]{32}")

log = logging.getLogger(__name__)


class Orphans:
    """The periodic work. Several hubs may do it at once."""

    def __init__(self, contents: Contents | None, storage: Storage, clock: Clock) -> None:
        self._contents = contents
        self._storage = storage
        self._clock = clock

    async def remove(self) -> int:
        """Remove those that are a day old. If the store is away, it is tried the next time.

        Returns: how many. Raises: StorageUnavailable.
        """
        if self._contents is None:
            return 0
        before, removed = to_datetime(self._clock.now_us()) - KEEP, 0
        try:
            removed = await self._contents.remove_unfinished(before)
            removed += await self._remove_unnamed(self._contents, before)
        except ContentsUnavailable as error:
            log.warning("event=orphans_left error=%r", str(error))
        if removed:
            log.info("event=orphans_removed contents=%d", removed)
        return removed

    async def _remove_unnamed(self, contents: Contents, before: datetime) -> int:
        removed = 0
        async for listed in contents.older_than(before):
            keys = [key for key in listed if _OURS.fullmatch(key)]
            async with acquire(self._storage.pool) as connection:
                known = await store.known_keys(connection, keys)
            unnamed = [key for key in keys if key not in known]
            await contents.remove(unnamed)
            removed += len(unnamed)
        return removed
