"""When a sensor was heard: minutes in which something of it was stored, counted into buckets.

Ingest writes a row a sensor and minute, beside the heartbeat; `KEPT` bounds how far back it goes.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from hub.database.pool import Connection, Pool, transaction
from hub.sensors.store import Row

KEPT = timedelta(days=90)
BUCKETS_MAX = 1500
MINUTE_US = 60_000_000
_PIECE_ROWS = 5000

_BUCKETS = """
select date_bin($4 * interval '1 microsecond', minute, timestamptz 'epoch') as bucket, count(*) as minutes,
       min(minute) as first, max(minute) as last
from sensor_minutes where sensor_id = $1 and minute >= $2 and minute < $3
group by 1 order by 1
"""
_FORGET = f"""
delete from sensor_minutes where ctid = any(array(
    select ctid from sensor_minutes where minute < $1 order by minute limit {_PIECE_ROWS}
))
"""


async def buckets(
    connection: Connection, sensor_id: object, time_from: datetime, time_to: datetime, bucket_us: int
) -> list[Row]:
    """(bucket, minutes, first, last) of the buckets in which something came, in order."""
    return await connection.fetch(_BUCKETS, sensor_id, time_from, time_to, bucket_us)


async def forget(pool: Pool, now: datetime) -> None:
    """Remove what is older than `KEPT`. Raises: StorageUnavailable."""
    while True:
        async with transaction(pool) as connection:
            status: str = await connection.execute(_FORGET, now - KEPT)
        if status != f"DELETE {_PIECE_ROWS}":
            return
