"""The one-minute aggregates, kept by the hub.

Ingest marks the minutes that it dirties in the transaction that stores the readings, so a mark and its readings are
seen together or not at all. Folding takes marks away and computes their minutes anew from the readings, in one
transaction; a reader takes minutes with a mark from the readings and all others from here, in one statement
(`hub.telemetry.buckets`). So what a reader adds up is always what the readings say, however late some came.

Minutes that are still being written are left alone: each fold would compute them again for nothing.
"""

from __future__ import annotations

from datetime import datetime

from hub.database.pool import Connection, Pool, transaction
from hub.database.storage import Storage
from hub.telemetry.moments import to_datetime
from hub.telemetry.sums import sum_of
from shared.clock import Clock

MARKS_PER_FOLD_MAX = 2000
SETTLE_S = 90
"""Minutes are folded this long after their start at the earliest."""
TIMEOUT_S = 60.0

_LOCK = "select pg_try_advisory_xact_lock(x'6c61627200000003'::bigint)"

_LOCK_WAITING = "select pg_advisory_xact_lock(x'6c61627200000003'::bigint)"
_SETTLED = "bucket_to < $1 and $3::timestamptz is null"
_OVERLAPPING = "bucket_from < $1 and bucket_to >= $3"

# A mark that goes leaves word of sessions that it shows to have late readings (hub.sessions.late). Readings that
# retention has dropped leave their aggregates as they are: a minute without readings is not written.
_FOLD = """
with taken as (
    delete from dirty_minutes where ctid = any(array(
        select ctid from dirty_minutes where {marks} order by first_id limit $2
    ))
    returning first_id, series_ids, bucket_from, bucket_to
), hinted as (
    insert into late_hints (session_id, first_id)
    select t.session_id, max(first_id)
    from taken, touched_sessions(first_id, series_ids, bucket_from, bucket_to) as t (session_id)
    group by t.session_id
), minutes as (
    select distinct series_id, bucket
    from taken, unnest(series_ids) series_id, generate_series(bucket_from, bucket_to, interval '1 minute') bucket
    where exists (select from series where id = series_id)
), folded as (
    insert into aggregates_1m as a
    select m.series_id, m.bucket, r.*
    from minutes m cross join lateral (
        select count(*)::int, count(raw)::int, {sum_raw}, min(raw), max(raw),
               count(physical)::int, {sum_physical}, min(physical), max(physical)
        from readings
        where series_id = m.series_id and time >= m.bucket and time < m.bucket + interval '1 minute'
        having count(*) > 0
    ) r
    on conflict (series_id, bucket) do update set
        sample_count = excluded.sample_count,
        raw_count = excluded.raw_count,
        sum_raw = excluded.sum_raw,
        min_raw = excluded.min_raw,
        max_raw = excluded.max_raw,
        physical_count = excluded.physical_count,
        sum_physical = excluded.sum_physical,
        min_physical = excluded.min_physical,
        max_physical = excluded.max_physical
)
select count(*) from taken
"""


async def fold_dirty(pool: Pool, settled_before: datetime) -> int:
    """Bring the aggregates of marked minutes before `settled_before` up to date; one hub at a time.

    Returns: how many marks were folded in; `MARKS_PER_FOLD_MAX` means that there may be more.

    Raises: StorageUnavailable.
    """
    async with transaction(pool) as connection:
        if not await connection.fetchval(_LOCK):
            return 0
        await connection.execute(f"set local statement_timeout = {round(TIMEOUT_S * 1000)}")
        return await _fold(connection, _SETTLED, settled_before, None)


async def fold_range(connection: Connection, start: datetime, end: datetime) -> int:
    """Bring the aggregates of all marks that touch this range up to date, settled or not, in the caller's transaction.

    Waits for a hub that is folding. Returns: as `fold_dirty`.
    """
    await connection.execute(_LOCK_WAITING)
    return await _fold(connection, _OVERLAPPING, end, start)


async def _fold(connection: Connection, marks: str, before: datetime, since: datetime | None) -> int:
    statement = _FOLD.format(marks=marks, sum_raw=sum_of("raw"), sum_physical=sum_of("physical"))
    folded: int = await connection.fetchval(statement, before, MARKS_PER_FOLD_MAX, since, timeout=TIMEOUT_S)
    return folded


async def fold_settled(storage: Storage, clock: Clock) -> None:
    """Fold all minutes that have settled. Raises: StorageUnavailable."""
    settled_before = to_datetime(clock.now_us() - SETTLE_S * 1_000_000)
    while await fold_dirty(storage.pool, settled_before) == MARKS_PER_FOLD_MAX:
        pass
