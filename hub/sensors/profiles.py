"""Conversion profiles in the database: drafts, publication, and the activation of what was scheduled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from hub.database.ids import uuid7
from hub.database.pool import Connection
from hub.errors import conflict
from hub.sensors import splits
from hub.sensors.rules import ProfileStatus, in_force_from
from hub.sensors.store import Row, lock_catalogue
from hub.sensors.views import Split

_COLUMNS = """
    id, sensor_id, version, kind, payload, status, valid_from, valid_to, created_by, published_by, created_at,
    published_at,
    case when is_split then jsonb_build_object(
        'run_ids', coalesce(split_run_ids, '{}'), 'capture_session_ids', coalesce(split_session_ids, '{}')
    ) end as split
"""
_PAGE = f"""
    select {_COLUMNS} from conversion_profiles
    where sensor_id = $1 and ($2::text is null or status = $2)
    order by created_at desc, id desc limit $3 offset $4
"""
_COUNT = "select count(*) from conversion_profiles where sensor_id = $1 and ($2::text is null or status = $2)"
_ONE = f"select {_COLUMNS} from conversion_profiles where id = $1 and sensor_id = $2"
_ADD = """
    insert into conversion_profiles
        (id, sensor_id, version, kind, payload, valid_from, valid_to, created_by, created_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""
_WAS_PUBLISHED = """
    select exists (
        select from conversion_profiles where sensor_id = $1 and id <> $2 and published_at is not null and not is_split
    )
"""
_SCHEDULE = """
    update conversion_profiles set status = 'scheduled', valid_from = $2, published_by = $3, published_at = $4
    where id = $1
"""
_DEPRECATE = """
    update conversion_profiles set
        status = 'deprecated',
        valid_to = greatest(valid_from, least(valid_to, $3))
    where sensor_id = $1 and id <> $2 and status = 'active' and not is_split
    returning id
"""
_END = """
    update conversion_profiles set
        status = 'deprecated',
        valid_to = case when status = 'active' then greatest(valid_from, least(valid_to, $2)) else valid_to end,
        published_at = case when status = 'scheduled' then null else published_at end
    where id = $1
"""
_UNSET_ACTIVE = "update sensors set active_profile_id = null, updated_at = $2 where active_profile_id = $1"
_ACTIVATE = """
    update conversion_profiles set
        status = 'active', valid_from = $2,
        published_by = coalesce(published_by, $3), published_at = coalesce(published_at, $4)
    where id = $1
"""
_SET_ACTIVE = "update sensors set active_profile_id = $2, updated_at = $3 where id = $1"
_DUE = """
    select p.id, p.sensor_id, p.valid_from, p.is_split, s.project_id
    from conversion_profiles p join sensors s on s.id = p.sensor_id
    where p.status = 'scheduled' and p.valid_from <= $1
    order by p.valid_from, p.id limit 1000
"""
_IS_DUE = "select exists (select from conversion_profiles where status = 'scheduled' and valid_from <= $1)"


@dataclass(frozen=True, slots=True)
class Published:
    """A profile that was put in force, or scheduled, and those that it has taken out of force."""

    sensor_id: UUID
    profile_id: UUID
    deprecated: Sequence[UUID] = ()


async def page(
    connection: Connection, sensor_id: UUID, status: str | None, limit: int, offset: int
) -> tuple[list[Row], int]:
    """A sensor's profiles, newest first, and how many there are in all."""
    rows = await connection.fetch(_PAGE, sensor_id, status, limit, offset)
    total: int = await connection.fetchval(_COUNT, sensor_id, status)
    return rows, total


async def one(connection: Connection, profile_id: UUID, sensor_id: UUID) -> Row | None:
    """A profile of this sensor."""
    return await connection.fetchrow(_ONE, profile_id, sensor_id)


async def add(
    connection: Connection,
    sensor_id: UUID,
    *,
    version: str,
    kind: str,
    payload: dict[str, Any],
    valid_from: datetime | None,
    valid_to: datetime | None,
    created_by: UUID,
    now: datetime,
) -> UUID:
    """A draft. Raises: asyncpg.UniqueViolationError for a version that the sensor has already."""
    profile_id = uuid7()
    await connection.execute(_ADD, profile_id, sensor_id, version, kind, payload, valid_from, valid_to, created_by, now)
    return profile_id


async def publish(
    connection: Connection,
    profile: Row,
    *,
    published_by: UUID,
    valid_from: datetime | None,
    now: datetime,
    split: Split | None = None,
) -> Published:
    """Put a draft in force, or schedule it if its time is still to come.

    The catalogue must be locked (`lock_catalogue`), so that no ingest and no other publication is under way.

    Args:
        valid_from: overrides the draft's own.
        split: what it is to hold for only, beside the default one.

    Raises: Problem 409 for what is no draft any more.
    """
    if profile["status"] != ProfileStatus.DRAFT:
        raise conflict(f"the profile is {profile['status']} already; published profiles never change", code="published")
    if split is not None:
        await splits.split_off(connection, profile["id"], split)
    asked = valid_from or profile["valid_from"]
    if asked is not None and asked > now:
        await connection.execute(_SCHEDULE, profile["id"], asked, published_by, now)
        return Published(profile["sensor_id"], profile["id"])
    sensor_id, profile_id = profile["sensor_id"], profile["id"]
    is_first = split is None and not await connection.fetchval(_WAS_PUBLISHED, sensor_id, profile_id)
    start = in_force_from(asked, now, is_first=is_first)
    return await _activate(connection, sensor_id, profile_id, start, published_by, now, is_split=split is not None)


async def deprecate(connection: Connection, profile: Row, now: datetime) -> bool:
    """Take a profile out of use: an active one holds no longer than now, one that is scheduled never will.

    The catalogue must be locked. Returns: whether it was in use, or could have come to be.
    """
    if profile["status"] == ProfileStatus.DEPRECATED:
        return False
    await connection.execute(_END, profile["id"], now)
    await connection.execute(_UNSET_ACTIVE, profile["id"], now)
    return True


async def activate_scheduled(connection: Connection, now: datetime) -> list[tuple[UUID, Published]]:
    """Put in force what was scheduled and is due; any number of hubs may do so.

    Returns: what was published, each with its sensor's primary project.
    """
    if not await connection.fetchval(_IS_DUE, now):
        return []
    await lock_catalogue(connection)
    activated = []
    for row in await connection.fetch(_DUE, now):
        sensor_id, profile_id, start, is_split = row["sensor_id"], row["id"], row["valid_from"], row["is_split"]
        published = await _activate(connection, sensor_id, profile_id, start, None, now, is_split=is_split)
        activated.append((row["project_id"], published))
    return activated


async def _activate(
    connection: Connection,
    sensor_id: UUID,
    profile_id: UUID,
    valid_from: datetime | None,
    published_by: UUID | None,
    now: datetime,
    *,
    is_split: bool,
) -> Published:
    """Put a profile in force: in place of the default one, or of the splits that nothing else is left to."""
    await connection.execute(_ACTIVATE, profile_id, valid_from, published_by, now)
    if is_split:
        taken = await splits.take_over(connection, sensor_id, profile_id, valid_from or now)
        return Published(sensor_id, profile_id, taken)
    rows = await connection.fetch(_DEPRECATE, sensor_id, profile_id, valid_from or now)
    await connection.execute(_SET_ACTIVE, sensor_id, profile_id, now)
    return Published(sensor_id, profile_id, [row["id"] for row in rows])
