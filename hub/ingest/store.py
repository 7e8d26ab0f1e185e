"""Rows of a group into the database: readings, what is set aside, dirty minutes, meta. In the group's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import numpy as np

from hub.database.pool import Connection
from hub.ingest.copy import COLUMNS, Rows, encode_rows
from hub.ingest.intake import GROUP_READINGS_MAX
from hub.ingest.records import moment
from shared.readings import Float64, Int64

_DRAW_BLOCK = "select draw_reading_block()"
_STAGING = """
create temporary table if not exists staged_readings (
    series_id integer, profile integer, time timestamptz, id bigint,
    raw double precision, physical double precision, status smallint
) on commit delete rows
"""
_FROM_STAGING = """
insert into readings (series_id, profile, time, id, raw, physical, status)
select series_id, profile, time, id, raw, physical, status from staged_readings order by id
on conflict (series_id, time) do nothing
"""
_LOSERS = """
select s.id, r.raw is not distinct from s.raw as repeats
from staged_readings s join readings r on r.series_id = s.series_id and r.time = s.time
where r.id <> s.id
"""
_DIRTY = """
insert into dirty_minutes (first_id, series_ids, bucket_from, bucket_to) values ($1, $2, $3, $4)
"""
_META = """
insert into reading_meta (series_id, time, meta)
select * from unnest($1::integer[], $2::timestamptz[], $3::jsonb[])
on conflict (series_id, time) do nothing
"""
_SET_ASIDE = """
insert into set_aside (project_id, agent_id, epoch_id, seq, sensor_id, sensor_name, signal, reason, readings,
                       time_from, time_to, timestamps_us, raw, physical, status, profile_id, meta, clock_segment,
                       correction_us)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
"""
_LET_GO = "delete from set_aside where id = any($1::bigint[]) returning id"
_MINUTE_US = 60_000_000
_FEW = 64
"""Up to so many numbers Python is quicker than numpy with telling which are different."""


@dataclass(frozen=True, slots=True)
class Losers:
    """Rows of a group that were not stored because their place was taken.

    Attributes:
        repeated: intp (n,), rows whose raw value stands there already.
        conflicting: intp (n,), rows with another one.
    """

    repeated: Int64
    conflicting: Int64


NO_LOSERS = Losers(np.empty(0, np.int64), np.empty(0, np.int64))


@dataclass(frozen=True, slots=True)
class Aside:
    """Readings of one series and batch that are kept with a reason, not stored.

    Attributes:
        epoch_id, seq: of the batch; None for a post.
        columns: timestamps_us, raw, physical, status, as lists.
        profile_id: the one that they were converted with.
        segment: the clock segment of the batch.
        correction_us: what has been added to the timestamps.
    """

    project_id: UUID | None
    agent_id: UUID | None
    epoch_id: int | None
    seq: int | None
    sensor_id: UUID | None
    sensor_name: str
    signal: str
    reason: str
    timestamps_us: list[int]
    raw: Float64
    physical: Float64
    status: list[int]
    profile_id: UUID | None
    meta: dict[str, Any] | None = None
    segment: int | None = None
    correction_us: int = 0


@dataclass(frozen=True, slots=True)
class Stretch:
    """Minutes that a group has touched.

    Attributes:
        series_ids: of the series that have readings in them, rising.
        from_us, to_us: first and last minute, microseconds since 1970.
    """

    series_ids: list[int]
    from_us: int
    to_us: int


NO_STRETCH = Stretch([], 0, 0)


async def draw_ids(connection: Connection) -> int:
    """The first of `GROUP_READINGS_MAX` reading ids. Draw late: until the commit, readers wait for them."""
    block: int = await connection.fetchval(_DRAW_BLOCK)
    return block * GROUP_READINGS_MAX


async def copy_in(connection: Connection, rows: Rows) -> None:
    """Store readings. Raises: UniqueViolationError when one of them is there already; use `stage_in` then."""
    source: Any = encode_rows(rows)
    await connection.copy_to_table("readings", source=source, columns=list(COLUMNS), format="binary")


async def stage_in(connection: Connection, rows: Rows) -> Losers:
    """Store those readings whose place (series, time) is free, and say what stands in the place of the others."""
    await connection.execute(_STAGING)
    source: Any = encode_rows(rows)
    await connection.copy_to_table("staged_readings", source=source, columns=list(COLUMNS), format="binary")
    await connection.execute(_FROM_STAGING)
    first_id = int(rows.id[0])
    repeated: list[int] = []
    conflicting: list[int] = []
    for row in await connection.fetch(_LOSERS):
        (repeated if row["repeats"] else conflicting).append(row["id"] - first_id)
    return Losers(np.array(repeated, np.int64), np.array(conflicting, np.int64))


async def mark_dirty(connection: Connection, rows: Rows, part: Int64) -> None:
    """Note which minutes of which series the group has touched.

    Args:
        part: int64 (n,), rising: which batch each row is of. Batches far apart in time are noted apart.
    """
    await mark_stretches(connection, int(rows.id[0]), stretches(rows.series_id, rows.time_us, part))


async def mark_stretches(connection: Connection, first_id: int, found: Sequence[Stretch]) -> None:
    """Note stretches of minutes that the group whose first reading has that id has touched."""
    records = [(first_id, one.series_ids, moment(one.from_us), moment(one.to_us)) for one in found]
    if len(records) == 1:
        await connection.execute(_DIRTY, *records[0])
    else:
        await connection.executemany(_DIRTY, records)


def stretches(series_id: Any, time_us: Int64, part: Int64) -> list[Stretch]:
    """Stretches of minutes, not overlapping, and the series that have readings in them.

    Args:
        series_id: int32 (n,)
        part: int64 (n,), rising: which batch each row is of.
    """
    if not len(time_us):
        return []
    from_us, to_us = int(time_us.min()) // _MINUTE_US * _MINUTE_US, int(time_us.max()) // _MINUTE_US * _MINUTE_US
    if to_us <= from_us + _MINUTE_US or part[0] == part[-1]:
        return [Stretch(distinct(series_id).tolist(), from_us, to_us)]
    return _stretches_of_parts(series_id, time_us, part)


def _stretches_of_parts(series_id: Any, time_us: Int64, part: Int64) -> list[Stretch]:
    starts = np.flatnonzero(np.diff(part, prepend=-1))
    ends = np.append(starts[1:], len(part))
    lows = np.minimum.reduceat(time_us, starts) // _MINUTE_US * _MINUTE_US
    highs = np.maximum.reduceat(time_us, starts) // _MINUTE_US * _MINUTE_US
    found: list[tuple[list[tuple[int, int]], int, int]] = []
    for place in np.argsort(lows, kind="stable").tolist():
        span, low, high = (int(starts[place]), int(ends[place])), int(lows[place]), int(highs[place])
        if found and low <= found[-1][2] + _MINUTE_US:
            spans, first, last = found[-1]
            found[-1] = ([*spans, span], first, max(last, high))
        else:
            found.append(([span], low, high))
    return [
        Stretch(distinct(np.concatenate([series_id[start:end] for start, end in spans])).tolist(), low, high)
        for spans, low, high in found
    ]


def distinct(series_ids: Any) -> Any:
    """The different ones, rising; quick where equal ones stand together, as they do in batches."""
    if len(series_ids) <= _FEW:
        return np.array(sorted(set(series_ids.tolist())), series_ids.dtype)
    ends = np.flatnonzero(series_ids[1:] != series_ids[:-1])
    return np.unique(np.append(series_ids[ends], series_ids[-1:]))


async def add_meta(connection: Connection, rows: Sequence[tuple[int, datetime, dict[str, Any]]]) -> None:
    """Meta of single readings: (series id, time, meta)."""
    await connection.execute(_META, [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])


async def set_aside(connection: Connection, asides: Sequence[Aside]) -> None:
    """Keep readings that are not stored, with the reason."""
    await connection.executemany(_SET_ASIDE, [_aside_record(aside) for aside in asides])


async def let_go(connection: Connection, ids: Sequence[int]) -> set[int]:
    """Remove rows of `set_aside` whose readings this transaction deals with. Returns: those that were there."""
    return {row["id"] for row in await connection.fetch(_LET_GO, ids)}


def _aside_record(aside: Aside) -> tuple[Any, ...]:
    return (
        aside.project_id,
        aside.agent_id,
        aside.epoch_id,
        aside.seq,
        aside.sensor_id,
        aside.sensor_name,
        aside.signal,
        aside.reason,
        len(aside.timestamps_us),
        moment(min(aside.timestamps_us)),
        moment(max(aside.timestamps_us)),
        aside.timestamps_us,
        _with_nulls(aside.raw),
        _with_nulls(aside.physical),
        aside.status,
        aside.profile_id,
        aside.meta,
        aside.segment,
        aside.correction_us,
    )


def _with_nulls(column: Float64) -> list[float | None]:
    return [None if value != value else value for value in column.tolist()]
