"""The latest value of every series, for those who look on."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from agent.acquisition.roster import Series
from agent.newest import Newest
from shared.messages import LiveValue
from shared.readings import Columns


class Latest:
    """Kept up by the collector, read by anyone. Args: series: the roster's, which grows."""

    def __init__(self, series: Sequence[Series]) -> None:
        self._lock = threading.Lock()
        self._newest = Newest(series)

    def update(self, columns: Columns) -> None:
        """Take note of readings; of one series the newest counts, whatever the order."""
        with self._lock:
            self._newest.note(columns)

    def values(self) -> list[LiveValue]:
        """What there is, in the order of series."""
        with self._lock:
            return self._newest.values()
