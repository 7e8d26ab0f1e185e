"""SQL of an agent's bindings: which sensors it means by the names in its configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import asyncpg

from hub.database.pool import Connection

if TYPE_CHECKING:
    Row: TypeAlias = asyncpg.Record
else:
    Row = asyncpg.Record

# A sensor that is gone leaves its name behind, deleted.
_OF_AGENT = """
    select b.sensor_name, case when b.state = 'bound' then b.sensor_id end as sensor_id,
           case when b.state = 'bound' and b.sensor_id is null then 'deleted' else b.state end as state
    from agent_bindings b where b.agent_id = $1
"""
_PAGE = f"""
    select b.sensor_name, b.sensor_id, b.state, s.name, s.status, s.active_profile_id,
           array(
               select jsonb_build_object('signal', x.signal, 'unit', x.unit)
               from series x where x.sensor_id = b.sensor_id order by x.signal
           ) as signals
    from ({_OF_AGENT}) as b left join sensors s on s.id = b.sensor_id
    where $2::text is null or b.state = $2
    order by b.sensor_name limit $3 offset $4
"""
_COUNT = f"select count(*) from ({_OF_AGENT}) as b where $2::text is null or b.state = $2"


async def page(
    connection: Connection, agent_id: UUID, state: str | None, limit: int, offset: int
) -> tuple[list[Row], int]:
    """An agent's bindings by name, those in one state or all, and how many there are."""
    rows = await connection.fetch(_PAGE, agent_id, state, limit, offset)
    total: int = await connection.fetchval(_COUNT, agent_id, state)
    return rows, total
