"""Tells when a sensor comes and goes: `sensor.online`, `sensor.offline`.

A sensor comes when something of it was stored within the last 30 s, and goes after 5 min of silence; in between it is
delayed, and nothing is told. What was told last stands in the sensor's row and changes in the transaction of the event,
so that several hubs tell it once. A hub that has just started says of no sensor that it is gone: it was the hub that
was away.
"""

from __future__ import annotations

from datetime import datetime

from hub.database.pool import Connection
from hub.database.storage import Storage
from hub.events.change import begin_change
from hub.events.event import HUB, NewEvent, PublicEvent, SubjectType
from hub.sensors.grace import Grace
from hub.sensors.rules import DELAYED_WITHIN, ONLINE_WITHIN
from hub.telemetry.moments import to_datetime
from shared.clock import Clock

SENSORS_A_TURN_MAX = 1000

_TELL = """
    update sensors s set connection = $1, connection_since = $2
    from (
        select id from sensors
        where connection <> $1 and status <> 'decommissioned'
          and case when $1 = 'online' then last_heartbeat > $3 else last_heartbeat < $3 end
        order by id limit $4
        for no key update skip locked
    ) w
    where s.id = w.id
    returning s.id, s.project_id, s.name, s.last_heartbeat
"""


class ConnectionWatch:
    """Compares what was heard of sensors with what was told."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        self._grace = Grace(storage, clock)

    async def once(self) -> None:
        """Tell what has changed since. Raises: StorageUnavailable."""
        tells_offline = self._grace.is_over()
        async with begin_change(self._storage.pool, HUB, to_datetime(self._clock.now_us())) as change:
            events = await _told(change.connection, PublicEvent.SENSOR_ONLINE, change.now, change.now - ONLINE_WITHIN)
            if tells_offline:
                events += await _told(
                    change.connection, PublicEvent.SENSOR_OFFLINE, change.now, change.now - DELAYED_WITHIN
                )
            for event in events:
                change.record(event)


async def _told(connection: Connection, event_type: PublicEvent, now: datetime, bound: datetime) -> list[NewEvent]:
    status = event_type.rpartition(".")[2]
    rows = await connection.fetch(_TELL, status, now, bound, SENSORS_A_TURN_MAX)
    return [
        NewEvent(
            event_type,
            SubjectType.SENSOR,
            row["id"],
            row["project_id"],
            {
                "sensor_id": str(row["id"]),
                "name": row["name"],
                "connection_status": status,
                "last_heartbeat": row["last_heartbeat"].isoformat().replace("+00:00", "Z"),
            },
        )
        for row in rows
    ]
