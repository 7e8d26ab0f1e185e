"""From the writer straight to the uplink: batches that were committed this moment need not be read from the disk.

The writer offers each commit's batches; the uplink takes them where they follow what it has, and reads from the disk
wherever it has fallen behind. Nothing depends on a batch being here: it is in the spool.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from agent.spool.batch import StoredBatch

HANDED_MAX = 64
"""Batches that may wait here."""


class Handover:
    """Safe to use from any thread.

    Args:
        wake: has the uplink look; called on the writer's thread, once until it has.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._batches: list[StoredBatch] = []
        self._missed = False
        self._woken = False

    def offer(self, batches: Sequence[StoredBatch]) -> bool:
        """Batches that have been committed. Returns: whether they were taken; all of them, or none for want of room."""
        with self._lock:
            accepted = len(self._batches) + len(batches) <= HANDED_MAX
            if accepted:
                self._batches.extend(batches)
            else:
                self._missed = True
            woken, self._woken = self._woken, True
        if not woken:
            self._wake()
        return accepted

    def take(self) -> tuple[list[StoredBatch], bool]:
        """What was offered since the last call, oldest first, and whether more was than there was room for."""
        with self._lock:
            batches, self._batches = self._batches, []
            missed, self._missed = self._missed, False
            self._woken = False
        return batches, missed
