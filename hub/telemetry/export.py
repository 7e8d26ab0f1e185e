"""Readings as a file: all that a query would give, without a limit, of one moment.

One series after the other, each in order of time, as its index has them: nothing is sorted, the first rows go out at
once and memory does not depend on how many there are. A row has the fields of a point (`hub.telemetry.points`), and the
unit of its signal.

With a limit, those are left out that are not among the first so many by id; which id that is, is looked for first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

import asyncpg
import numpy as np
import orjson

from hub.access.identity import Principal
from hub.database.pool import Connection, Pool
from hub.export.download import Exports, FileAnswer, FilePart
from hub.export.formats import Encoder, ExportFormat, Sheet, new_encoder
from hub.telemetry.catalogue import Catalogue
from hub.telemetry.extras import Extras, extras
from hub.telemetry.filters import Filters
from hub.telemetry.points import encode_points
from hub.telemetry.raw_values import without_raw
from hub.telemetry.scan import Rows, prefer_indexes
from hub.telemetry.selection import Selection, select
from hub.telemetry.units import NO_UNITS, Units, units_of

BATCH_ROWS = 2000
LOOK_S_MAX = 300
"""How long it may take to find where a limit ends."""
COLUMNS = (
    "id", "timestamp", "sensor_id", "signal", "raw_value", "raw_unit", "physical_value", "unit", "conversion_status",
    "conversion_profile_id", "run_id", "capture_session_id", "project_id", "ingested_at", "meta",
)  # fmt: skip
_MEDIA_TYPES = {ExportFormat.CSV: "text/csv; charset=utf-8", ExportFormat.JSON: "application/json"}
_READINGS = """
select r.id, r.series_id, (extract(epoch from r.time) * 1000000)::bigint as time_us,
       coalesce(r.raw, 'NaN') as raw, coalesce(r.physical, 'NaN') as physical, r.status, r.profile,
       exists (select from reading_meta m where m.series_id = r.series_id and m.time = r.time) as has_meta
from readings r where {where} order by r.time {direction}
"""
_LAST = "select r.id from readings r where {where} order by r.id {direction} offset {skipped} limit 1"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which readings, and as what.

    Attributes:
        limit: the first so many by id; None for all.
        below_id: what ids must be below; None for no bound. Where ids are a cursor, the horizon from before the file's
            moment, as rows with lower ids may still be committed.
    """

    filters: Filters
    principal: Principal
    kind: ExportFormat
    limit: int | None = None
    below_id: int | None = None

    async def selection(self, connection: Connection, catalogue: Catalogue) -> Selection:
        """Raises: Problem 404, 422; StorageUnavailable."""
        found = await select(connection, catalogue, self.filters, self.principal)
        ends = [one for one in (found.id_to, self.below_id) if one is not None]
        found = replace(found, id_to=min(ends, default=None))
        if self.limit is None:
            return found
        direction = _direction(self.filters)
        statement = _LAST.format(where=found.where().condition(), direction=direction, skipped=self.limit - 1)
        await connection.execute(f"set local statement_timeout = '{LOOK_S_MAX}s'")
        last_id: int | None = await connection.fetchval(statement, timeout=LOOK_S_MAX)
        if last_id is None:
            return found
        return replace(found, id_from=last_id) if self.filters.descending else replace(found, id_to=last_id + 1)


class ReadingsFile(FileAnswer):
    """Answers with readings.

    Args:
        now: for the file's name.
    """

    def __init__(self, exports: Exports, pool: Pool, catalogue: Catalogue, wanted: Wanted, now: datetime) -> None:
        self._catalogue, self._wanted = catalogue, wanted
        media_type = _MEDIA_TYPES[wanted.kind]
        super().__init__(exports, pool, name="readings", media_type=media_type, kind=wanted.kind, now=now)

    async def parts(self, connection: Connection) -> AsyncGenerator[FilePart, None]:
        """Head, readings, tail. Raises, before its first part: Problem 404, 422."""
        await prefer_indexes(connection)
        selection = await self._wanted.selection(connection, self._catalogue)
        units = await units_of(connection, selection.series_ids)
        encoder = new_encoder(self._wanted.kind, _sheet(selection, units))
        yield FilePart(encoder.head())
        async for rows in _batches(connection, selection, _direction(self._wanted.filters)):
            await self._catalogue.learn(connection, rows)
            beside = await extras(connection, rows, self._catalogue)
            shown = without_raw(selection.seen(rows), selection.hidden_series)
            yield await asyncio.to_thread(_part, encoder, shown, self._catalogue, beside, units)
        yield FilePart(encoder.tail())


def _direction(filters: Filters) -> str:
    return "desc" if filters.descending else "asc"


def _part(encoder: Encoder, rows: Rows, catalogue: Catalogue, beside: Extras, units: dict[int, Units]) -> FilePart:
    """Points as a query has them, with their units."""
    points = encode_points(rows, catalogue, beside)
    own = [units.get(series, NO_UNITS) for series in rows.series.tolist()]
    named = [
        orjson.loads(point) | {"raw_unit": unit.raw, "unit": unit.physical}
        for point, unit in zip(points, own, strict=True)
        if point
    ]
    return FilePart(encoder.rows(named), len(named))


async def _batches(connection: Connection, selection: Selection, direction: str) -> AsyncGenerator[Rows, None]:
    for sensor_id, ids in _in_order(selection.series):
        for series_id in ids:
            where = selection.of_series(sensor_id, series_id).where()
            cursor = await connection.cursor(_READINGS.format(where=where.condition(), direction=direction))
            while batch := await cursor.fetch(BATCH_ROWS):
                yield _rows(batch)


def _in_order(series: dict[UUID, list[int]]) -> Iterable[tuple[UUID, list[int]]]:
    return ((sensor_id, sorted(ids)) for sensor_id, ids in sorted(series.items()))


def _rows(records: Sequence[asyncpg.Record]) -> Rows:
    id_, series, time_us, raw, physical, status, profile, has_meta = zip(*records, strict=True)
    return Rows(
        np.array(id_, np.int64),
        np.array(series, np.int32),
        np.array(time_us, np.int64),
        np.array(raw, np.float64),
        np.array(physical, np.float64),
        np.array(status, np.uint8),
        np.array(profile, np.int32),
        np.array(has_meta, np.bool_),
    )


def _sheet(selection: Selection, units: dict[int, Units]) -> Sheet:
    """Its titles have the units where all signals share them; the columns `raw_unit` and `unit` have them anyway."""
    every = [units.get(one, NO_UNITS) for one in selection.series_ids]
    shared = {
        "raw_value": _shared(one.raw for one in every),
        "physical_value": _shared(one.physical for one in every),
        "timestamp": "UTC",
        "ingested_at": "UTC",
    }
    titles = tuple(f"{name} [{shared[name]}]" if shared.get(name) else name for name in COLUMNS)
    return Sheet("points", COLUMNS, titles)


def _shared(units: Iterable[str]) -> str:
    """The unit of all, if they have one and the same."""
    found = set(units)
    return found.pop() if len(found) == 1 else ""
