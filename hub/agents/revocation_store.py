"""SQL of revoking agents."""

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

_LOCK = """
    select a.id, a.project_id, a.name, a.status, a.refused_since, a.voided_at, m.role
    from agents a left join project_members m on m.project_id = a.project_id and m.user_id = $2
    where a.id = $1
    for update of a
"""
_REVOKE = """
    update agents
    set status = $2, connection = 'offline', connection_since = $5, revoked_at = $5, revoked_by = $3,
        revoked_reason = $4, refused_since = case when $2 = 'compromised' then coalesce(refused_since, $5) end
    where id = $1
"""
_DELIVERING = """
    select id, project_id, name, revoked_at from agents
    where status = 'retired' and refused_since is null and id > $1
    order by id limit $2
"""
_REFUSE = """
    update agents set refused_since = $2 where id = $1 and status = 'retired' and refused_since is null returning id
"""
_TO_VOID = """
    select id from agents
    where status <> 'enrolled' and refused_since is not null and voided_at is null
    order by refused_since, id limit $1
"""
_LOCK_TO_VOID = """
    select id from agents
    where id = $1 and status <> 'enrolled' and refused_since is not null and voided_at is null
    for update
"""
_VOIDED = "update agents set voided_at = $2 where id = $1"


async def lock(connection: Connection, agent_id: UUID, user_id: UUID) -> Row | None:
    """An agent that nobody else changes until the transaction ends, with the user's `role` (null for outsiders)."""
    return await connection.fetchrow(_LOCK, agent_id, user_id)


async def revoke(
    connection: Connection, agent_id: UUID, status: str, user_id: UUID, reason: str, now: datetime
) -> None:
    """Retired, it may still deliver what it holds; compromised, nothing is taken of it any more."""
    await connection.execute(_REVOKE, agent_id, status, user_id, reason, now)


async def delivering(connection: Connection, after: UUID, limit: int) -> list[Row]:
    """Retired agents that may still deliver, by id."""
    return await connection.fetch(_DELIVERING, after, limit)


async def refuse(connection: Connection, agent_id: UUID, now: datetime) -> bool:
    """Take nothing more of a retired agent. Returns: whether it still might deliver."""
    return await connection.fetchval(_REFUSE, agent_id, now) is not None


async def to_void(connection: Connection, limit: int) -> list[UUID]:
    """Agents whose credentials are to be voided, longest waiting first."""
    return [row["id"] for row in await connection.fetch(_TO_VOID, limit)]


async def lock_to_void(connection: Connection, agent_id: UUID) -> bool:
    """Whether its credentials are still to be voided; it cannot enrol again before the transaction ends."""
    return await connection.fetchval(_LOCK_TO_VOID, agent_id) is not None


async def voided(connection: Connection, agent_id: UUID, now: datetime) -> None:
    """The broker has voided the credentials."""
    await connection.execute(_VOIDED, agent_id, now)
