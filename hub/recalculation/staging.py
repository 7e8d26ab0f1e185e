"""New values of readings that are stored, into the database: a binary COPY aside, then one UPDATE from there.

The UPDATE costs what it costs, whichever way the values get there; a COPY built by numpy adds a few per cent, arrays as
parameters more than half. It names series and times as constants, so that TimescaleDB decompresses no more than these.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hub.database.pool import Connection, affected
from hub.telemetry.scan import timestamp
from shared.readings import Float64, Int64, UInt8

_POSTGRES_EPOCH_US = 946_684_800_000_000
_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TAIL = b"\xff\xff"
_ROW = np.dtype(
    [
        ("fields", ">i2"),
        ("time_length", ">i4"), ("time", ">i8"),
        ("physical_length", ">i4"), ("physical", ">f8"),
        ("status_length", ">i4"), ("status", ">i2"),
    ]
)  # fmt: skip
_TABLE = """
create temporary table if not exists recalculated_readings (
    time timestamptz, physical double precision, status smallint
) on commit delete rows
"""
_UPDATE = """
update readings r set physical = nullif(n.physical, 'NaN'), status = n.status, profile = {ref}
from recalculated_readings n
where r.series_id = {series} and r.time >= {first} and r.time <= {last} and r.time = n.time
"""


async def overwrite(
    connection: Connection, series_id: int, ref: int, time_us: Int64, physical: Float64, status: UInt8
) -> int:
    """Give readings of one series other values, in the caller's transaction.

    Args:
        ref: `conversion_profiles.ref`, for all of them.
        time_us: int64 (n,), rising; at least one.
        physical: float64 (n,), NaN for null.
        status: uint8 (n,), status bytes.

    Returns: how many were there.
    """
    await connection.execute(_TABLE)
    await connection.copy_to_table(
        "recalculated_readings",
        source=_encoded(time_us, physical, status),
        columns=["time", "physical", "status"],
        format="binary",
    )
    first, last = timestamp(int(time_us[0])), timestamp(int(time_us[-1]))
    statement = _UPDATE.format(ref=int(ref), series=int(series_id), first=first, last=last)
    return affected(await connection.execute(statement))


def _encoded(time_us: Int64, physical: Float64, status: UInt8) -> Any:
    rows: NDArray[Any] = np.zeros(len(time_us), _ROW)
    rows["fields"] = 3
    rows["time_length"], rows["physical_length"], rows["status_length"] = 8, 8, 2
    rows["time"] = time_us - _POSTGRES_EPOCH_US
    rows["physical"] = physical
    rows["status"] = status
    return memoryview(_HEAD + rows.tobytes() + _TAIL)
