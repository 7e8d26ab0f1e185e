"""Pages of stored readings, in order of id.

The index that finds a sensor's readings has them in order of time. Sorting all of a long range by id for each page
would read the whole range again and again. But time and id mostly rise together, so a page is looked for from the
cursor's moment on, in stretches of time that widen until it is full; what has a fitting id but lies elsewhere in time
(it came late, or out of order) is then found by the block-range index on ids, which is quick because such readings are
few. The answer is exact whatever the order; only the time it takes depends on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import numpy as np

from hub.database.pool import Connection
from hub.telemetry.buckets import Extent, extent_of
from hub.telemetry.catalogue import Catalogue
from hub.telemetry.extras import extras
from hub.telemetry.points import encode_points
from hub.telemetry.raw_values import without_raw
from hub.telemetry.scan import Rows, Where, horizon, prefer_indexes, scan

LIMIT_DEFAULT = 2000
LIMIT_MAX = 20_000
_STRETCH_US = 1_000_000
_WIDEN = 4


@dataclass(frozen=True, slots=True)
class Page:
    """Points as JSON objects, and the cursor of the next page (None on the last)."""

    points: list[bytes]
    next_since_id: int | None

    def json(self) -> bytes:
        """The contract's answer."""
        cursor = b"null" if self.next_since_id is None else b"%d" % self.next_since_id
        return b'{"points":[%b],"next_since_id":%b}' % (b",".join(self.points), cursor)


def _as_stored(rows: Rows) -> Rows:
    return rows


async def read_page(
    connection: Connection,
    catalogue: Catalogue,
    where: Where,
    *,
    since_id: int | None,
    limit: int,
    descending: bool = False,
    hidden: Collection[int] = (),
    seen: Callable[[Rows], Rows] = _as_stored,
) -> Page:
    """The readings behind the cursor `since_id`: with higher ids, or with lower ones where `descending`.

    Args:
        where: series, and a range of time if any; ids are ours.
        hidden: series whose raw values are left out.
        seen: what is to be shown of readings.

    Raises: StorageUnavailable.
    """
    await prefer_indexes(connection)
    end = await horizon(connection)
    extent = await _extent(connection, where)  # after the horizon, so that no reading below that lies outside
    if extent is None:
        return Page([], None)
    low = 0 if descending or since_id is None else since_id + 1
    high = end if not descending or since_id is None else min(end, since_id)
    anchor_us = None if since_id is None else await _time_of(connection, since_id)
    search = _Search(connection, where, extent, limit + 1, descending)
    rows = await search.run(low, high, anchor_us)
    more = len(rows) > limit
    rows = rows.take(slice(0, limit))
    await catalogue.learn(connection, rows)
    beside = await extras(connection, rows, catalogue)
    points = await asyncio.to_thread(encode_points, without_raw(seen(rows), hidden), catalogue, beside)
    return Page(points, int(rows.id[-1]) if more else None)


@dataclass(frozen=True, slots=True)
class _Search:
    """Looks for the first `wanted` readings of a range of ids."""

    connection: Connection
    where: Where
    extent: Extent
    wanted: int
    descending: bool

    async def run(self, low: int, high: int, anchor_us: int | None) -> Rows:
        """The readings with ids from `low` to below `high`, in order; near `anchor_us` they are looked for first."""
        begin, end = self.extent.from_us, self.extent.to_us
        if anchor_us is None:
            anchor_us = end if self.descending else begin
        elif self.descending:
            anchor_us += 1
        anchor_us = min(max(anchor_us, begin), end)
        found, reached_us = await self._near(low, high, anchor_us)
        near = self._first(found)
        if len(near) == self.wanted:
            low, high = (int(near.id[-1]) + 1, high) if self.descending else (low, int(near.id[-1]))
        first_us, last_us = sorted((anchor_us, reached_us))
        elsewhere = [
            await self._scan(low, high, *stretch)
            for stretch in ((begin, first_us), (last_us, end))
            if _is_open(stretch)
        ]
        return self._first([near, *elsewhere])

    async def _near(self, low: int, high: int, anchor_us: int) -> tuple[list[Rows], int]:
        """Enough readings, or all there are in that direction, and the time up to which was looked."""
        found: list[Rows] = []
        at_us, stretch_us = anchor_us, _STRETCH_US
        goal_us = self.extent.from_us if self.descending else self.extent.to_us
        while at_us != goal_us and sum(map(len, found)) < self.wanted:
            next_us = max(goal_us, at_us - stretch_us) if self.descending else min(goal_us, at_us + stretch_us)
            found.append(await self._scan(low, high, *sorted((at_us, next_us))))
            at_us, stretch_us = next_us, stretch_us * _WIDEN
        return found, at_us

    async def _scan(self, low: int, high: int, from_us: int, to_us: int) -> Rows:
        where = replace(self.where, id_from=low, id_to=high, time_from_us=from_us, time_to_us=to_us)
        return await scan(self.connection, where, limit=self.wanted, descending=self.descending)

    def _first(self, parts: list[Rows]) -> Rows:
        """The first `wanted` of all these, in order."""
        rows = Rows.joined([*parts, Rows.none()])
        order = np.argsort(rows.id)
        return rows.take((order[::-1] if self.descending else order)[: self.wanted])


async def _extent(connection: Connection, where: Where) -> Extent | None:
    """The range of time to look in: what is asked for, as far as there are readings."""
    if where.time_from_us is not None and where.time_to_us is not None:
        return Extent(where.time_from_us, where.time_to_us) if where.time_from_us < where.time_to_us else None
    extent = await extent_of(connection, list(where.series or ()))
    return extent and extent.within(where.time_from_us, where.time_to_us)


async def _time_of(connection: Connection, id_: int) -> int | None:
    """When the reading with this id was taken, None where there is none."""
    found = await scan(connection, Where(id_from=id_, id_to=id_ + 1), limit=1)
    return int(found.time_us[0]) if len(found) else None


def _is_open(stretch: tuple[int, int]) -> bool:
    return stretch[0] < stretch[1]
