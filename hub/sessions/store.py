"""SQL of capture sessions and of who takes part in them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import asyncpg

from hub.database.pool import Connection

if TYPE_CHECKING:
    Row: TypeAlias = asyncpg.Record
else:
    Row = asyncpg.Record

# Of those who start sessions one goes after the other, so that two who want the same sensor do not wait for each other.
_LOCK_STARTS = "select pg_advisory_xact_lock(1280459057, 9)"

_SHOWN = "select s.*, coalesce(l.held_records, 0) as held_records"
_FROM = "from capture_sessions s left join session_late l on l.session_id = s.id"
_ONE = f"{_SHOWN} {_FROM} where s.id = $1 and s.run_id = $2"
_FILTERED = "run_id = $1 and ($2::text is null or status = $2) and ($3::boolean is null or archived = $3)"
_PAGE = f"{_SHOWN} {_FROM} where {_FILTERED} order by ordinal_number limit $4 offset $5"
_COUNT = f"select count(*) from capture_sessions where {_FILTERED}"
_ADD = """
    insert into capture_sessions (id, run_id, project_id, ordinal_number, initiated_by, notes, late_rest, late_agents,
                                  created_at, updated_at)
    values ($1, $2, $3, coalesce($4, (select coalesce(max(ordinal_number), 0) + 1 from capture_sessions
                                      where run_id = $2)), $5, $6, $7, $8, $9, $9)
"""
_SET_NOTES = "update capture_sessions set notes = $2, updated_at = $3, version = version + 1 where id = $1"
_START = """
    update capture_sessions set status = 'running', started_at = $2, updated_at = $3, version = version + 1
    where id = $1
"""
_STOP = """
    update capture_sessions
    set status = $2, stopped_at = $3, late_from_id = draw_late_from_id(), updated_at = $4, version = version + 1
    where id = $1
"""
_CLOSE_WINDOWS = """
    update session_sensors set time_to = greatest(time_from, $2) where session_id = $1 and time_to is null
"""
# What counts below $2 goes on counting, and nothing else ever will.
_ARCHIVE = """
    update capture_sessions s
    set status = 'archived', archived = true, late_rest = 'hold', late_agents = 'hold', updated_at = $3,
        late_ids = case when late_from_id is null then late_ids
                        else late_ids + (int8multirange(int8range(late_from_id, $2)) - held_ids(s)) end,
        version = version + 1
    where id = $1
"""
_START_BACKFILL = """
    update capture_sessions
    set status = 'backfilling', status_before_backfill = status, updated_at = $2,
        late_ids = late_ids + int8multirange(int8range(draw_late_from_id(), null)), version = version + 1
    where id = $1
"""
_COMPLETE_BACKFILL = """
    update capture_sessions
    set status = status_before_backfill, status_before_backfill = null, updated_at = $3,
        late_ids = late_ids - int8multirange(int8range($2, null)) + int8multirange(int8range(late_from_id, $2)),
        version = version + 1
    where id = $1
"""
_DRAW_LATE_FROM = "select draw_late_from_id()"
_DELETE = "delete from capture_sessions where id = $1"

# A sensor that was taken out of the project since stays attached to its runs, and takes no part any more.
_ATTACHED = """
    select s.id, s.name from run_sensors r join sensors s on s.id = r.sensor_id
    join runs on runs.id = r.run_id
    join sensor_projects p on p.sensor_id = s.id and p.project_id = runs.project_id
    where r.run_id = $1 and s.status <> 'decommissioned' order by s.id
"""
_OF_PROJECT = """
    select s.id, s.name from sensor_projects p join sensors s on s.id = p.sensor_id
    where p.project_id = $1 and s.status <> 'decommissioned' order by s.id
"""
_TAKEN = """
    select w.sensor_id, w.session_id, c.ordinal_number, c.status, c.run_id
    from session_sensors w join capture_sessions c on c.id = w.session_id
    where w.sensor_id = any($1::uuid[]) and w.session_id <> $2
      and tstzrange(w.time_from, w.time_to) && tstzrange($3, $4)
    order by w.sensor_id, w.time_from
"""
_OPEN_WINDOWS = """
    insert into session_sensors (session_id, sensor_id, time_from, time_to)
    select $1, one, $3, $4 from unnest($2::uuid[]) as one
"""
_WINDOWS = """
    select session_id, sensor_id, time_from, time_to from session_sensors
    where session_id = any($1::uuid[]) order by session_id, sensor_id
"""


async def lock_starts(connection: Connection) -> None:
    """Let nobody else start a session until the transaction ends."""
    await connection.execute(_LOCK_STARTS)


async def one(connection: Connection, session_id: UUID, run_id: UUID, *, lock: bool = False) -> Row | None:
    """A session of a run; with `lock`, nobody else changes it until the transaction ends."""
    return await connection.fetchrow(_ONE + (" for no key update of s" if lock else ""), session_id, run_id)


async def page(
    connection: Connection, run_id: UUID, status: str | None, archived: bool | None, limit: int, offset: int
) -> tuple[list[Row], int]:
    """Sessions of a run by their number, and how many there are in all."""
    rows = await connection.fetch(_PAGE, run_id, status, archived, limit, offset)
    total: int = await connection.fetchval(_COUNT, run_id, status, archived)
    return rows, total


async def add(
    connection: Connection,
    session_id: UUID,
    run_id: UUID,
    project_id: UUID,
    *,
    ordinal_number: int | None,
    initiated_by: UUID,
    notes: str,
    late: tuple[str, str],
    now: datetime,
) -> None:
    """A new draft; its number is the next one unless given.

    Args:
        late: what becomes of late readings of posts, and of agents.

    Raises: asyncpg.UniqueViolationError for a number that is taken.
    """
    await connection.execute(_ADD, session_id, run_id, project_id, ordinal_number, initiated_by, notes, *late, now)


async def set_notes(connection: Connection, session_id: UUID, notes: str, now: datetime) -> None:
    """Other notes."""
    await connection.execute(_SET_NOTES, session_id, notes, now)


async def start(connection: Connection, session_id: UUID, started_at: datetime, now: datetime) -> None:
    """It is running."""
    await connection.execute(_START, session_id, started_at, now)


async def stop(connection: Connection, session_id: UUID, status: str, stopped_at: datetime, now: datetime) -> None:
    """It has ended: its windows are closed, and what comes from now on is late."""
    await connection.execute(_CLOSE_WINDOWS, session_id, stopped_at)
    await connection.execute(_STOP, session_id, status, stopped_at, now)


async def archive(connection: Connection, session_id: UUID, before_id: int, now: datetime) -> None:
    """It is put away: of what is late, that which counts now and has a lower id counts for ever, the rest never."""
    await connection.execute(_ARCHIVE, session_id, before_id, now)


async def start_backfill(connection: Connection, session_id: UUID, now: datetime) -> None:
    """Late readings count as they come, from now on."""
    await connection.execute(_START_BACKFILL, session_id, now)


async def draw_late_from(connection: Connection) -> int:
    """An id above all that is committed; keeps ingest out until the transaction ends.

    In a statement of its own, before the one that looks at what was ingested: its snapshot must come after the wait.
    """
    drawn: int = await connection.fetchval(_DRAW_LATE_FROM)
    return drawn


async def complete_backfill(connection: Connection, session_id: UUID, before_id: int, now: datetime) -> None:
    """It is what it was before; late readings below `before_id` count, later ones are held back again."""
    await connection.execute(_COMPLETE_BACKFILL, session_id, before_id, now)


async def delete(connection: Connection, session_id: UUID) -> None:
    """Remove a session; its readings stay."""
    await connection.execute(_DELETE, session_id)


async def attached(connection: Connection, run_id: UUID) -> dict[UUID, str]:
    """Names of the sensors that are attached to a run, by id."""
    return {row["id"]: row["name"] for row in await connection.fetch(_ATTACHED, run_id)}


async def of_project(connection: Connection, project_id: UUID) -> dict[UUID, str]:
    """Names of a project's sensors, by id."""
    return {row["id"]: row["name"] for row in await connection.fetch(_OF_PROJECT, project_id)}


async def taken(
    connection: Connection,
    sensor_ids: Sequence[UUID],
    session_id: UUID,
    started_at: datetime,
    stopped_at: datetime | None,
) -> list[Row]:
    """(sensor_id, session_id, ordinal_number, status, run_id) of other sessions' windows within this time."""
    return await connection.fetch(_TAKEN, sensor_ids, session_id, started_at, stopped_at)


async def open_windows(
    connection: Connection,
    session_id: UUID,
    sensor_ids: Sequence[UUID],
    started_at: datetime,
    stopped_at: datetime | None,
) -> None:
    """Let these sensors take part. Raises: asyncpg.ExclusionViolationError."""
    await connection.execute(_OPEN_WINDOWS, session_id, sensor_ids, started_at, stopped_at)


async def windows(connection: Connection, session_ids: Sequence[UUID]) -> list[Row]:
    """(session_id, sensor_id, time_from, time_to) of all who take part in these sessions."""
    return await connection.fetch(_WINDOWS, session_ids)
