"""SQL of personal tokens."""

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

_LOCK_USER = "select id from users where id = $1 for no key update"
_COUNT = """
    select count(*) from personal_tokens
    where user_id = $1 and revoked_at is null and (expires_at is null or expires_at > $2)
"""
_ADD = """
    insert into personal_tokens (id, user_id, name, token_hash, token_preview, scopes, created_at, expires_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8) returning *
"""
_PAGE = """
    select * from personal_tokens where user_id = $1 and revoked_at is null order by id desc limit $2 offset $3
"""
_TOTAL = "select count(*) from personal_tokens where user_id = $1 and revoked_at is null"
_REVOKE = """
    update personal_tokens set revoked_at = $3 where id = $1 and user_id = $2 and revoked_at is null returning *
"""
_PURGE = "delete from personal_tokens where revoked_at < $1 or expires_at < $1"


async def count_good(connection: Connection, user_id: UUID, now: datetime) -> int:
    """How many tokens of the user can be used; none is added by anyone else until the transaction ends."""
    await connection.execute(_LOCK_USER, user_id)
    return int(await connection.fetchval(_COUNT, user_id, now))


async def add(
    connection: Connection,
    *,
    token_id: UUID,
    user_id: UUID,
    name: str,
    token_hash: bytes,
    preview: str,
    scopes: Sequence[str],
    now: datetime,
    expires_at: datetime | None,
) -> Row:
    """A new token."""
    row = await connection.fetchrow(_ADD, token_id, user_id, name, token_hash, preview, scopes, now, expires_at)
    assert row is not None
    return row


async def page(connection: Connection, user_id: UUID, limit: int, offset: int) -> tuple[list[Row], int]:
    """The user's tokens, newest first, and how many there are; without those that were revoked."""
    rows = await connection.fetch(_PAGE, user_id, limit, offset)
    return rows, await connection.fetchval(_TOTAL, user_id)


async def revoke(connection: Connection, token_id: UUID, user_id: UUID, now: datetime) -> Row | None:
    """Make a token worthless. Returns: it, None if the user has no such one."""
    return await connection.fetchrow(_REVOKE, token_id, user_id, now)


async def purge(connection: Connection, before: datetime) -> None:
    """Forget tokens that ended before this moment."""
    await connection.execute(_PURGE, before)
