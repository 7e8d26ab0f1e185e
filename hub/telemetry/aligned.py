"""Several signals on one grid of time, or of runs on one grid of time since something happened in them.

A column is a signal, of a run where runs are compared. The grid's moments are whole multiples of the interval from the
origin: 1970-01-01 UTC, or what a run is aligned to. A column has a value at each of them, or null:

*mean*     of the readings from the moment on to before the next one
*nearest*  the reading closest to the moment, at most one interval away
*linear*   between the readings before and after it, each at most one interval away
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from hub.database.pool import Connection, translated
from hub.errors import invalid
from hub.telemetry.buckets import Extent
from hub.telemetry.catalogue import Catalogue
from hub.telemetry.latest import extent_of_readings
from hub.telemetry.moments import to_datetime, to_us
from hub.telemetry.scan import TIMEOUT_S
from hub.telemetry.selection import Selection
from hub.telemetry.sums import sum_of
from hub.telemetry.units import NO_UNITS, units_of

CELLS_MAX = 100_000

_MEAN = """
select r.series_id, ((extract(epoch from r.time) * 1000000)::bigint - $1) / $2 as slot, {sum} as total, count(*)
from readings r where {where} and r.time >= $3 and r.time < $4 and r.{value} is not null
group by 1, 2
"""
_NEIGHBOURS = """
select x.id as series_id, g.slot, b.us as before_us, b.value as before, a.us as after_us, a.value as after
from unnest($1::int[]) as x (id) cross join generate_series($2::bigint, $3::bigint) as g (slot)
cross join lateral (select timestamptz 'epoch' + ($4 + g.slot * $5) * interval '1 microsecond' as at) as m
left join lateral (
    select (extract(epoch from r.time) * 1000000)::bigint as us, r.{value} as value from readings r
    where r.series_id = x.id and r.time <= m.at and r.time >= m.at - $6::interval and r.{value} is not null and {where}
    order by r.time desc limit 1
) as b on true
left join lateral (
    select (extract(epoch from r.time) * 1000000)::bigint as us, r.{value} as value from readings r
    where r.series_id = x.id and r.time >= m.at and r.time <= m.at + $6::interval and r.{value} is not null and {where}
    order by r.time limit 1
) as a on true
where b.us is not null or a.us is not null
"""


class Method(StrEnum):
    """What a column has at a moment."""

    MEAN = "mean"
    NEAREST = "nearest"
    LINEAR = "linear"


class Value(StrEnum):
    """Which value of a reading."""

    PHYSICAL = "physical"
    RAW = "raw"


@dataclass(frozen=True, slots=True)
class Grid:
    """How columns are made."""

    interval_us: int
    method: Method
    value: Value


@dataclass(frozen=True, slots=True)
class Source:
    """What some columns are read from.

    Attributes:
        origin_us: UTC microseconds of what is 0 on the grid.
    """

    selection: Selection
    origin_us: int = 0
    run_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Aligned:
    """Columns, all with a value or None for each of the slots, which count intervals from the origin."""

    slots: range
    columns: list[dict[str, Any]]


async def align(connection: Connection, catalogue: Catalogue, sources: Sequence[Source], grid: Grid) -> Aligned:
    """Put all columns on one grid. Raises: Problem 422 for one that is too large; StorageUnavailable."""
    slots = await _slots(connection, sources, grid)
    columns = sum(len(one.selection.series_ids) for one in sources)
    if len(slots) * columns > CELLS_MAX:
        raise invalid(
            "interval", f"gives {len(slots)} x {columns} values, more than {CELLS_MAX}; take a longer one, or less time"
        )
    found: list[dict[str, Any]] = []
    for source in sources:
        found += await _columns(connection, catalogue, source, grid, slots)
    return Aligned(slots, found)


async def _slots(connection: Connection, sources: Sequence[Source], grid: Grid) -> range:
    """All that the readings of any source lie in."""
    ends: list[tuple[int, int]] = []
    for source in sources:
        extent = await extent_of_readings(connection, source.selection.where())
        if extent is not None:
            ends.append(_slots_of(extent, source.origin_us, grid.interval_us))
    if not ends:
        return range(0)
    return range(min(first for first, _ in ends), max(last for _, last in ends) + 1)


def _slots_of(extent: Extent, origin_us: int, interval_us: int) -> tuple[int, int]:
    return (extent.from_us - origin_us) // interval_us, (extent.to_us - 1 - origin_us) // interval_us


async def _columns(
    connection: Connection, catalogue: Catalogue, source: Source, grid: Grid, slots: range
) -> list[dict[str, Any]]:
    selection = source.selection
    units = await units_of(connection, selection.series_ids)
    shown = [one for one in selection.series_ids if grid.value is Value.PHYSICAL or one not in selection.hidden_series]
    values: dict[int, list[float | None]] = {one: [None] * len(slots) for one in selection.series_ids}
    if shown and len(slots):
        read = _means if grid.method is Method.MEAN else _neighbours
        for series_id, slot, value in await read(connection, source, shown, grid, slots):
            values[series_id][slot - slots.start] = value
    return [
        {
            "run_id": source.run_id and str(source.run_id),
            "sensor_id": str(catalogue.series[one].sensor_id),
            "signal": catalogue.series[one].signal,
            "unit": getattr(units.get(one, NO_UNITS), grid.value),
            "values": values[one],
        }
        for one in selection.series_ids
    ]


async def _means(
    connection: Connection, source: Source, shown: list[int], grid: Grid, slots: range
) -> list[tuple[int, int, float]]:
    first_us = source.origin_us + slots.start * grid.interval_us
    bounds = first_us, first_us + len(slots) * grid.interval_us
    statement = _MEAN.format(
        value=grid.value, sum=sum_of(f"r.{grid.value}"), where=source.selection.where().condition()
    )
    with translated():
        found = await connection.fetch(
            statement, first_us, grid.interval_us, *map(to_datetime, bounds), timeout=TIMEOUT_S
        )
    wanted = set(shown)
    return [
        (row["series_id"], row["slot"] + slots.start, row["total"] / row["count"])
        for row in found
        if row["series_id"] in wanted
    ]


async def _neighbours(
    connection: Connection, source: Source, shown: list[int], grid: Grid, slots: range
) -> list[tuple[int, int, float]]:
    statement = _NEIGHBOURS.format(value=grid.value, where=source.selection.where().condition())
    reach = timedelta(microseconds=grid.interval_us)
    with translated():
        found = await connection.fetch(
            statement, shown, slots[0], slots[-1], source.origin_us, grid.interval_us, reach, timeout=TIMEOUT_S
        )
    pick = _nearest if grid.method is Method.NEAREST else _linear
    at = [(row, source.origin_us + row["slot"] * grid.interval_us) for row in found]
    return [(row["series_id"], row["slot"], value) for row, at_us in at if (value := pick(row, at_us)) is not None]


def _nearest(row: Any, at_us: int) -> float | None:
    sides = [(row["before_us"], row["before"]), (row["after_us"], row["after"])]
    there = [(abs(at_us - us), value) for us, value in sides if us is not None]
    value: float = min(there, key=lambda one: one[0])[1]
    return value


def _linear(row: Any, at_us: int) -> float | None:
    before_us, after_us = row["before_us"], row["after_us"]
    if before_us is None or after_us is None:
        return None
    before: float = row["before"]
    after: float = row["after"]
    if before_us == after_us:
        return before
    share: float = (at_us - before_us) / (after_us - before_us)
    return before + share * (after - before)


async def origin_of(connection: Connection, run_id: UUID, kind: str | None) -> int | None:
    """When a run started, or its first annotation of this kind is; UTC microseconds. Raises: StorageUnavailable."""
    statement = (
        "select started_at from runs where id = $1 and $2::text is null"
        if kind is None
        else "select min(timestamp) from annotations where run_id = $1 and kind = $2"
    )
    with translated():
        moment = await connection.fetchval(statement, run_id, kind, timeout=TIMEOUT_S)
    return None if moment is None else to_us(moment)
