"""SQL of the sensors attached to runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from hub.database.pool import Connection
from hub.runs.store import Row

_LIST = """
    select s.id, s.name, s.type, s.status, r.attached_at
    from run_sensors r join sensors s on s.id = r.sensor_id
    where r.run_id = $1 order by lower(s.name), s.id
"""
# Whoever takes a sensor out of the project waits.
_OF_PROJECT = """
    select s.id, s.status from sensor_projects p join sensors s on s.id = p.sensor_id
    where p.project_id = $1 and p.sensor_id = any($2) order by s.id for share of p
"""
_DETACH = "delete from run_sensors where run_id = $1 and sensor_id <> all($2)"
_ATTACH = """
    insert into run_sensors (run_id, sensor_id, attached_at) select $1, sensor_id, $3 from unnest($2::uuid[]) sensor_id
    on conflict do nothing
"""


async def attached(connection: Connection, run_id: UUID) -> list[Row]:
    """The run's sensors by name."""
    return await connection.fetch(_LIST, run_id)


async def statuses(connection: Connection, project_id: UUID, sensor_ids: Sequence[UUID]) -> dict[UUID, str]:
    """The statuses of those of these sensors that belong to the project, and do so until the transaction ends."""
    return {row["id"]: row["status"] for row in await connection.fetch(_OF_PROJECT, project_id, sensor_ids)}


async def attach(connection: Connection, run_id: UUID, sensor_ids: Sequence[UUID], now: datetime) -> None:
    """Make these the run's sensors, and no others."""
    await connection.execute(_DETACH, run_id, sensor_ids)
    await connection.execute(_ATTACH, run_id, sensor_ids, now)
