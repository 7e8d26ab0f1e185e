"""The latest value of every series, for those who look on."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from agent.acquisition.roster import Series
from shared.messages import LiveValue
from shared.readings import Columns

NEVER_US = -1


class Latest:
    """Kept up by the collector, read by anyone. Args: series: the roster's, which grows."""

    def __init__(self, series: Sequence[Series]) -> None:
        self._series = series
        self._lock = threading.Lock()
        self._timestamp_us = np.empty(0, np.int64)
        self._raw = np.empty(0)
        self._physical = np.empty(0)
        self._status = np.empty(0, np.uint8)

    def update(self, columns: Columns) -> None:
        """Take note of readings; of one series the newest counts, whatever the order."""
        order = np.argsort(columns.timestamp_us, kind="stable")
        series = columns.series[order]
        with self._lock:
            self._grow()
            newer = columns.timestamp_us[order] >= self._timestamp_us[series]
            series, order = series[newer], order[newer]
            self._timestamp_us[series] = columns.timestamp_us[order]
            self._raw[series] = columns.raw[order]
            self._physical[series] = columns.physical[order]
            self._status[series] = columns.status[order]

    def values(self) -> list[LiveValue]:
        """What there is, in the order of series."""
        with self._lock:
            known = np.flatnonzero(self._timestamp_us > NEVER_US)
            rows = zip(
                known.tolist(),
                self._timestamp_us[known].tolist(),
                self._raw[known].tolist(),
                self._physical[known].tolist(),
                self._status[known].tolist(),
                strict=True,
            )
        return [
            LiveValue(
                self._series[ref - 1].sensor,
                self._series[ref - 1].signal,
                timestamp_us,
                _finite(raw),
                _finite(physical),
                status,
                self._series[ref - 1].unit,
            )
            for ref, timestamp_us, raw, physical, status in rows
        ]

    def _grow(self) -> None:
        missing = len(self._series) + 1 - len(self._timestamp_us)
        if missing > 0:
            self._timestamp_us = np.append(self._timestamp_us, np.full(missing, NEVER_US))
            self._raw = np.append(self._raw, np.full(missing, np.nan))
            self._physical = np.append(self._physical, np.full(missing, np.nan))
            self._status = np.append(self._status, np.zeros(missing, np.uint8))


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
