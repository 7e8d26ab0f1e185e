"""SQL of who is asking: people, sensors, roles."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import asyncpg

from hub.database.pool import Connection

if TYPE_CHECKING:
    Row: TypeAlias = asyncpg.Record
else:
    Row = asyncpg.Record

_ROLE = "select role from project_members where user_id = $1 and project_id = $2"
_ROLES = "select project_id, role from project_members where user_id = $1"

_USER_OF_FAMILY = """
    select u.* from users u
    where u.id = $1 and u.is_active
      and exists (select from refresh_tokens t where t.family = $2 and t.user_id = u.id and t.revoked_at is null)
"""

_USER_OF_PERSONAL_TOKEN = """
    with found as (
        select u.*, t.id as token_id, t.scopes as token_scopes
        from personal_tokens t join users u on u.id = t.user_id
        where t.token_hash = $1 and t.revoked_at is null and (t.expires_at is null or t.expires_at > $2) and u.is_active
    ), used as (
        update personal_tokens t set last_used_at = $2 from found
        where t.id = found.token_id and (t.last_used_at is null or t.last_used_at <= $2 - interval '1 minute')
    )
    select * from found
"""

_IS_TOKEN_OF_USER = """
    select exists (
        select from personal_tokens t join users u on u.id = t.user_id
        where u.id = $1 and t.id = $2 and u.is_active and not u.password_change_required
          and t.revoked_at is null and (t.expires_at is null or t.expires_at > $3)
    )
"""
_IS_TOKEN_OF_SENSOR = "select exists (select from sensors where id = $1 and token_hash = $2)"

_SENSOR_OF_TOKEN = """
    select s.id, s.name, s.status, s.project_id, s.readings_per_s_max,
           array(select p.project_id from sensor_projects p where p.sensor_id = s.id) as project_ids
    from sensors s where s.token_hash = $1
"""

_USER_BY_LOGIN = "select * from users where lower(username) = lower($1) or lower(email) = lower($1) limit 1"
_USER = "select * from users where id = $1"

_FOUND = "from users where is_active and (username ilike $1 or lower(email) = lower($2))"
_SEARCH = f"select id, username {_FOUND} order by lower(username) limit $3 offset $4"
_COUNT_FOUND = f"select count(*) {_FOUND}"


async def role(connection: Connection, user_id: UUID, project_id: UUID) -> str | None:
    """The user's role in the project."""
    found: str | None = await connection.fetchval(_ROLE, user_id, project_id)
    return found


async def roles(connection: Connection, user_id: UUID) -> list[Row]:
    """(project_id, role) of all the user's projects."""
    return await connection.fetch(_ROLES, user_id)


async def user_of_family(connection: Connection, user_id: UUID, family: UUID) -> Row | None:
    """An active user whose sign-in has not ended."""
    return await connection.fetchrow(_USER_OF_FAMILY, user_id, family)


async def user_of_personal_token(connection: Connection, token_hash: bytes, now: datetime) -> Row | None:
    """An active user whose personal token this is, with `token_id` and `token_scopes`; notes its use once a minute."""
    return await connection.fetchrow(_USER_OF_PERSONAL_TOKEN, token_hash, now)


async def is_token_of_user(connection: Connection, user_id: UUID, token_id: UUID, now: datetime) -> bool:
    """Whether a personal token is good, its user active, and no change of the password due."""
    return bool(await connection.fetchval(_IS_TOKEN_OF_USER, user_id, token_id, now))


async def is_token_of_sensor(connection: Connection, sensor_id: UUID, token_hash: bytes) -> bool:
    """Whether this still is the sensor's token."""
    return bool(await connection.fetchval(_IS_TOKEN_OF_SENSOR, sensor_id, token_hash))


async def sensor_of_token(connection: Connection, token_hash: bytes) -> Row | None:
    """The sensor that this token belongs to, with its projects."""
    return await connection.fetchrow(_SENSOR_OF_TOKEN, token_hash)


async def user_by_login(connection: Connection, login: str) -> Row | None:
    """A user by name or e-mail address, whatever the case."""
    return await connection.fetchrow(_USER_BY_LOGIN, login)


async def user(connection: Connection, user_id: UUID) -> Row | None:
    """A user by id."""
    return await connection.fetchrow(_USER, user_id)


async def search(connection: Connection, text: str, limit: int, offset: int) -> tuple[list[Row], int]:
    """(id, username) of active users whose name contains the text or whose e-mail address it is, and how many."""
    pattern = "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    rows = await connection.fetch(_SEARCH, pattern, text, limit, offset)
    total: int = await connection.fetchval(_COUNT_FOUND, pattern, text)
    return rows, total
