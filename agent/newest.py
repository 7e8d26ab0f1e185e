"""The newest reading of every series.

Readings are only noted as they come, and looked at together when somebody asks or enough of them wait: numpy costs by
the call, and a batch of ten readings would pay more for this than for being encoded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from shared.messages import LiveValue
from shared.readings import Columns, Int64

NEVER_US = -1
NOTED_MAX = 64
ROWS_MAX = 4_096
"""So many calls, or readings, are noted before they are looked at."""


class Named(Protocol):
    """What a series is called."""

    @property
    def sensor(self) -> str: ...
    @property
    def signal(self) -> str: ...
    @property
    def unit(self) -> str: ...


class Newest:
    """See the module. Not thread-safe: whoever owns it guards it.

    Args:
        series: the series by reference less 1; may grow.
    """

    def __init__(self, series: Sequence[Named]) -> None:
        self._series = series
        self._noted: list[Columns] = []
        self._rows = 0
        self._changed = np.zeros(1, np.bool_)
        self._timestamp_us = np.full(1, NEVER_US)
        self._raw = np.zeros(1)
        self._physical = np.zeros(1)
        self._status = np.zeros(1, np.uint8)

    def note(self, columns: Columns) -> None:
        """Take readings, in any order. They must not be altered afterwards."""
        if not len(columns):
            return
        self._noted.append(columns)
        self._rows += len(columns)
        if len(self._noted) >= NOTED_MAX or self._rows >= ROWS_MAX:
            self._look()

    @property
    def may_have_changed(self) -> bool:
        """Whether `take_changed` is worth a call."""
        return bool(self._noted) or bool(self._changed.any())

    def take_changed(self) -> list[tuple[int, LiveValue]]:
        """What is newer than at the last call, with its reference."""
        self._look()
        (refs,) = self._changed.nonzero()
        self._changed[refs] = False
        return self._named(refs)

    def give_back(self, refs: Iterable[int]) -> None:
        """These count as changed again."""
        self._changed[list(refs)] = True

    def values(self) -> list[LiveValue]:
        """All that there is, in the order of the series."""
        self._look()
        (known,) = (self._timestamp_us > NEVER_US).nonzero()
        return [value for _, value in self._named(known)]

    def _look(self) -> None:
        noted, self._noted, self._rows = self._noted, [], 0
        if not noted:
            return
        series = np.concatenate([part.series for part in noted])
        timestamp_us = np.concatenate([part.timestamp_us for part in noted])
        self._grow(int(series.max()) + 1)
        order = np.argsort(timestamp_us, kind="stable")
        order = order[timestamp_us[order] >= self._timestamp_us[series[order]]]
        refs = series[order]  # of several rows of a series the last one counts
        self._timestamp_us[refs] = timestamp_us[order]
        self._raw[refs] = np.concatenate([part.raw for part in noted])[order]
        self._physical[refs] = np.concatenate([part.physical for part in noted])[order]
        self._status[refs] = np.concatenate([part.status for part in noted])[order]
        self._changed[refs] = True

    def _grow(self, size: int) -> None:
        missing = size - len(self._changed)
        if missing > 0:
            self._changed = np.append(self._changed, np.zeros(missing, np.bool_))
            self._timestamp_us = np.append(self._timestamp_us, np.full(missing, NEVER_US))
            self._raw = np.append(self._raw, np.zeros(missing))
            self._physical = np.append(self._physical, np.zeros(missing))
            self._status = np.append(self._status, np.zeros(missing, np.uint8))

    def _named(self, refs: Int64) -> list[tuple[int, LiveValue]]:
        rows = zip(
            refs.tolist(),
            self._timestamp_us[refs].tolist(),
            self._raw[refs].tolist(),
            self._physical[refs].tolist(),
            self._status[refs].tolist(),
            strict=True,
        )
        return [(row[0], _value(self._series[row[0] - 1], *row[1:])) for row in rows]


def newest_rows(columns: Columns) -> Columns:
    """Fewer readings with the newest of each series among them; all of them where that takes a closer look."""
    series, timestamp_us = columns.series, columns.timestamp_us
    last = np.empty(len(series), np.bool_)
    last[-1:] = True
    np.not_equal(series[1:], series[:-1], out=last[:-1])
    if last.all() or not (last[:-1] | (timestamp_us[1:] >= timestamp_us[:-1])).all():
        return columns
    return columns.rows(last.nonzero()[0])


def _value(name: Named, timestamp_us: int, raw: float, physical: float, status: int) -> LiveValue:
    return LiveValue(
        name.sensor,
        name.signal,
        timestamp_us,
        raw if math.isfinite(raw) else None,
        physical if math.isfinite(physical) else None,
        status,
        name.unit,
    )
