"""Partitions of `readings`, made when first needed by whoever needs them first, in a transaction of their own.

They are cut at multiples of the layout's `chunk_days` since 1970-01-01 UTC. On plain PostgreSQL they are named after
their first day, e.g. `readings_p20260312`; one is made as a table of its own and then attached, which unlike `create
table … partition of` does not lock out readers and writers of the others.

TimescaleDB would make a chunk within the transaction that first writes to it, and let all other writers of that chunk
wait until it ends. So the hub has it made beforehand: a row is stored at its start and taken away again. What lies in a
range that retention has closed (`hub.database.retention`) is not made again: nothing will be stored there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from hub.database.pool import Connection, Pool, transaction
from hub.database.tiers import TIERS_LOCK, Layout
from shared.errors import StorageError
from shared.readings import Int64

DAY_US = 86_400_000_000
TIME_US_MIN = 0
"""1970-01-01: nothing is stored for earlier times."""
TIME_US_MAX = 253_402_300_800_000_000
"""10000-01-01: nor from here on."""
CHANGED = "labrelay_partitions"
"""What NOTIFY says when partitions were dropped."""
NEW_PER_CALL_MAX = 64
"""Readings that would need more new partitions at once do not belong together."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = datetime.max.replace(tzinfo=UTC)
_PARTITIONS = """
    select child.relname as name, obj_description(child.oid) as made from pg_inherits
    join pg_class child on child.oid = inhrelid
    where inhparent = 'readings'::regclass order by child.relname
"""
_CHUNKS = """
    select chunk_name as name, range_start, least(range_end, '9999-12-31 23:59:59.999999Z') as range_end,
        chunk_creation_time as made
    from timescaledb_information.chunks
    where hypertable_schema = current_schema() and hypertable_name = 'readings' order by range_start
"""
_DROP_CHUNK = "select drop_chunks('readings', older_than => $2::timestamptz, newer_than => $1::timestamptz)"
_CLOSED = "select time_from, time_to from dropped_ranges"
_TOUCH = "insert into readings (series_id, time, id, status) values (0, $1, 0, 0)"
_UNTOUCH = "delete from readings where series_id = 0 and time = $1"


class ImplausibleTime(StorageError):
    """A time before 1970 or after 9999."""


class TooManyPartitions(StorageError):
    """Times so far apart that more than `NEW_PER_CALL_MAX` partitions would be made at once."""


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition or chunk that there is, from `start` to before `end`.

    Attributes:
        made: when; None where nobody noted it.
    """

    name: str
    start: datetime
    end: datetime
    made: datetime | None


class Partitions:
    """Which partitions there are, as far as this hub knows, and the making of those that are missing."""

    def __init__(self, pool: Pool, layout: Layout) -> None:
        self._pool = pool
        self._layout = layout
        self._chunk_us = layout.chunk_days * DAY_US
        self._known: set[int] = set()
        self._making = asyncio.Lock()

    def has(self, from_us: int, to_us: int) -> bool:
        """Whether all partitions from one time to another (inclusive) are known to be there."""
        first, last = from_us // self._chunk_us, to_us // self._chunk_us
        return last - first < NEW_PER_CALL_MAX and self._known.issuperset(range(first, last + 1))

    async def ensure(self, timestamps_us: Int64) -> None:
        """See that readings of these times can be stored.

        Call it before the transaction that writes them: it commits in one of its own, on a connection of its own.

        Args:
            timestamps_us: int64 (n,), UTC microseconds in any order.
        Raises: ImplausibleTime, TooManyPartitions, StorageUnavailable.
        """
        if len(timestamps_us) == 0:
            return
        _check_plausible(int(timestamps_us.min()), int(timestamps_us.max()))
        wanted = np.unique(timestamps_us // self._chunk_us).tolist()
        if self._known.issuperset(wanted):
            return
        async with self._making:
            missing = set(wanted) - self._known
            if missing:
                async with transaction(self._pool) as connection:
                    await create_partitions(connection, self._layout, missing)
            self._known.update(missing)

    def forget(self) -> None:
        """Look again which partitions there are (after some were dropped)."""
        self._known.clear()


async def ensure_partitions(connection: Connection, layout: Layout, from_us: int, to_us: int) -> None:
    """See that readings from `from_us` to `to_us` (inclusive) can be stored, in the connection's transaction.

    Raises: ImplausibleTime, TooManyPartitions.
    """
    _check_plausible(from_us, to_us)
    chunk_us = layout.chunk_days * DAY_US
    await create_partitions(connection, layout, range(from_us // chunk_us, to_us // chunk_us + 1))


async def create_partitions(connection: Connection, layout: Layout, indexes: Iterable[int]) -> None:
    """Make those of these partitions (counted from 1970) that are missing and not closed. Safe with several writers.

    Raises: TooManyPartitions.
    """
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", TIERS_LOCK)
        closed = [(row["time_from"], row["time_to"]) for row in await connection.fetch(_CLOSED)]
        wanted = {index for index in indexes if not _lies_in(_start(layout, index), closed)}
        existing = [(one.start, one.end) for one in await partitions_of(connection, layout)]
        missing = {index for index in wanted if not _lies_in(_start(layout, index), existing)}
        if len(missing) > NEW_PER_CALL_MAX:
            raise TooManyPartitions(f"{len(missing)} new partitions at once, at most {NEW_PER_CALL_MAX}")
        for index in sorted(missing):
            await (_create_chunk if layout.tier.has_hypertables else _create)(connection, layout, index)


async def partitions_of(connection: Connection, layout: Layout) -> list[Partition]:
    """All that there are, oldest first."""
    if layout.tier.has_hypertables:
        rows = await connection.fetch(_CHUNKS)
        return [Partition(row["name"], row["range_start"], row["range_end"], row["made"]) for row in rows]
    found = []
    for row in await connection.fetch(_PARTITIONS):
        start = datetime.strptime(row["name"], "readings_p%Y%m%d").replace(tzinfo=UTC)
        made = datetime.fromisoformat(row["made"]) if row["made"] else None
        found.append(Partition(row["name"], start, _end(layout, start), made))
    return found


async def drop_partition(connection: Connection, layout: Layout, partition: Partition) -> None:
    """Remove it with its readings, in the connection's transaction; others are locked out until that ends."""
    if layout.tier.has_hypertables:
        await connection.execute(_DROP_CHUNK, partition.start, partition.end)
    else:
        await connection.execute(f"drop table {partition.name}")


def _lies_in(start: datetime, ranges: Sequence[tuple[datetime, datetime]]) -> bool:
    return any(first <= start < end for first, end in ranges)


async def _create_chunk(connection: Connection, layout: Layout, index: int) -> None:
    start = _start(layout, index)
    await connection.execute(_TOUCH, start)
    await connection.execute(_UNTOUCH, start)


def partition_name(layout: Layout, index: int) -> str:
    """Name of the partition that starts `index` chunks after 1970."""
    return f"readings_p{_start(layout, index):%Y%m%d}"


async def _create(connection: Connection, layout: Layout, index: int) -> None:
    name, start = partition_name(layout, index), _start(layout, index)
    made = await connection.fetchval("select now()")
    await connection.execute(f"create table {name} (like readings including defaults including indexes)")
    await connection.execute(f"comment on table {name} is '{made.isoformat()}'")
    await connection.execute(
        f"alter table readings attach partition {name}"
        f" for values from ('{start:%Y-%m-%d}Z') to ({_bound(_end(layout, start))})"
    )


def _start(layout: Layout, index: int) -> datetime:
    return _EPOCH + timedelta(days=index * layout.chunk_days)


def _end(layout: Layout, start: datetime) -> datetime:
    """The last partition ends with the year 9999, beyond which Python's dates do not go."""
    days = timedelta(days=layout.chunk_days)
    return start + days if start <= _LAST - days else _LAST


def _bound(end: datetime) -> str:
    return "'10000-01-01 00:00:00Z'" if end == _LAST else f"'{end:%Y-%m-%d} 00:00:00Z'"


def _check_plausible(from_us: int, to_us: int) -> None:
    if from_us < TIME_US_MIN or to_us >= TIME_US_MAX:
        raise ImplausibleTime("readings have times from 1970 to 9999")
