"""SQL of limits and of the readings that are judged by them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from hub.database.pool import Connection
from hub.sensors.limits import Limit, Side
from hub.sensors.store import Row
from shared.readings import Status

_VALUE = f"""
case when r.status & 15 in ({Status.CONVERTED:d}, {Status.CLIENT_PROVIDED:d}) then r.physical
     when r.status & 15 = {Status.RAW_ONLY:d} then r.raw end
"""
_OF_SENSOR = """
select signal, low, high, hysteresis, silence_s, exceeded, silent from sensor_limits where sensor_id = $1
order by signal
"""
_REMOVE_OTHERS = "delete from sensor_limits where sensor_id = $1 and signal <> all($2::text[])"
_SET = """
insert into sensor_limits as l (sensor_id, signal, low, high, hysteresis, silence_s, set_at)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict (sensor_id, signal) do update
set low = excluded.low, high = excluded.high, hysteresis = excluded.hysteresis, silence_s = excluded.silence_s,
    set_at = excluded.set_at
where (l.low, l.high, l.hysteresis, l.silence_s)
      is distinct from (excluded.low, excluded.high, excluded.hysteresis, excluded.silence_s)
"""
_TURN = "select pg_try_advisory_xact_lock(1280459057, 4)"
_WATCHED = """
select l.*, s.project_id, s.name, x.id as series_id,
       (select max(r.time) from readings r
        where r.series_id = x.id and r.time > greatest(l.judged_through, $3) and r.time <= $4) as newest
from sensor_limits l
join sensors s on s.id = l.sensor_id and s.status <> 'decommissioned'
left join series x on x.sensor_id = l.sensor_id and x.signal = l.signal
where (l.sensor_id, l.signal) > ($1, $2)
order by l.sensor_id, l.signal limit $5
for no key update of l
"""
_NEXT_BEYOND = f"""
select r.time, {_VALUE} as value from readings r
where r.series_id = $1 and r.time > $2 and r.time <= $3 and ({_VALUE} < $4 or {_VALUE} > $5)
order by r.time limit 1
"""
_NEXT_WITHIN = f"""
select r.time, {_VALUE} as value from readings r
where r.series_id = $1 and r.time > $2 and r.time <= $3 and {_VALUE} >= $4 and {_VALUE} <= $5
order by r.time limit 1
"""
_JUDGED = """
update sensor_limits set judged_through = $3, exceeded = $4, silent = $5 where sensor_id = $1 and signal = $2
"""


async def of_sensor(connection: Connection, sensor_id: UUID) -> list[Row]:
    """A sensor's limits, and how they stand."""
    return await connection.fetch(_OF_SENSOR, sensor_id)


async def replace(connection: Connection, sensor_id: UUID, limits: dict[str, Limit], now: datetime) -> None:
    """These limits and no others; what stays as it is goes on as it stands."""
    await connection.execute(_REMOVE_OTHERS, sensor_id, list(limits))
    for signal, one in sorted(limits.items()):
        await connection.execute(_SET, sensor_id, signal, one.low, one.high, one.hysteresis, one.silence_s, now)


async def begin_turn(connection: Connection) -> bool:
    """Whether no other hub is at it; none will be until the transaction ends."""
    return bool(await connection.fetchval(_TURN))


async def watched(
    connection: Connection, after: tuple[UUID, str], fresh: datetime, until: datetime, most: int
) -> list[Row]:
    """The next limits, locked, with `newest`: the time of the latest reading that is to be judged, if there is one."""
    return await connection.fetch(_WATCHED, *after, fresh, until, most)


async def next_turn(
    connection: Connection, series_id: int, limit: Limit, exceeded: Side | None, after: datetime, through: datetime
) -> Row | None:
    """(time, value) of the next reading after which it stands otherwise."""
    low = -math.inf if limit.low is None else limit.low
    high = math.inf if limit.high is None else limit.high
    if exceeded is None:
        return await connection.fetchrow(_NEXT_BEYOND, series_id, after, through, low, high)
    low = low + limit.hysteresis if exceeded is Side.LOW else -math.inf
    high = high - limit.hysteresis if exceeded is Side.HIGH else math.inf
    return await connection.fetchrow(_NEXT_WITHIN, series_id, after, through, low, high)


async def note(connection: Connection, rows: Sequence[tuple[UUID, str, datetime | None, Side | None, bool]]) -> None:
    """How limits stand now: (sensor, signal, judged through, exceeded, silent)."""
    await connection.executemany(_JUDGED, rows)
