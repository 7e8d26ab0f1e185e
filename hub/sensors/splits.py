"""SQL of splits: profiles that hold for some runs or sessions only, beside the sensor's default one.

What a split names never changes once it is published. It holds for readings that belong to what it names, from when it
is in force; of two that name the same session, or one its run, the one that came into force last holds. When that one
ends, the other holds again, unless nothing was left to it: then the publication has deprecated it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from hub.database.pool import Connection
from hub.errors import invalid
from hub.sensors.views import Split

# In projects of the sensor of which the user is a member.
_SEEN = """
    select x.id from {table} x
    join sensor_projects p on p.project_id = x.project_id and p.sensor_id = $2
    join project_members m on m.project_id = x.project_id and m.user_id = $3
    where x.id = any($1::uuid[])
"""
_RUNS_SEEN = _SEEN.format(table="runs")
_SESSIONS_SEEN = _SEEN.format(table="capture_sessions")
_SPLIT_OFF = "update conversion_profiles set split_run_ids = $2, split_session_ids = $3 where id = $1"
_TAKE_OVER = """
    update conversion_profiles o set
        status = 'deprecated',
        valid_to = greatest(o.valid_from, least(o.valid_to, $3))
    from conversion_profiles n
    where n.id = $2 and o.sensor_id = $1 and o.id <> n.id and o.status = 'active' and o.is_split
      and not exists (
        select from runs r where r.id = any(o.split_run_ids) and r.id <> all(coalesce(n.split_run_ids, '{}'))
      )
      and not exists (
        select from capture_sessions c where c.id = any(o.split_session_ids)
           and c.id <> all(coalesce(n.split_session_ids, '{}')) and c.run_id <> all(coalesce(n.split_run_ids, '{}'))
      )
    returning o.id
"""


async def require_known(connection: Connection, sensor_id: UUID, user_id: UUID, split: Split) -> None:
    """See that runs or sessions are of the sensor's projects. Raises: Problem 422 that names the first that is not."""
    if split.run_ids is not None:
        await _require(connection, _RUNS_SEEN, ("split.run_ids", "run"), split.run_ids, sensor_id, user_id)
    if split.capture_session_ids is not None:
        names = ("split.capture_session_ids", "capture session")
        await _require(connection, _SESSIONS_SEEN, names, split.capture_session_ids, sensor_id, user_id)


async def split_off(connection: Connection, profile_id: UUID, split: Split) -> None:
    """Let a draft hold for these only. The catalogue must be locked."""
    await connection.execute(_SPLIT_OFF, profile_id, split.run_ids, split.capture_session_ids)


async def take_over(connection: Connection, sensor_id: UUID, profile_id: UUID, valid_from: datetime) -> list[UUID]:
    """Deprecate the active splits of which this one, just activated, names all that there is.

    The catalogue must be locked. Returns: their ids.
    """
    return [row["id"] for row in await connection.fetch(_TAKE_OVER, sensor_id, profile_id, valid_from)]


async def _require(
    connection: Connection,
    query: str,
    names: tuple[str, str],
    wanted: Sequence[UUID],
    sensor_id: UUID,
    user_id: UUID,
) -> None:
    seen = {row["id"] for row in await connection.fetch(query, list(wanted), sensor_id, user_id)}
    missing = next((one for one in wanted if one not in seen), None)
    if missing is not None:
        field, what = names
        raise invalid(field, f"{missing} is no {what} of the sensor's projects that you are a member of")
