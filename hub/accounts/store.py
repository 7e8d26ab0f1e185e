"""SQL of accounts: people, their sign-ins, one-time links."""

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

_ADD_USER = """
    insert into users (id, username, email, password_hash, is_admin, created_at)
    values ($1, $2, $3, $4, $5, $6)
    returning *
"""

_SET_PASSWORD = """
    update users set password_hash = $2, password_change_required = false, version = version + 1 where id = $1
"""

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

_VOID_LINKS = "update sign_in_links set used_at = $2 where user_id = $1 and used_at is null"

_ADD_LINK = "insert into sign_in_links (token_hash, user_id, expires_at) values ($1, $2, $3)"
_USE_LINK = """
    update sign_in_links l set used_at = $2 from users u
    where l.token_hash = $1 and l.used_at is null and l.expires_at > $2 and u.id = l.user_id and u.is_active
    returning u.*
"""

_MATCHES = """
    ($1 = '' or strpos(lower(username), lower($1)) > 0 or strpos(lower(email), lower($1)) > 0)
    and ($2::boolean is null or is_active = $2)
"""
_PAGE = f"select * from users where {_MATCHES} order by lower(username) limit $3 offset $4"
_COUNT = f"select count(*) from users where {_MATCHES}"
_LOCK_ADMINS = "select pg_advisory_xact_lock(1280459057, 7)"
_HAS_OTHER_ADMIN = "select exists (select from users where is_admin and is_active and id <> $1)"
_CHANGE_USER = """
    update users set is_active = $2, is_admin = $3, password_change_required = $4, version = version + 1 where id = $1
"""

_PURGE_REFRESH = """
    delete from refresh_tokens where family in (
        select family from refresh_tokens group by family having max(expires_at) < $1
    )
"""
_PURGE_LINKS = "delete from sign_in_links where expires_at < $1"


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
    """End all sign-ins of a user but one, and void the links that would begin another."""
    await connection.execute(_REVOKE_USER, user_id, now, except_family)
    await connection.execute(_VOID_LINKS, user_id, now)


async def add_link(connection: Connection, token_hash: bytes, user_id: UUID, expires: datetime) -> None:
    """A one-time sign-in link."""
    await connection.execute(_ADD_LINK, token_hash, user_id, expires)


async def use_link(connection: Connection, token_hash: bytes, now: datetime) -> Row | None:
    """The user of a link that is good; it is not from now on."""
    return await connection.fetchrow(_USE_LINK, token_hash, now)


async def page(
    connection: Connection, text: str, is_active: bool | None, limit: int, offset: int
) -> tuple[list[Row], int]:
    """Users by name, and how many there are."""
    rows = await connection.fetch(_PAGE, text, is_active, limit, offset)
    return rows, await connection.fetchval(_COUNT, text, is_active)


async def lock_admins(connection: Connection) -> None:
    """Let nobody else change administrators until the transaction ends."""
    await connection.execute(_LOCK_ADMINS)


async def has_other_admin(connection: Connection, user_id: UUID) -> bool:
    """Whether someone beside this user is an active administrator."""
    return bool(await connection.fetchval(_HAS_OTHER_ADMIN, user_id))


async def change_user(
    connection: Connection, user_id: UUID, is_active: bool, is_admin: bool, password_change_required: bool
) -> None:
    """Change what administrators may."""
    await connection.execute(_CHANGE_USER, user_id, is_active, is_admin, password_change_required)


async def purge(connection: Connection, before: datetime) -> None:
    """Remove sign-ins and links that expired before this moment."""
    await connection.execute(_PURGE_REFRESH, before)
    await connection.execute(_PURGE_LINKS, before)
