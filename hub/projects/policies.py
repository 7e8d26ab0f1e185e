"""SQL of the policies that projects write; `hub.access.policies` reads them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import asyncpg

from hub.database.pool import Connection

if TYPE_CHECKING:
    Row: TypeAlias = asyncpg.Record
else:
    Row = asyncpg.Record

_ONE = "select * from project_policies where project_id = $1"
_SET = """
    insert into project_policies (project_id, late_data, viewers_see_raw, retention_days, clock_skew_s,
                                  session_start_role, updated_at, version)
    values ($1, $2, $3, $4, $5, $6, $7, 2)
    on conflict (project_id) do update set
        late_data = excluded.late_data,
        viewers_see_raw = excluded.viewers_see_raw,
        retention_days = excluded.retention_days,
        clock_skew_s = excluded.clock_skew_s,
        session_start_role = excluded.session_start_role,
        updated_at = excluded.updated_at,
        version = project_policies.version + 1
"""


async def one(connection: Connection, project_id: UUID) -> Row | None:
    """What the project has decided, if anything."""
    return await connection.fetchrow(_ONE, project_id)


async def decide(connection: Connection, project_id: UUID, values: Mapping[str, Any], now: datetime) -> None:
    """All policies of a project."""
    names = ("late_data", "viewers_see_raw", "retention_days", "clock_skew_s", "session_start_role")
    await connection.execute(_SET, project_id, *(values[name] for name in names), now)
