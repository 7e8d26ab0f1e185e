"""Readings out of the database as columns: binary COPY, taken apart by numpy without an object a reading.

Each field is cast to a fixed width and never NULL (NaN stands for "no value"), so that COPY's rows are all 77 bytes
long and one dtype describes them. Statements are built from integers only, which is why their values may stand in the
text; COPY takes no parameters, and the planner sees the actual ranges and leaves out the partitions beyond them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hub.database.pool import Connection, translated
from shared.errors import StorageError
from shared.readings import Float64, Int64, UInt8

TIMEOUT_S = 30.0

_SIGNATURE = b"PGCOPY\n\xff\r\n\0"
_HEADER_BYTES = len(_SIGNATURE) + 8
_TRAILER_BYTES = 2
_UNIX_AT_PG_EPOCH_US = 946_684_800_000_000
"""PostgreSQL counts from 2000-01-01."""

_ROW = np.dtype(
    [
        ("fields", ">i2"),
        ("id_length", ">i4"), ("id", ">i8"),
        ("series_length", ">i4"), ("series", ">i4"),
        ("time_length", ">i4"), ("time", ">i8"),
        ("raw_length", ">i4"), ("raw", ">f8"),
        ("physical_length", ">i4"), ("physical", ">f8"),
        ("status_length", ">i4"), ("status", ">i2"),
        ("profile_length", ">i4"), ("profile", ">i4"),
        ("meta_length", ">i4"), ("meta", "u1"),
    ]
)  # fmt: skip

_BARE = """r.id, r.series_id, r.time, coalesce(r.raw, 'NaN') as raw, coalesce(r.physical, 'NaN') as physical,
       r.status, r.profile"""
_COLUMNS = f"""{_BARE},
       exists (select from reading_meta m where m.series_id = r.series_id and m.time = r.time) as has_meta"""


@dataclass(frozen=True, slots=True)
class Rows:
    """Committed readings as stored, in the order asked for.

    Attributes:
        id: int64 (n,)
        series: int32 (n,), `series.id`.
        time_us: int64 (n,), UTC microseconds.
        raw, physical: float64 (n,), NaN where there is none.
        status: uint8 (n,), status bytes.
        profile: int32 (n,), `conversion_profiles.ref`, 0 for none.
        has_meta: bool (n,), whether the reading has meta of its own.
    """

    id: Int64
    series: NDArray[np.int32]
    time_us: Int64
    raw: Float64
    physical: Float64
    status: UInt8
    profile: NDArray[np.int32]
    has_meta: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.id)

    def take(self, which: NDArray[Any] | slice) -> Rows:
        """The rows that an index, mask or slice picks."""
        return Rows(
            self.id[which],
            self.series[which],
            self.time_us[which],
            self.raw[which],
            self.physical[which],
            self.status[which],
            self.profile[which],
            self.has_meta[which],
        )

    @staticmethod
    def none() -> Rows:
        """No rows."""
        return decode(_SIGNATURE + bytes(_HEADER_BYTES - len(_SIGNATURE)) + b"\xff\xff")

    @staticmethod
    def joined(parts: Sequence[Rows]) -> Rows:
        """All rows of at least one part, in order."""
        return Rows(
            np.concatenate([part.id for part in parts]),
            np.concatenate([part.series for part in parts]),
            np.concatenate([part.time_us for part in parts]),
            np.concatenate([part.raw for part in parts]),
            np.concatenate([part.physical for part in parts]),
            np.concatenate([part.status for part in parts]),
            np.concatenate([part.profile for part in parts]),
            np.concatenate([part.has_meta for part in parts]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Which readings: all that are given must hold. Ids and times are half-open ranges.

    Attributes:
        series: `series.id`s; None for all, which only a reader of everything asks for.
        time_from_us, time_to_us: UTC microseconds.
        after: (UTC microseconds, id), which readings must come behind in order of time, then id.
        belongs: to sessions, as SQL about `r` (`hub.telemetry.membership`).
    """

    series: tuple[int, ...] | None = None
    id_from: int | None = None
    id_to: int | None = None
    time_from_us: int | None = None
    time_to_us: int | None = None
    after: tuple[int, int] | None = None
    belongs: str = ""

    def condition(self) -> str:
        """As SQL."""
        parts = [
            ""
            if self.series is None
            else f"r.series_id = any('{{{','.join(map(str, map(int, self.series)))}}}'::int[])",
            "" if self.id_from is None else f"r.id >= {int(self.id_from)}",
            "" if self.id_to is None else f"r.id < {int(self.id_to)}",
            "" if self.time_from_us is None else f"r.time >= {timestamp(self.time_from_us)}",
            "" if self.time_to_us is None else f"r.time < {timestamp(self.time_to_us)}",
            "" if self.after is None else _behind(*self.after),
            self.belongs,
        ]
        return " and ".join(part for part in parts if part) or "true"


def timestamp(time_us: int) -> str:
    """A moment as an SQL literal, exact to the microsecond."""
    return f"'{np.datetime64(int(time_us), 'us')}Z'::timestamptz"


def _behind(time_us: int, id_: int) -> str:
    moment = timestamp(time_us)  # the first condition lets the planner leave out partitions
    return f"r.time >= {moment} and (r.time > {moment} or r.id > {int(id_)})"


async def prefer_indexes(connection: Connection) -> None:
    """Never read whole partitions, until the connection goes back to its pool.

    The planner has no statistics of ids that were drawn since the last ANALYZE, and would rather read everything.
    """
    with translated():
        await connection.execute("set enable_seqscan = off", timeout=TIMEOUT_S)


async def horizon(connection: Connection) -> int:
    """The first reading id that must not be looked at yet."""
    with translated():
        found: int = await connection.fetchval("select reading_horizon()", timeout=TIMEOUT_S)
        return found


async def ids_drawn(connection: Connection) -> int:
    """An id that no reading has reached yet; lower than ids of before where the database was restored."""
    with translated():
        found: int = await connection.fetchval(
            "select (case when is_called then last_value else last_value - 1 end + 1) * 16384 from reading_blocks",
            timeout=TIMEOUT_S,
        )
        return found


async def scan(connection: Connection, where: Where, *, limit: int, descending: bool = False) -> Rows:
    """At most `limit` readings in order of id.

    Raises: StorageUnavailable.
    """
    direction = "desc" if descending else "asc"
    return await _copy(
        connection,
        f"select {_COLUMNS} from (select * from readings r where {where.condition()} "
        f"order by r.id {direction} limit {int(limit)}) r order by r.id {direction}",
    )


async def scan_by_time(connection: Connection, where: Where, *, limit: int) -> Rows:
    """At most `limit` readings, the earliest, in order of time; whether they have meta is not looked up.

    One index each series has them in this order: give few series.

    Raises: StorageUnavailable.
    """
    each = replace(where, series=None).condition()
    series = ",".join(map(str, map(int, where.series or ())))
    return await _copy(
        connection,
        f"select {_BARE}, false from (select r.* from unnest('{{{series}}}'::int[]) one, lateral ("
        f"select * from readings r where r.series_id = one and {each} order by r.time limit {int(limit)}"
        f") r order by r.time, r.series_id limit {int(limit)}) r order by r.time, r.series_id",
    )


async def scan_all(connection: Connection, where: Where) -> Rows:
    """All these readings, in no order; whether they have meta is not looked up.

    Without a limit: know that they are not too many.

    Raises: StorageUnavailable.
    """
    return await _copy(connection, f"select {_BARE}, false from readings r where {where.condition()}")


async def _copy(connection: Connection, query: str) -> Rows:
    received = bytearray()

    async def receive(data: bytes) -> None:
        received.extend(data)

    with translated():
        await connection.copy_from_query(query, output=receive, format="binary", timeout=TIMEOUT_S)
    return decode(received)


def decode(received: bytes | bytearray) -> Rows:
    """Rows from COPY's binary format. Raises: StorageError where it is not what was asked for."""
    size = len(received) - _HEADER_BYTES - _TRAILER_BYTES
    if size < 0 or size % _ROW.itemsize or not received.startswith(_SIGNATURE):
        raise StorageError(f"the database sent {len(received)} bytes that are not the rows asked for")
    table = np.frombuffer(received, _ROW, count=size // _ROW.itemsize, offset=_HEADER_BYTES)
    return Rows(
        table["id"].astype(np.int64),
        table["series"].astype(np.int32),
        table["time"].astype(np.int64) + _UNIX_AT_PG_EPOCH_US,
        table["raw"].astype(np.float64),
        table["physical"].astype(np.float64),
        table["status"].astype(np.uint8),
        table["profile"].astype(np.int32),
        table["meta"].astype(np.bool_),
    )
