"""Retention that projects decide for themselves, beside the hub's, which drops whole partitions.

A project that keeps its readings for longer holds the partitions that they lie in; these stay whole. Of one that keeps
them for a shorter time the readings are deleted, a day of a series at a time, but for those of sessions that are not
archived. Their one-minute aggregates stay: marks are folded in the same transaction, and ingest stores nothing that is
older than the project keeps, so that no minute is computed anew from what is left of it. Ingest judges by the moment at
which a batch comes; an hour's grace keeps what it still takes apart from what is deleted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from hub.database.pool import Connection, Pool, acquire, transaction
from hub.telemetry.aggregate import MARKS_PER_FOLD_MAX, TIMEOUT_S, fold_range
from hub.telemetry.retention import Hold

STEPS_MAX = 2000
"""Days of series that one pass deletes at most; the next goes on."""
STEP = timedelta(days=1)

log = logging.getLogger(__name__)

_IS_KEPT = """
select exists (
    select from project_policies o join sensors s on s.project_id = o.project_id join series x on x.sensor_id = s.id
    where (o.retention_days = 0 or $2 > $3::timestamptz - make_interval(days => o.retention_days))
      and exists (select from readings r where r.series_id = x.id and r.time >= $1 and r.time < $2)
)
"""
_NOT_NAMED = """
not exists (
    select from named_readings n join capture_sessions c on c.id = n.session_id
    where n.sensor_id = x.sensor_id and not c.archived and r.id between n.first_id and n.last_id
)
"""
_EXPIRED = f"""
select x.id as series_id, f.first, least(f.first + $2::interval, upper(g.span)) as until
from project_policies o
join sensors s on s.project_id = o.project_id
join series x on x.sensor_id = s.id
cross join lateral unnest(
    tstzmultirange(tstzrange(
        null, date_trunc('hour', $1::timestamptz - make_interval(days => o.retention_days)) - interval '1 hour'
    )) - coalesce((
        select range_agg(tstzrange(w.time_from, w.time_to))
        from session_sensors w join capture_sessions c on c.id = w.session_id
        where w.sensor_id = s.id and not c.archived
    ), '{{}}'::tstzmultirange)
) as g (span)
cross join lateral (
    select r.time as first from readings r
    where r.series_id = x.id and r.time < upper(g.span) and (lower(g.span) is null or r.time >= lower(g.span))
      and {_NOT_NAMED}
    order by r.time limit 1
) f
where o.retention_days > 0
order by f.first limit $3
"""
_DELETE = f"""
delete from readings r using series x
where x.id = $1 and r.series_id = x.id and r.time >= $2 and r.time < $3 and {_NOT_NAMED}
"""
_DELETE_META = """
delete from reading_meta m where m.series_id = $1 and m.time >= $2 and m.time < $3
  and not exists (select from readings r where r.series_id = m.series_id and r.time = m.time)
"""


def kept_by_projects(now: Callable[[], datetime]) -> Hold:
    """Whether a project keeps readings in a range for longer than the hub does."""

    async def hold(connection: Connection, start: datetime, end: datetime) -> bool:
        return bool(await connection.fetchval(_IS_KEPT, start, end, now(), timeout=TIMEOUT_S))

    return hold


async def delete_expired(pool: Pool, now: datetime) -> int:
    """Delete what projects keep for a shorter time than the hub. One hub at a time.

    Returns: how many days of series were looked at; `STEPS_MAX` means that there may be more.
    Raises: StorageUnavailable.
    """
    steps = 0
    while steps < STEPS_MAX:
        async with acquire(pool) as connection:
            rows = await connection.fetch(_EXPIRED, now, STEP, STEPS_MAX - steps, timeout=TIMEOUT_S)
        for row in rows:
            await _delete(pool, row["series_id"], row["first"], row["until"])
        steps += len(rows)
        if not rows:
            break
    if steps:
        log.info("event=readings_expired series_days=%d", steps)
    return steps


async def _delete(pool: Pool, series_id: int, first: datetime, until: datetime) -> None:
    async with transaction(pool) as connection:
        await connection.execute(f"set local statement_timeout = {round(TIMEOUT_S * 1000)}")
        while await fold_range(connection, first, until) == MARKS_PER_FOLD_MAX:
            pass
        await connection.execute(_DELETE, series_id, first, until, timeout=TIMEOUT_S)
        await connection.execute(_DELETE_META, series_id, first, until, timeout=TIMEOUT_S)
