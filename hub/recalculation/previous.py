"""Which profiles readings had before they were recalculated: kept a stretch at a time, and read again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from hub.database.pool import Connection
from hub.recalculation.rules import Previous
from hub.recalculation.store import Row
from hub.telemetry.moments import to_datetime

_KEEP = """
    insert into previous_profiles
        (series_id, time_from, time_to, first_id, last_id, readings, profile, task_id, replaced_at)
    select $1, p.time_from, p.time_to, p.first_id, p.last_id, p.readings, p.profile, $8, $9
    from unnest($2::timestamptz[], $3::timestamptz[], $4::bigint[], $5::bigint[], $6::integer[], $7::integer[])
        as p (time_from, time_to, first_id, last_id, readings, profile)
"""
_HISTORY = """
    select x.signal, p.time_from, p.time_to, p.first_id, p.last_id, p.readings, c.id as conversion_profile_id,
           p.task_id as backfill_task_id, p.replaced_at
    from previous_profiles p
    join series x on x.id = p.series_id
    left join conversion_profiles c on c.ref = p.profile
    where x.sensor_id = $1 and ($2::timestamptz is null or p.time_to >= $2)
      and ($3::timestamptz is null or p.time_from <= $3)
"""
_HISTORY_PAGE = f"{_HISTORY} order by p.time_from, p.id limit $4 offset $5"
_HISTORY_COUNT = f"select count(*) from ({_HISTORY}) h"


async def keep(connection: Connection, series_id: int, runs: Sequence[Previous], task_id: UUID, now: datetime) -> None:
    """Note the profiles that readings had before."""
    await connection.execute(
        _KEEP,
        series_id,
        [to_datetime(one.from_us) for one in runs],
        [to_datetime(one.to_us) for one in runs],
        [one.first_id for one in runs],
        [one.last_id for one in runs],
        [one.readings for one in runs],
        [one.profile for one in runs],
        task_id,
        now,
    )


async def history(
    connection: Connection,
    sensor_id: UUID,
    time_from: datetime | None,
    time_to: datetime | None,
    limit: int,
    offset: int,
) -> tuple[list[Row], int]:
    """Which profiles readings of a sensor had before, in order of time, and how many such stretches there are."""
    rows = await connection.fetch(_HISTORY_PAGE, sensor_id, time_from, time_to, limit, offset)
    total: int = await connection.fetchval(_HISTORY_COUNT, sensor_id, time_from, time_to)
    return rows, total
