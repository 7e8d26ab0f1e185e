"""SQL of invitations."""

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

_ADD = """
    insert into invitations (id, token_hash, email, project_id, role, created_by, created_at, expires_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8)
"""
_IS_GOOD = """
    i.token_hash = $1 and i.used_at is null and i.revoked_at is null and i.expires_at > $2
    and exists (
        select from users maker where maker.id = i.created_by and maker.is_active and (
            i.project_id is null and maker.is_admin
            or exists (
                select from project_members m
                where m.project_id = i.project_id and m.user_id = maker.id and m.role = 'owner'
            )
        )
    )
"""
_FIND = f"select i.* from invitations i where {_IS_GOOD}"
_TAKE = f"update invitations i set used_at = $2 where {_IS_GOOD} returning i.*"
_NOTE_USER = "update invitations set used_by = $2 where id = $1"

# Those of a project are its owners' business, those without one the administrators'.
_SEEN_BY = """
    case when i.project_id is null then $2 else exists (
        select from project_members m where m.project_id = i.project_id and m.user_id = $1 and m.role = 'owner'
    ) end
"""
_PAGE = f"""
    select i.*, p.name as project_name from invitations i left join projects p on p.id = i.project_id
    where {_SEEN_BY} and ($3::uuid is null or i.project_id = $3)
    order by i.id desc limit $4 offset $5
"""
_COUNT = f"select count(*) from invitations i where {_SEEN_BY} and ($3::uuid is null or i.project_id = $3)"
_ONE = f"""
    select i.*, p.name as project_name from invitations i left join projects p on p.id = i.project_id
    where {_SEEN_BY} and i.id = $3
"""
_REVOKE = """
    update invitations set revoked_at = $2 where id = $1 and used_at is null and revoked_at is null returning id
"""
_PURGE = "delete from invitations where expires_at < $1 and used_at is null"


async def add(
    connection: Connection,
    *,
    invitation_id: UUID,
    token_hash: bytes,
    email: str,
    project_id: UUID | None,
    role: str | None,
    created_by: UUID,
    now: datetime,
    expires_at: datetime,
) -> None:
    """A new invitation."""
    await connection.execute(_ADD, invitation_id, token_hash, email, project_id, role, created_by, now, expires_at)


async def find(connection: Connection, token_hash: bytes, now: datetime) -> Row | None:
    """The invitation, if it can be used now."""
    return await connection.fetchrow(_FIND, token_hash, now)


async def take(connection: Connection, token_hash: bytes, now: datetime) -> Row | None:
    """The same, used up."""
    return await connection.fetchrow(_TAKE, token_hash, now)


async def note_user(connection: Connection, invitation_id: UUID, user_id: UUID) -> None:
    """Who came with it."""
    await connection.execute(_NOTE_USER, invitation_id, user_id)


async def page(
    connection: Connection, user_id: UUID, is_admin: bool, project_id: UUID | None, limit: int, offset: int
) -> tuple[list[Row], int]:
    """The invitations that are the user's business, newest first, and how many there are."""
    rows = await connection.fetch(_PAGE, user_id, is_admin, project_id, limit, offset)
    return rows, await connection.fetchval(_COUNT, user_id, is_admin, project_id)


async def one(connection: Connection, user_id: UUID, is_admin: bool, invitation_id: UUID) -> Row | None:
    """One of these."""
    return await connection.fetchrow(_ONE, user_id, is_admin, invitation_id)


async def revoke(connection: Connection, invitation_id: UUID, now: datetime) -> bool:
    """Withdraw it. Returns: whether it was still to be used."""
    return await connection.fetchval(_REVOKE, invitation_id, now) is not None


async def purge(connection: Connection, before: datetime) -> None:
    """Forget those that nobody used and that expired before this moment."""
    await connection.execute(_PURGE, before)
