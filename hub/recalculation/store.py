"""SQL of recalculation tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import asyncpg

from hub.database.ids import uuid7
from hub.database.pool import Connection
from hub.recalculation import rulings
from hub.recalculation.rules import Scope, Stretch, TaskStatus
from hub.recalculation.rulings import Ruling
from hub.telemetry.moments import to_datetime, to_us

if TYPE_CHECKING:
    Row: TypeAlias = asyncpg.Record
else:
    Row = asyncpg.Record

_COLUMNS = """
    t.id, t.sensor_id, t.profile_id, t.scope, t.capture_session_ids, t.time_from, t.time_to, t.status, t.total_records,
    t.processed_records + coalesce((select sum(processed) from backfill_slices c where c.task_id = t.id), 0)::bigint
        as processed_records,
    t.changed_records + coalesce((select sum(changed) from backfill_slices c where c.task_id = t.id), 0)::bigint
        as changed_records,
    t.error, t.created_by, t.created_at, t.started_at, t.finished_at, t.before_id, s.project_id
"""
_FROM = "from backfill_tasks t join sensors s on s.id = t.sensor_id"
_ONE = f"select {_COLUMNS} {_FROM} where t.id = $1"
_VISIBLE = """
    exists (
        select from sensor_projects p join project_members m on m.project_id = p.project_id
        where p.sensor_id = t.sensor_id and m.user_id = $1 and ($2::uuid is null or p.project_id = $2)
    )
    and ($3::uuid is null or t.sensor_id = $3) and ($4::text is null or t.status = $4)
"""
_PAGE = f"select {_COLUMNS} {_FROM} where {_VISIBLE} order by t.id desc limit $5 offset $6"
_COUNT = f"select count(*) from backfill_tasks t where {_VISIBLE}"
_DRAW_BEFORE_ID = "select (draw_reading_block() + 1) * 16384"
_ADD = """
    insert into backfill_tasks (id, sensor_id, profile_id, scope, capture_session_ids, time_from, time_to, before_id,
                                created_by, created_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""
_OPEN_OF_SENSOR = "select count(*) from backfill_tasks where sensor_id = $1 and status in ('pending', 'running')"
_NEXT = f"""
    select {_COLUMNS} {_FROM}
    where t.id in (
        select distinct on (sensor_id) id from backfill_tasks
        where status in ('pending', 'running') order by sensor_id, id
    )
    order by t.id
"""
_START = """
    update backfill_tasks set status = 'running', started_at = $2, total_records = $3
    where id = $1 and status = 'pending'
    returning id
"""
_ADD_SLICES = """
    insert into backfill_slices (task_id, number, series_id, time_at, time_to)
    select $1, * from unnest($2::integer[], $3::integer[], $4::timestamptz[], $5::timestamptz[])
"""
_SLICES = """
    select c.number, c.series_id, c.time_at, c.time_to from backfill_slices c
    where c.task_id = $1 and c.time_at < c.time_to order by c.number
"""
_LOCK_SLICE = """
    select c.series_id, c.time_at, c.time_to from backfill_slices c
    where c.task_id = $1 and c.number = $2 and c.time_at < c.time_to
      and exists (select from backfill_tasks t where t.id = c.task_id and t.status = 'running')
    for update
"""
_MOVE = """
    update backfill_slices set time_at = $3, processed = processed + $4, changed = changed + $5
    where task_id = $1 and number = $2
"""
_END = """
    update backfill_tasks t set
        status = $2, finished_at = $3, error = $4,
        processed_records = processed_records + c.processed, changed_records = changed_records + c.changed
    from (
        select coalesce(sum(processed), 0)::bigint as processed, coalesce(sum(changed), 0)::bigint as changed
        from backfill_slices where task_id = $1
    ) c
    where id = $1 and status in ('pending', 'running')
    returning id
"""
_DROP_SLICES = "delete from backfill_slices where task_id = $1"
_DIRTY = "insert into dirty_minutes (first_id, series_ids, bucket_from, bucket_to) values ($1, $2, $3, $4)"


@dataclass(frozen=True, slots=True)
class NewTask:
    """What a task is to be."""

    sensor_id: UUID
    profile_id: UUID
    scope: Scope
    session_ids: Sequence[UUID]
    time_from: datetime | None
    time_to: datetime | None
    created_by: UUID


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a running task: readings of one series in a stretch of time."""

    number: int
    series_id: int
    stretch: Stretch


async def one(connection: Connection, task_id: UUID) -> Row | None:
    """A task with its progress, and its sensor's primary project."""
    return await connection.fetchrow(_ONE, task_id)


async def page(
    connection: Connection,
    user_id: UUID,
    project_id: UUID | None,
    sensor_id: UUID | None,
    status: str | None,
    limit: int,
    offset: int,
) -> tuple[list[Row], int]:
    """Tasks that the user may see, newest first, and how many there are in all."""
    wanted = user_id, project_id, sensor_id, status
    total: int = await connection.fetchval(_COUNT, *wanted)
    return await connection.fetch(_PAGE, *wanted, limit, offset), total


async def open_of_sensor(connection: Connection, sensor_id: UUID) -> int:
    """How many tasks of a sensor are pending or running."""
    count: int = await connection.fetchval(_OPEN_OF_SENSOR, sensor_id)
    return count


async def add(connection: Connection, new: NewTask, ruled: Sequence[Ruling], now: datetime) -> UUID:
    """A pending task, and what it decides for readings that are still to come.

    The catalogue must be locked: each ingest transaction is then wholly before, with lower ids, or obeys the rulings.
    """
    task_id = uuid7()
    before_id: int = await connection.fetchval(_DRAW_BEFORE_ID)
    asked = new.sensor_id, new.profile_id, new.scope, list(new.session_ids), new.time_from, new.time_to
    await connection.execute(_ADD, task_id, *asked, before_id, new.created_by, now)
    await rulings.add(connection, new.sensor_id, new.profile_id, task_id, ruled, now)
    return task_id


async def next_tasks(connection: Connection) -> list[Row]:
    """The oldest unfinished task of each sensor."""
    return await connection.fetch(_NEXT)


async def start(connection: Connection, task_id: UUID, slices: Sequence[Slice], total: int, now: datetime) -> bool:
    """Begin a pending task. Returns: whether it was one."""
    if await connection.fetchval(_START, task_id, now, total) is None:
        return False
    columns = [
        [one.number for one in slices],
        [one.series_id for one in slices],
        [to_datetime(one.stretch.from_us) for one in slices],
        [to_datetime(one.stretch.to_us) for one in slices],
    ]
    await connection.execute(_ADD_SLICES, task_id, *columns)
    return True


async def slices(connection: Connection, task_id: UUID) -> list[Slice]:
    """What of a running task is still to be done."""
    return [
        Slice(row["number"], row["series_id"], Stretch(to_us(row["time_at"]), to_us(row["time_to"])))
        for row in await connection.fetch(_SLICES, task_id)
    ]


async def lock_slice(connection: Connection, task_id: UUID, number: int) -> Slice | None:
    """What is left of a slice, for whoever works on it now; None where nothing is, or the task has ended."""
    row = await connection.fetchrow(_LOCK_SLICE, task_id, number)
    if row is None:
        return None
    return Slice(number, row["series_id"], Stretch(to_us(row["time_at"]), to_us(row["time_to"])))


async def move(connection: Connection, task_id: UUID, number: int, at_us: int, processed: int, changed: int) -> None:
    """Note that a slice is done up to before `at_us`."""
    await connection.execute(_MOVE, task_id, number, to_datetime(at_us), processed, changed)


async def end(connection: Connection, task_id: UUID, status: TaskStatus, error: str | None, now: datetime) -> bool:
    """End an unfinished task. Returns: whether it was one."""
    if await connection.fetchval(_END, task_id, status, now, error) is None:
        return False
    await connection.execute(_DROP_SLICES, task_id)
    return True


async def mark_dirty(connection: Connection, series_id: int, from_us: int, to_us: int) -> None:
    """Note that the minutes of these two times, and all between, are to be summed up again.

    The mark has the id 0: it is of no reading that has come.
    """
    bounds = (to_datetime(one // 60_000_000 * 60_000_000) for one in (from_us, to_us))
    await connection.execute(_DIRTY, 0, [series_id], *bounds)
