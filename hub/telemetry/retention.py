"""Retention: old readings are dropped by whole partitions; their one-minute aggregates stay.

A partition goes when its whole range is older than `retention_days`, was made so long ago, and nobody holds it. (One
that was made late holds history that somebody brought in: that is kept as long, counted from then.) In three steps,
each of which may be the last before a crash; the next pass goes on where this one ended.

1. *Closed*: its range is entered into `dropped_ranges`, which waits for all ingest under way and outdates what ingest
   remembers. From then on nothing is stored in the range: what comes is set aside as `dropped_range`.
2. *Settled*: all its marks are folded into the aggregates, which therefore hold all that was ever stored there.
3. *Dropped*, with the last of its marks folded in the same transaction, so that a reader finds readings or aggregates.

Closing and dropping are apart because ingest locks `readings` before the catalogue in one statement and after it in
another: nobody who holds one may wait for the other. Folding writes no minute without readings, so nothing that runs
later empties what is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import TypeAlias

from hub.database.partitions import CHANGED, Partition, drop_partition, partitions_of
from hub.database.pool import Connection, Pool, transaction
from hub.database.tiers import TIERS_LOCK, Layout
from hub.telemetry.aggregate import MARKS_PER_FOLD_MAX, TIMEOUT_S, fold_range

log = logging.getLogger(__name__)

Hold: TypeAlias = Callable[[Connection, datetime, datetime], Awaitable[bool]]
"""Whether somebody needs readings from this range (end exclusive), so that its partition must stay."""

_LOCK_WAIT = "set local lock_timeout = '5s'"
_STATEMENT_WAIT = f"set local statement_timeout = {round(TIMEOUT_S * 1000)}"
_IS_CLOSED = "select exists (select from dropped_ranges where time_from <= $1 and time_to >= $2)"
_CLOSE = "insert into dropped_ranges (time_from, time_to) values ($1, $2)"
_DROP_META = "delete from reading_meta where time >= $1 and time < $2"


async def drop_expired(
    pool: Pool, layout: Layout, *, now: datetime, retention_days: int, holds: Sequence[Hold] = ()
) -> list[Partition]:
    """Drop what is older than `retention_days` (0 keeps everything). One hub at a time.

    Returns: what was dropped, oldest first.
    Raises: StorageUnavailable, also when readers held a partition for too long; call it again later.
    """
    if retention_days == 0:
        return []
    expired_before = now - timedelta(days=retention_days)
    async with transaction(pool) as connection:
        old = [one for one in await partitions_of(connection, layout) if _is_expired(one, expired_before)]
        held = [one for one in old if await _is_held(connection, one, holds)]
    dropped = []
    for partition in old:
        if partition not in held:
            await _close(pool, partition)
            await _settle(pool, partition)
            await _drop(pool, layout, partition)
            log.info("event=partition_dropped name=%s from=%s to=%s", partition.name, partition.start, partition.end)
            dropped.append(partition)
    return dropped


def _is_expired(partition: Partition, before: datetime) -> bool:
    return partition.end <= before and (partition.made is None or partition.made <= before)


async def _is_held(connection: Connection, partition: Partition, holds: Sequence[Hold]) -> bool:
    for hold in holds:
        if await hold(connection, partition.start, partition.end):
            return True
    return False


async def _close(pool: Pool, partition: Partition) -> None:
    async with transaction(pool) as connection:
        if await connection.fetchval(_IS_CLOSED, partition.start, partition.end):
            return
        await connection.execute(_LOCK_WAIT)
        await connection.execute(_CLOSE, partition.start, partition.end)


async def _settle(pool: Pool, partition: Partition) -> None:
    folded = MARKS_PER_FOLD_MAX
    while folded == MARKS_PER_FOLD_MAX:
        async with transaction(pool) as connection:
            await connection.execute(_STATEMENT_WAIT)
            folded = await fold_range(connection, partition.start, partition.end)
    async with transaction(pool) as connection:
        await connection.execute(_STATEMENT_WAIT)
        await connection.execute(_DROP_META, partition.start, partition.end, timeout=TIMEOUT_S)


async def _drop(pool: Pool, layout: Layout, partition: Partition) -> None:
    async with transaction(pool) as connection:
        await connection.execute(_LOCK_WAIT)
        await connection.execute("select pg_advisory_xact_lock($1)", TIERS_LOCK)
        while await fold_range(connection, partition.start, partition.end) == MARKS_PER_FOLD_MAX:
            pass
        await drop_partition(connection, layout, partition)
        await connection.execute("select pg_notify($1, '')", CHANGED)
