"""How long nothing is called missing: a hub that was away itself knows nothing of who was silent."""

from __future__ import annotations

from hub.database.storage import Storage
from shared.clock import Clock

GRACE_S = 60.0


class Grace:
    """Counts from the hub's start, and anew from each time it has found its database again."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        self._since_s: float | None = None
        self._connects = 0

    def is_over(self) -> bool:
        """Whether the hub has been there for long enough, as of the first call since it is."""
        now_s = self._clock.monotonic_s()
        if self._since_s is None or self._connects != self._storage.connects:
            self._since_s, self._connects = now_s, self._storage.connects
        return now_s - self._since_s >= GRACE_S
