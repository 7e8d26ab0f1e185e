"""SQL of agents, as people see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import asyncpg

from hub.database.pool import Connection

if TYPE_CHECKING:
    Row: TypeAlias = asyncpg.Record
else:
    Row = asyncpg.Record

_COLUMNS = """
    a.id, a.project_id, a.name, a.status, a.enrolled_at, a.last_seen, a.state, a.config_generation,
    a.revoked_at, a.revoked_reason, a.refused_since, a.voided_at,
    (select count(*) from agent_bindings b where b.agent_id = a.id and b.state = 'bound') as sensors,
    (select count(*) from agent_bindings b where b.agent_id = a.id and b.state = 'refused') as sensors_refused
"""
_MINE = """
    from agents a
    where a.project_id in (select m.project_id from project_members m where m.user_id = $1)
      and ($2::uuid is null or a.project_id = $2)
"""
_PAGE = f"select {_COLUMNS} {_MINE} order by lower(a.name), a.id limit $3 offset $4"
_COUNT = f"select count(*) {_MINE}"
_ONE = f"select {_COLUMNS} from agents a where a.id = $1"


async def page(
    connection: Connection, user_id: UUID, project_id: UUID | None, limit: int, offset: int
) -> tuple[list[Row], int]:
    """Agents of the user's projects (or of one) by name, and how many there are."""
    rows = await connection.fetch(_PAGE, user_id, project_id, limit, offset)
    total: int = await connection.fetchval(_COUNT, user_id, project_id)
    return rows, total


async def one(connection: Connection, agent_id: UUID) -> Row | None:
    """An agent."""
    return await connection.fetchrow(_ONE, agent_id)
