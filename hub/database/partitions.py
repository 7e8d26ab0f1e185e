"""Partitions of `readings` on plain PostgreSQL, made when first needed by whoever needs them first.

They are cut at multiples of the layout's `chunk_days` since 1970-01-01 UTC and named after their first day, e.g.
`readings_p20260312`. One is made as a table of its own and then attached, which unlike `create table … partition of`
does not lock out readers and writers of the others. TimescaleDB makes its chunks itself; there only the bounds hold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
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
NEW_PER_CALL_MAX = 64
"""Readings that would need more new partitions at once do not belong together."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EXISTING = """
    select child.relname from pg_inherits
    join pg_class child on child.oid = inhrelid
    where inhparent = 'readings'::regclass
"""


class ImplausibleTime(StorageError):
    """A time before 1970 or after 9999."""


class TooManyPartitions(StorageError):
    """Times so far apart that more than `NEW_PER_CALL_MAX` partitions would be made at once."""


class Partitions:
    """Which partitions there are, as far as this hub knows, and the making of those that are missing."""

    def __init__(self, pool: Pool, layout: Layout) -> None:
        self._pool = pool
        self._layout = layout
        self._chunk_us = layout.chunk_days * DAY_US
        self._known: set[int] = set()
        self._making = asyncio.Lock()

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
            if not self._layout.tier.has_hypertables and missing:
                async with transaction(self._pool) as connection:
                    await create_partitions(connection, self._layout, missing)
            elif len(missing) > NEW_PER_CALL_MAX:
                raise TooManyPartitions(f"{len(missing)} new chunks at once, at most {NEW_PER_CALL_MAX}")
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
    if not layout.tier.has_hypertables:
        await create_partitions(connection, layout, range(from_us // chunk_us, to_us // chunk_us + 1))


async def create_partitions(connection: Connection, layout: Layout, indexes: Iterable[int]) -> None:
    """Make those of these partitions (counted from 1970) that are missing. Safe with several writers.

    Raises: TooManyPartitions.
    """
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", TIERS_LOCK)
        existing = {row["relname"] for row in await connection.fetch(_EXISTING)}
        missing = sorted({index for index in indexes if partition_name(layout, index) not in existing})
        if len(missing) > NEW_PER_CALL_MAX:
            raise TooManyPartitions(f"{len(missing)} new partitions at once, at most {NEW_PER_CALL_MAX}")
        for index in missing:
            await _create(connection, layout, index)


def partition_name(layout: Layout, index: int) -> str:
    """Name of the partition that starts `index` chunks after 1970."""
    return f"readings_p{_start(layout, index):%Y%m%d}"


async def _create(connection: Connection, layout: Layout, index: int) -> None:
    name = partition_name(layout, index)
    start, end = _start(layout, index), _end(layout, index)
    await connection.execute(f"create table {name} (like readings including defaults including indexes)")
    await connection.execute(
        f"alter table readings attach partition {name} for values from ('{start:%Y-%m-%d}Z') to ({end})"
    )


def _start(layout: Layout, index: int) -> datetime:
    return _EPOCH + timedelta(days=index * layout.chunk_days)


def _end(layout: Layout, index: int) -> str:
    """The bound as SQL; the last partition ends with the year 9999, beyond which Python's dates do not go."""
    days = (index + 1) * layout.chunk_days
    if days * DAY_US >= TIME_US_MAX:
        return "'10000-01-01 00:00:00Z'"
    return f"'{_start(layout, index + 1):%Y-%m-%d} 00:00:00Z'"


def _check_plausible(from_us: int, to_us: int) -> None:
    if from_us < TIME_US_MIN or to_us >= TIME_US_MAX:
        raise ImplausibleTime("readings have times from 1970 to 9999")
