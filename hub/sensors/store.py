"""SQL of sensors."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import asyncpg

from hub.database.pool import Connection

if TYPE_CHECKING:
    Row: TypeAlias = asyncpg.Record
else:
    Row = asyncpg.Record

# Whoever changes what ingest remembers takes this lock before any row (see the migration): ingest shares it while it
# writes, and touches rows of sensors itself.
_LOCK_CATALOGUE = "select pg_advisory_xact_lock(1280459057, 1)"

# Whoever starts a session takes this lock before he looks for sensors (hub.sessions.store). Before the catalogue lock.
_LOCK_STARTS = "select pg_advisory_xact_lock(1280459057, 9)"

# Series of a sensor that the database has not heard of lately: the hub may have.
_UNHEARD = """
    case when s.last_heartbeat > now() - interval '10 seconds' then '{}'
         else array(select x.id from series x where x.sensor_id = s.id) end as unheard_series
"""
_COLUMNS = f"""
    s.id, s.project_id, s.name, s.type, s.input_unit, s.display_unit, s.status, s.token_preview, s.last_heartbeat,
    s.active_profile_id, s.calibration_notes, s.readings_per_s_max, s.created_at, s.updated_at,
    {_UNHEARD}
"""
_VISIBLE = """
    exists (
        select from sensor_projects p join project_members m on m.project_id = p.project_id
        where p.sensor_id = s.id and m.user_id = $1 and ($2::uuid is null or p.project_id = $2)
    )
"""
_FILTERED = f"""
    {_VISIBLE}
    and ($3::text is null or s.status = $3)
    and ($4::text is null or s.type = $4)
    and ($5::timestamptz is null or s.created_at >= $5)
    and ($6::timestamptz is null or s.created_at <= $6)
"""
_PAGE = f"""
    select {_COLUMNS} from sensors s where {_FILTERED}
    order by lower(s.name), s.id limit $7 offset $8
"""
_COUNT = f"select count(*) from sensors s where {_FILTERED}"
_ALL_HEARD = f"select s.id, s.status, s.last_heartbeat, {_UNHEARD} from sensors s where {_VISIBLE}"

_ONE = f"""
    select {_COLUMNS},
           (select role from project_members m where m.user_id = $2 and m.project_id = s.project_id) as role
    from sensors s
    where s.id = $1 and exists (
        select from sensor_projects p join project_members m on m.project_id = p.project_id
        where p.sensor_id = s.id and m.user_id = $2
    )
"""
_ADD = """
    insert into sensors (id, project_id, name, type, input_unit, display_unit, status, calibration_notes,
                         token_hash, token_preview, created_at, updated_at, readings_per_s_max)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, nullif($12::integer, 0))
"""
_ADD_PROJECT = "insert into sensor_projects (sensor_id, project_id) values ($1, $2) on conflict do nothing"
_REMOVE_PROJECT = "delete from sensor_projects where sensor_id = $1 and project_id = $2"
_PROJECTS = """
    select p.project_id from sensor_projects p join sensors s on s.id = p.sensor_id
    where p.sensor_id = $1 order by p.project_id <> s.project_id, p.project_id
"""
_CHANGE = """
    update sensors set
        name = coalesce($2, name), type = coalesce($3, type), input_unit = coalesce($4, input_unit),
        display_unit = coalesce($5, display_unit), status = coalesce($6, status),
        calibration_notes = coalesce($7, calibration_notes), updated_at = $8,
        readings_per_s_max = case when $9::integer is null then readings_per_s_max else nullif($9, 0) end
    where id = $1
"""
_SET_TOKEN = "update sensors set token_hash = $2, token_preview = $3, updated_at = $4 where id = $1"

_SESSIONS = """
    select c.id, c.run_id, c.ordinal_number, c.status
    from session_sensors w join capture_sessions c on c.id = w.session_id
    where w.sensor_id = $1 order by c.id
"""
_DELETE_WINDOWS = "delete from session_sensors where sensor_id = $1"
_DELETE_NAMED = "delete from named_readings where sensor_id = $1"
_DELETE_LATE = "delete from late_posts where sensor_id = $1"
_FORGET_NAMES = "update agent_bindings set state = 'deleted', sensor_id = null where sensor_id = $1"
_DELETE_STREAMS = "delete from ingest_streams where sensor_id = $1"
_DELETE_AGGREGATES = "delete from aggregates_1m where series_id in (select id from series where sensor_id = $1)"
_DELETE_METAS = "delete from reading_meta where series_id in (select id from series where sensor_id = $1)"
_DELETE_PREVIOUS = "delete from previous_profiles where series_id in (select id from series where sensor_id = $1)"
_DELETE_SERIES = "delete from series where sensor_id = $1"
_UNSET_PROFILE = "update sensors set active_profile_id = null where id = $1"
_DELETE = "delete from sensors where id = $1"


@dataclass(frozen=True, slots=True)
class SensorFields:
    """What people say about a sensor; None leaves it as it is."""

    name: str | None = None
    type: str | None = None
    input_unit: str | None = None
    display_unit: str | None = None
    status: str | None = None
    calibration_notes: str | None = None
    readings_per_s_max: int | None = None


@dataclass(frozen=True, slots=True)
class SensorFilter:
    """Which sensors of those that a user may see."""

    user_id: UUID
    project_id: UUID | None = None
    status: str | None = None
    type: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None

    def arguments(self) -> tuple[object, ...]:
        """In the order of the statements' parameters."""
        return self.user_id, self.project_id, self.status, self.type, self.created_after, self.created_before


async def lock_catalogue(connection: Connection) -> None:
    """Keep ingest out until the transaction ends; the first thing in one that changes sensors or profiles."""
    await connection.execute(_LOCK_CATALOGUE)


async def lock_starts(connection: Connection) -> None:
    """Let no session start until the transaction ends; to be taken before the catalogue lock."""
    await connection.execute(_LOCK_STARTS)


async def sessions(connection: Connection, sensor_id: UUID) -> list[Row]:
    """(id, run_id, ordinal_number, status) of the sessions that a sensor takes or took part in."""
    return await connection.fetch(_SESSIONS, sensor_id)


async def page(connection: Connection, wanted: SensorFilter, limit: int, offset: int) -> tuple[list[Row], int]:
    """Sensors by name, and how many there are in all."""
    rows = await connection.fetch(_PAGE, *wanted.arguments(), limit, offset)
    total: int = await connection.fetchval(_COUNT, *wanted.arguments())
    return rows, total


async def all_heard(connection: Connection, user_id: UUID, project_id: UUID | None) -> list[Row]:
    """(id, status, last_heartbeat, unheard_series) of all sensors that the user may see."""
    return await connection.fetch(_ALL_HEARD, user_id, project_id)


async def one(connection: Connection, sensor_id: UUID, user_id: UUID) -> Row | None:
    """A sensor that the user may see; `role` is the user's in its primary project, None for a member of others."""
    return await connection.fetchrow(_ONE, sensor_id, user_id)


async def add(
    connection: Connection,
    sensor_id: UUID,
    project_id: UUID,
    fields: SensorFields,
    token_hash: bytes,
    token_preview: str,
    now: datetime,
) -> None:
    """A new sensor in its primary project. Raises: asyncpg.UniqueViolationError (`sensors_name`)."""
    await connection.execute(
        _ADD,
        sensor_id,
        project_id,
        fields.name,
        fields.type or "",
        fields.input_unit or "",
        fields.display_unit or "",
        fields.status or "registering",
        fields.calibration_notes or "",
        token_hash,
        token_preview,
        now,
        fields.readings_per_s_max,
    )
    await connection.execute(_ADD_PROJECT, sensor_id, project_id)


async def change(connection: Connection, sensor_id: UUID, fields: SensorFields, now: datetime) -> None:
    """Other values. Raises: asyncpg.UniqueViolationError (`sensors_name`)."""
    await connection.execute(
        _CHANGE,
        sensor_id,
        fields.name,
        fields.type,
        fields.input_unit,
        fields.display_unit,
        fields.status,
        fields.calibration_notes,
        now,
        fields.readings_per_s_max,
    )


async def set_token(connection: Connection, sensor_id: UUID, token_hash: bytes, preview: str, now: datetime) -> None:
    """Another token; the old one is good for nothing from now on."""
    await connection.execute(_SET_TOKEN, sensor_id, token_hash, preview, now)


async def projects(connection: Connection, sensor_id: UUID) -> list[UUID]:
    """All projects of a sensor, its primary one first."""
    return [row["project_id"] for row in await connection.fetch(_PROJECTS, sensor_id)]


async def add_project(connection: Connection, sensor_id: UUID, project_id: UUID) -> None:
    """One more project."""
    await connection.execute(_ADD_PROJECT, sensor_id, project_id)


async def remove_project(connection: Connection, sensor_id: UUID, project_id: UUID) -> bool:
    """One project less. Returns: whether it was one of the sensor's."""
    status: str = await connection.execute(_REMOVE_PROJECT, sensor_id, project_id)
    return status != "DELETE 0"


async def delete(connection: Connection, sensor_id: UUID) -> None:
    """Remove a sensor, its profiles, series and aggregates, and its part in sessions, all of which must have ended.

    Agents that send under its name are told to stop (the binding stays, as `deleted`). The readings themselves are out
    of reach from then on, as nothing names their series any more, and go when retention drops their time: to find and
    delete them one by one would rewrite every partition they are in, compressed ones too.
    """
    statements = (
        _FORGET_NAMES,
        _DELETE_WINDOWS,
        _DELETE_NAMED,
        _DELETE_LATE,
        _DELETE_STREAMS,
        _DELETE_AGGREGATES,
        _DELETE_METAS,
        _DELETE_PREVIOUS,
        _DELETE_SERIES,
        _UNSET_PROFILE,
        _DELETE,
    )
    for statement in statements:
        await connection.execute(statement, sensor_id)
