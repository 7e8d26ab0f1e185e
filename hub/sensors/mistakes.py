"""What of a sensor could not be stored, or not be converted: counts by reason, never the values themselves."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from hub.database.pool import Connection
from hub.sensors.store import Row
from shared.readings import Status

SPAN_MAX = timedelta(days=7)
"""Failed readings are counted one by one, so not over longer."""

_SET_ASIDE = """
select id, created_at, reason, detail, signal, agent_id, readings, time_from, time_to
from set_aside where sensor_id = $1 and created_at >= $2 and created_at < $3
order by id desc limit $4 offset $5
"""
_COUNT = "select count(*) from set_aside where sensor_id = $1 and created_at >= $2 and created_at < $3"
_FAILED = f"""
select date_trunc('hour', r.time, 'UTC') as hour, x.signal, r.status, count(*) as readings
from readings r join series x on x.id = r.series_id
where x.sensor_id = $1 and r.time >= $2 and r.time < $3 and r.status & 15 = {Status.CONVERSION_FAILED:d}
group by 1, 2, 3 order by 1 desc, 2, 3
"""


async def set_aside(
    connection: Connection, sensor_id: UUID, time_from: datetime, time_to: datetime, limit: int, offset: int
) -> tuple[list[Row], int]:
    """Entries that were set aside within this time, newest first, and how many there are in all."""
    rows = await connection.fetch(_SET_ASIDE, sensor_id, time_from, time_to, limit, offset)
    total: int = await connection.fetchval(_COUNT, sensor_id, time_from, time_to)
    return rows, total


async def failed(connection: Connection, sensor_id: UUID, time_from: datetime, time_to: datetime) -> list[Row]:
    """(hour, signal, status byte, readings) of readings from within this time that failed."""
    return await connection.fetch(_FAILED, sensor_id, time_from, time_to)
