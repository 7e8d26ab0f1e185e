"""What the writer does while the disk under the spool is full, and how it notices that it is not any more."""

from __future__ import annotations

import time
from pathlib import Path

from agent.logging import event_log
from agent.spool.connection import LOG_PAGES, DiskFull
from agent.spool.file import SpoolFile
from agent.spool.reserve import Reserve
from agent.spool.settings import SpoolSettings
from agent.spool.store import Store

RESERVE_NAME = "spool.reserve"

_TRY_AGAIN_AFTER_S = 30.0
_KEPT = 0.95
_LOG_PAGES = 64

_log = event_log("spool")


class FullDisk:
    """First the write-ahead log gives its space back, then the reserve, then the policy lets go of batches.

    Args:
        path: of the spool's file.
    """

    def __init__(self, path: Path, settings: SpoolSettings) -> None:
        self._path = path
        self._settings = settings
        self._reserve = Reserve(path.with_name(RESERVE_NAME))
        self._reserve.restore()
        self._is_full = False
        self._until_s = 0.0

    def merge_log(self, store: Store) -> None:
        """Merge the write-ahead log, which gives its space back; from now on often, lest it takes that again."""
        if not self._is_full:
            _log.error("disk_full", path=self._path, policy=self._settings.policy)
            self._is_full = True
            store.merge_every(_LOG_PAGES)
        store.checkpoint()

    def stay_within(self, file: SpoolFile, error: DiskFull) -> None:
        """What the disk cannot give is a smaller quota: what the policy gives up makes room inside the file.

        Raises: DiskFull, the one at hand, under the policy `block`.
        """
        self._until_s = time.monotonic() + _TRY_AGAIN_AFTER_S
        self._reserve.release()
        file.store.checkpoint()
        if self._settings.policy == "block":
            raise error
        used_bytes = int(file.store.depth.total_bytes * _KEPT)
        file.quota.limit_bytes = min(file.quota.limit_bytes, used_bytes)

    def try_again(self, file: SpoolFile) -> None:
        """Give the whole quota back once the smaller one has lasted for a while."""
        if self._until_s and time.monotonic() > self._until_s:
            self._until_s = 0.0
            file.quota.limit_bytes = self._settings.quota_bytes

    def look_after_reserve(self, store: Store) -> None:
        """Take the reserve back once there is room for it, which also says that the disk is full no more."""
        if self._until_s and time.monotonic() <= self._until_s:
            return
        if self._reserve.restore() and self._is_full:
            _log.info("disk_has_room_again", path=self._path)
            self._is_full = False
            store.merge_every(LOG_PAGES)
