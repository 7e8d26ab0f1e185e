"""The latest readings of some series, however many signals there are and however far back they reach.

Each series has an index in order of time, all of them together have none: sorting what there is in order to take its
end would read years. So it is looked for first, in the index alone, since when there are as many as wanted; only those
are read, and sorted here, which takes numpy a tenth of the database's time. The readings decide, not their aggregates,
which may be behind.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import numpy as np

from hub.database.pool import Connection, translated
from hub.telemetry.buckets import Extent
from hub.telemetry.moments import to_us
from hub.telemetry.scan import TIMEOUT_S, Rows, Where, scan_all

_FIRST_US = 1_000_000
_WIDEN = 16.0
_TELLING = 100
"""So many readings within a span tell how dense they are further back."""
_SLACK = 1.1
_FEW = 10_000
"""So many are read without looking for a shorter span, even if fewer are wanted."""

_EXTENT = """
select min(found.first), max(found.last) from unnest('{{{series}}}'::int[]) one, lateral (
    select (select r.time from readings r where r.series_id = one and {each} order by r.time limit 1) as first,
           (select r.time from readings r where r.series_id = one and {each} order by r.time desc limit 1) as last
) found
"""
_COUNT = "select count(*) from (select from readings r where {condition} limit {most}) r"


async def latest(connection: Connection, where: Where, *, limit: int) -> Rows:
    """The last `limit` of these readings, in order of time, then series; whether they have meta is not looked up.

    Raises: StorageUnavailable.
    """
    extent = await extent_of_readings(connection, where)
    if extent is None:
        return Rows.none()
    span = Span(limit, extent.to_us - extent.from_us)
    while not span.is_found:
        since_us = extent.to_us - span.length_us
        span.learn(await _count(connection, replace(where, time_from_us=since_us), span.enough + 1))
    rows = await scan_all(connection, replace(where, time_from_us=extent.to_us - span.length_us))
    return await asyncio.to_thread(_last, rows, limit)


@dataclass(slots=True)
class Span:
    """How far back there are as many readings as are wanted, but not many more; narrowed down by counting.

    Attributes:
        whole_us: how far back there are any.
        length_us: within which to count; once it `is_found`, the answer.
    """

    wanted: int
    whole_us: int
    length_us: int = 0
    is_found: bool = False
    _short_us: int = 0
    _long_us: int | None = None
    _factor_min: float = 1.0

    def __post_init__(self) -> None:
        self.length_us = min(_FIRST_US, self.whole_us)

    @property
    def enough(self) -> int:
        """More readings than this are too many."""
        return max(2 * self.wanted, _FEW)

    def learn(self, found: int) -> None:
        """There are so many readings within `length_us`; it may stop at one more than `enough`."""
        if found < self.wanted and self.length_us < self.whole_us:
            self._short_us = self.length_us
        elif found > self.enough and self.length_us > self._short_us + 1:
            self._long_us = self.length_us
        else:
            self.is_found = True
            return
        if self._long_us is not None:
            self.length_us = (self._short_us + self._long_us + 1) // 2
        else:
            self.length_us = min(self._longer_us(found), self.whole_us)

    def _longer_us(self, found: int) -> int:
        """As far as their density says; where that was wrong, at least twice as much more each time."""
        factor = max(self._factor_min, _SLACK * self.wanted / found if found >= _TELLING else _WIDEN)
        self._factor_min *= 2
        return int(self.length_us * factor) + 1


async def extent_of_readings(connection: Connection, where: Where) -> Extent | None:
    """From the first of these readings to behind the last, None where there are none. Raises: StorageUnavailable."""
    series = ",".join(map(str, map(int, where.series or ())))
    statement = _EXTENT.format(series=series, each=replace(where, series=None).condition())
    with translated():
        [(first, last)] = await connection.fetch(statement, timeout=TIMEOUT_S)
    return None if first is None else Extent(to_us(first), to_us(last) + 1)


async def _count(connection: Connection, where: Where, most: int) -> int:
    with translated():
        found: int = await connection.fetchval(
            _COUNT.format(condition=where.condition(), most=int(most)), timeout=TIMEOUT_S
        )
        return found


def _last(rows: Rows, limit: int) -> Rows:
    """The last of these, in order."""
    return rows.take(np.lexsort((rows.series, rows.time_us))[-limit:])
