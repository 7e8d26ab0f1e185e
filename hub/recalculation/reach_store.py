"""SQL of what a task of sessions is about: their windows, the posts that named them, and who may see them."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from hub.database.pool import Connection
from hub.recalculation.reach import Reach
from hub.recalculation.rules import Stretch
from hub.recalculation.store import Row
from hub.telemetry.membership import IdRanges
from hub.telemetry.moments import to_datetime, to_us

_SESSION_WINDOWS = """
    select w.session_id, w.time_from, w.time_to from session_sensors w
    where w.sensor_id = $1 and w.session_id = any($2::uuid[])
"""
_NAMED_SPAN = """
    select min(time_from) as time_from, max(time_to) as time_to from named_readings
    where sensor_id = $1 and session_id = any($2::uuid[]) and first_id < $3
"""
_NAMED = """
    with windows as materialized (
        select * from unnest($4::timestamptz[], $5::timestamptz[]) as w (time_from, time_to)
    )
    select n.first_id, n.last_id + 1 as behind_id, n.session_id = any($2::uuid[]) as is_wanted
    from named_readings n
    where n.sensor_id = $1 and n.first_id < $3
      and case when n.session_id = any($2::uuid[])
               then not exists (select from windows w where w.time_from <= n.time_from and n.time_to < w.time_to)
               else exists (select from windows w where n.time_from < w.time_to and n.time_to >= w.time_from)
          end
    order by n.first_id
"""
_SESSIONS_SEEN = """
    select c.id from capture_sessions c
    join project_members m on m.project_id = c.project_id and m.user_id = $2
    where c.id = any($1::uuid[])
"""
_SERIES = "select id from series where sensor_id = $1 order by id"


async def session_windows(connection: Connection, sensor_id: UUID, session_ids: Sequence[UUID]) -> list[Row]:
    """(session_id, time_from, time_to) of the sensor's part in these sessions."""
    return await connection.fetch(_SESSION_WINDOWS, sensor_id, list(session_ids))


async def named_span(
    connection: Connection, sensor_id: UUID, session_ids: Sequence[UUID], before_id: int
) -> Stretch | None:
    """The time within which posts of the sensor lie that named one of these sessions, with ids below `before_id`."""
    row = await connection.fetchrow(_NAMED_SPAN, sensor_id, list(session_ids), before_id)
    if row is None or row["time_from"] is None:
        return None
    return Stretch(to_us(row["time_from"]), to_us(row["time_to"]) + 1)


async def reach(
    connection: Connection, sensor_id: UUID, session_ids: Sequence[UUID], windows: Sequence[Stretch], before_id: int
) -> Reach:
    """What there is of these sessions among readings with ids below `before_id`."""
    bounds = [to_datetime(one.from_us) for one in windows], [to_datetime(one.to_us) for one in windows]
    rows = await connection.fetch(_NAMED, sensor_id, list(session_ids), before_id, *bounds)
    named, elsewhere = (
        IdRanges.of([(row["first_id"], row["behind_id"]) for row in rows if row["is_wanted"] is wanted])
        for wanted in (True, False)
    )
    return Reach(windows, named, elsewhere)


async def sessions_seen(connection: Connection, session_ids: Sequence[UUID], user_id: UUID) -> set[UUID]:
    """Those of the sessions that there are in projects of the user."""
    return {row["id"] for row in await connection.fetch(_SESSIONS_SEEN, list(session_ids), user_id)}


async def series(connection: Connection, sensor_id: UUID) -> list[int]:
    """Ids of the sensor's series."""
    return [row["id"] for row in await connection.fetch(_SERIES, sensor_id)]
