"""SQL of metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from hub.database.ids import uuid7
from hub.database.pool import Connection
from hub.runs.store import Row

_ADD = """
    insert into run_metrics (id, run_id, name, step, value, timestamp, created_at)
    select m.id, $1, m.name, m.step, m.value, m.timestamp, $2
    from unnest($3::uuid[], $4::text[], $5::bigint[], $6::float8[], $7::timestamptz[])
         as m (id, name, step, value, timestamp)
"""
_FILTERED = """
    from run_metrics
    where run_id = $1
    and ($2::text is null or name = $2)
    and ($3::bigint is null or step >= $3)
    and ($4::bigint is null or step <= $4)
"""
_PAGE = f"""
    select id, run_id, name, step, value, timestamp {_FILTERED}
    order by name, step, timestamp, id limit $5 offset $6
"""
_COUNT = f"select count(*) {_FILTERED}"
_SUMMARY = f"""
    select a.*, l.value as last_value, l.timestamp as last_timestamp
    from (
        select name, count(*) as count, min(value) as min, max(value) as max, sum(value) / count(*) as avg,
               min(step) as first_step, max(step) as last_step
        {_FILTERED} group by name order by name limit $5 offset $6
    ) a cross join lateral (
        select value, timestamp from run_metrics
        where run_id = $1 and name = a.name and step = a.last_step
        order by timestamp desc, id desc limit 1
    ) l
    order by a.name
"""
_COUNT_NAMES = f"select count(distinct name) {_FILTERED}"
_EXTENT = f"select min(step) as first, max(step) as last {_FILTERED}"
_BUCKETS = f"""
    select name, step / $5 * $5 as step_from, step / $5 * $5 + $5 - 1 as step_to, count(*) as count,
           sum(value) / count(*) as avg, min(value) as min, max(value) as max
    {_FILTERED} group by name, step / $5 order by name, step / $5 limit $6
"""


@dataclass(frozen=True, slots=True)
class Point:
    """One number."""

    name: str
    step: int
    value: float
    timestamp: datetime


@dataclass(frozen=True, slots=True)
class MetricFilter:
    """Which numbers of a run."""

    run_id: UUID
    name: str | None = None
    step_from: int | None = None
    step_to: int | None = None

    def arguments(self) -> tuple[object, ...]:
        """In the order of the statements' parameters."""
        return self.run_id, self.name, self.step_from, self.step_to


async def add(connection: Connection, run_id: UUID, points: Sequence[Point], now: datetime) -> None:
    """More numbers of a run."""
    await connection.execute(
        _ADD,
        run_id,
        now,
        [uuid7() for _ in points],
        [point.name for point in points],
        [point.step for point in points],
        [point.value for point in points],
        [point.timestamp for point in points],
    )


async def page(connection: Connection, wanted: MetricFilter, limit: int, offset: int) -> tuple[list[Row], int]:
    """Numbers by name, step and time, and how many there are in all."""
    rows = await connection.fetch(_PAGE, *wanted.arguments(), limit, offset)
    total: int = await connection.fetchval(_COUNT, *wanted.arguments())
    return rows, total


async def summary(connection: Connection, wanted: MetricFilter, limit: int, offset: int) -> tuple[list[Row], int]:
    """A row a name, and how many names there are in all."""
    rows = await connection.fetch(_SUMMARY, *wanted.arguments(), limit, offset)
    total: int = await connection.fetchval(_COUNT_NAMES, *wanted.arguments())
    return rows, total


async def extent(connection: Connection, wanted: MetricFilter) -> tuple[int, int] | None:
    """First and last step, None without any."""
    row = await connection.fetchrow(_EXTENT, *wanted.arguments())
    return None if row is None or row["first"] is None else (row["first"], row["last"])


async def buckets(connection: Connection, wanted: MetricFilter, bucket_size: int, limit: int) -> list[Row]:
    """A row a name and bucket of so many steps, aligned to step 0; `limit` rows at most."""
    return await connection.fetch(_BUCKETS, *wanted.arguments(), bucket_size, limit)
