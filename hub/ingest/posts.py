"""What is noted of posts, beside their readings: their ids, which session they named, and whether they came late.

In the transaction of the readings, under the shared catalogue lock: a session stops, and is archived, with that lock
taken for itself, so either the stop was committed before and is seen here, or the readings have lower ids than all that
is late (docs/adr/0013).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from hub.access.identity import SensorPrincipal
from hub.database.pool import Connection
from hub.errors import conflict, not_found

_OPEN = "select id from capture_sessions where id = any($1::uuid[]) and not archived"
_PLACE = """
select r.id as run_id, r.project_id, s.id as session_id, s.archived, s.started_at is not null as has_started,
       exists (select from session_sensors w where w.session_id = s.id and w.sensor_id = $3) as takes_part,
       exists (select from run_sensors a where a.run_id = r.id and a.sensor_id = $3) as is_attached,
       exists (select from run_sensors a where a.run_id = r.id) as has_attached
from runs r left join capture_sessions s on s.run_id = r.id and s.id = $2
where r.id = coalesce($1, (select run_id from capture_sessions where id = $2))
"""
_NAMED = """
insert into named_readings (first_id, last_id, sensor_id, session_id, time_from, time_to)
select * from unnest($1::bigint[], $2::bigint[], $3::uuid[], $4::uuid[], $5::timestamptz[], $6::timestamptz[])
"""
_POSTED = """
insert into posted_readings (first_id, last_id, sensor_id, time_from, time_to)
select * from unnest($1::bigint[], $2::bigint[], $3::uuid[], $4::timestamptz[], $5::timestamptz[])
"""
_LATE = """
insert into late_posts (first_id, last_id, sensor_id, time_from, time_to)
select p.* from unnest($1::bigint[], $2::bigint[], $3::uuid[], $4::timestamptz[], $5::timestamptz[])
    as p (first_id, last_id, sensor_id, time_from, time_to)
where exists (
    select from session_sensors w join capture_sessions s on s.id = w.session_id
    where w.sensor_id = p.sensor_id and s.late_from_id is not null
      and w.time_from <= p.time_to and w.time_to > p.time_from
)
"""


@dataclass(frozen=True, slots=True)
class PostRange:
    """The readings of one post that are stored: their ids follow one another.

    Attributes:
        session_id: the one that it named, if any.
        time_to: of the last one.
        released: they had been set aside.
    """

    first_id: int
    last_id: int
    sensor_id: UUID
    session_id: UUID | None
    time_from: datetime
    time_to: datetime
    released: bool = False


async def require_place(
    connection: Connection, sensor: SensorPrincipal, run_id: UUID | None, session_id: UUID | None
) -> None:
    """See that a sensor may post to the run and session that it names.

    Who takes part in a session is fixed as it starts. A draft takes what its start would take: the sensors attached to
    the run, or any where none is.

    Raises: Problem 404 for what is not there for it, 409 for an archived session, another run's, or one that the sensor
        is no part of.
    """
    if run_id is None and session_id is None:
        return
    row = await connection.fetchrow(_PLACE, run_id, session_id, sensor.id)
    if row is None or row["project_id"] not in sensor.project_ids:
        raise not_found("capture session" if run_id is None else "run")
    if session_id is not None and row["session_id"] is None:
        raise conflict("the session is not there or belongs to another run", code="other_run")
    if row["archived"]:
        raise conflict("the session is archived and takes no more readings", code="session_archived")
    if row["takes_part"]:
        return
    if row["has_started"]:
        raise conflict("the sensor takes no part in this session, which has started without it", code="other_sensor")
    if row["has_attached"] and not row["is_attached"]:
        raise conflict("the sensor takes no part in this run", code="other_sensor")


async def open_sessions(connection: Connection, session_ids: Collection[UUID]) -> set[UUID]:
    """Those of the sessions that are there and not archived."""
    if not session_ids:
        return set()
    return {row["id"] for row in await connection.fetch(_OPEN, list(session_ids))}


async def note(connection: Connection, posts: Sequence[PostRange]) -> None:
    """Note what membership needs to know of these posts."""
    named = [
        (one.first_id, one.last_id, one.sensor_id, one.session_id, one.time_from, one.time_to)
        for one in posts
        if one.session_id is not None and not one.released
    ]
    if named:
        await connection.execute(_NAMED, *zip(*named, strict=True))
    if posts:
        await connection.execute(_POSTED, *_columns(posts))
    came = [one for one in posts if not one.released]
    if came:
        await connection.execute(_LATE, *_columns(came))


def _columns(posts: Sequence[PostRange]) -> Iterator[tuple[Any, ...]]:
    return zip(*((one.first_id, one.last_id, one.sensor_id, one.time_from, one.time_to) for one in posts), strict=True)
