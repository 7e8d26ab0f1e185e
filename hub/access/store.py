"""SQL of people, their sign-ins and roles."""

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

_SENSOR_OF_TOKEN = """
    select s.id, s.name, s.status, s.project_id,
           array(select p.project_id from sensor_projects p where p.sensor_id = s.id) as project_ids
    from sensors s where s.token_hash = $1
"""

_USER_BY_LOGIN = "select * from users where lower(username) = lower($1) or lower(email) = lower($1) limit 1"
_USER = "select * from users where id = $1"

_ADD_USER = """
    insert into users (id, username, email, password_hash, is_admin, created_at)
    values ($1, $2, $3, $4, $5, $6)
    returning *
"""

_SET_PASSWORD = "update users set password_hash = $2, password_change_required = false where id = $1"

_RENEW_HASH = "update users set password_hash = $2 where id = $1"

_ADD_REFRESH = """
    insert into refresh_tokens (token_hash, family, user_id, issued_at, expires_at) values ($1, $2, $3, $4, $5)
"""

_REFRESH = """
    select t.family, t.expires_at, t.used_at, t.revoked_at, u.*
    from refresh_tokens t join users u on u.id = t.user_id
    where t.token_hash = $1
    for update of t
"""

_IS_TAKEN = "select exists (select from users where lower(username) = lower($1))"

_USE_REFRESH = "update refresh_tokens set used_at = $2 where token_hash = $1"
_REVOKE_FAMILY = "update refresh_tokens set revoked_at = $2 where family = $1 and revoked_at is null"
_REVOKE_USER = """
    update refresh_tokens set revoked_at = $2
    where user_id = $1 and revoked_at is null and family is distinct from $3
"""

_ADD_LINK = "insert into sign_in_links (token_hash, user_id, expires_at) values ($1, $2, $3)"
_USE_LINK = """
    update sign_in_links l set used_at = $2 from users u
    where l.token_hash = $1 and l.used_at is null and l.expires_at > $2 and u.id = l.user_id and u.is_active
    returning u.*
"""

_SEARCH = """
    select id, username from users
    where is_active and (username ilike $1 or lower(email) = lower($2))
    order by lower(username) limit $3
"""

_PURGE_REFRESH = """
    delete from refresh_tokens where family in (
        select family from refresh_tokens group by family having max(expires_at) < $1
    )
"""
_PURGE_LINKS = "delete from sign_in_links where expires_at < $1"


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


async def sensor_of_token(connection: Connection, token_hash: bytes) -> Row | None:
    """The sensor that this token belongs to, with its projects."""
    return await connection.fetchrow(_SENSOR_OF_TOKEN, token_hash)


async def user_by_login(connection: Connection, login: str) -> Row | None:
    """A user by name or e-mail address, whatever the case."""
    return await connection.fetchrow(_USER_BY_LOGIN, login)


async def user(connection: Connection, user_id: UUID) -> Row | None:
    """A user by id."""
    return await connection.fetchrow(_USER, user_id)


async def add_user(
    connection: Connection,
    *,
    user_id: UUID,
    username: str,
    email: str,
    password_hash: str,
    is_admin: bool,
    now: datetime,
) -> Row:
    """A new user. Raises: asyncpg.UniqueViolationError with the constraint `users_username` or `users_email`."""
    row = await connection.fetchrow(_ADD_USER, user_id, username, email, password_hash, is_admin, now)
    assert row is not None
    return row


async def is_taken(connection: Connection, username: str) -> bool:
    """Whether there is a user of this name."""
    return bool(await connection.fetchval(_IS_TAKEN, username))


async def set_password(connection: Connection, user_id: UUID, password_hash: str) -> None:
    """Another password; a change that was due is done."""
    await connection.execute(_SET_PASSWORD, user_id, password_hash)


async def renew_hash(connection: Connection, user_id: UUID, password_hash: str) -> None:
    """The same password, hashed with today's parameters."""
    await connection.execute(_RENEW_HASH, user_id, password_hash)


async def add_refresh(
    connection: Connection, token_hash: bytes, family: UUID, user_id: UUID, issued: datetime, expires: datetime
) -> None:
    """A refresh token of a family."""
    await connection.execute(_ADD_REFRESH, token_hash, family, user_id, issued, expires)


async def lock_refresh(connection: Connection, token_hash: bytes) -> Row | None:
    """A refresh token with its user, locked so that it is used once."""
    return await connection.fetchrow(_REFRESH, token_hash)


async def use_refresh(connection: Connection, token_hash: bytes, now: datetime) -> None:
    """Mark a refresh token as used."""
    await connection.execute(_USE_REFRESH, token_hash, now)


async def revoke_family(connection: Connection, family: UUID, now: datetime) -> None:
    """End a sign-in."""
    await connection.execute(_REVOKE_FAMILY, family, now)


async def revoke_user(connection: Connection, user_id: UUID, now: datetime, except_family: UUID | None = None) -> None:
    """End all sign-ins of a user but one."""
    await connection.execute(_REVOKE_USER, user_id, now, except_family)


async def add_link(connection: Connection, token_hash: bytes, user_id: UUID, expires: datetime) -> None:
    """A one-time sign-in link."""
    await connection.execute(_ADD_LINK, token_hash, user_id, expires)


async def use_link(connection: Connection, token_hash: bytes, now: datetime) -> Row | None:
    """The user of a link that is good; it is not from now on."""
    return await connection.fetchrow(_USE_LINK, token_hash, now)


async def search(connection: Connection, text: str, limit: int) -> list[Row]:
    """(id, username) of active users whose name contains the text or whose e-mail address it is."""
    pattern = "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    return await connection.fetch(_SEARCH, pattern, text, limit)


async def purge(connection: Connection, before: datetime) -> None:
    """Remove sign-ins and links that expired before this moment."""
    await connection.execute(_PURGE_REFRESH, before)
    await connection.execute(_PURGE_LINKS, before)
