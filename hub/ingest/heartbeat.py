"""`last_heartbeat` of sensors: when something of theirs was stored last, written every few seconds.

Not in the transaction of the readings: a sensor's row that someone else holds must not hold ingest up.
"""

from __future__ import annotations

import asyncio
import logging

import numpy as np

from hub.database.pool import Pool, transaction
from shared.errors import StorageUnavailable
from shared.readings import Int64

PIECES_MAX = 1000

log = logging.getLogger(__name__)

_BEAT = """
with heard as materialized (
    select s.id from sensors s
    where s.id in (select x.sensor_id from series x where x.id = any($1::integer[]))
    order by s.id
    for no key update of s
)
update sensors set last_heartbeat = now() from heard where sensors.id = heard.id
"""
_MINUTE = """
insert into sensor_minutes (sensor_id, minute)
select distinct s.id, date_trunc('minute', now()) from sensors s join series x on x.sensor_id = s.id
where x.id = any($1::integer[]) order by 1
on conflict do nothing
"""
_REGISTERING = """
select distinct s.id from sensors s join series x on x.sensor_id = s.id
where x.id = any($1::integer[]) and s.status = 'registering'
"""
_ACTIVATE = """
update sensors set status = 'active', updated_at = now() where id = any($1::uuid[]) and status = 'registering'
"""


class Heartbeats:
    """Collects series that were heard of. A lost one is made good by the next."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._pieces: list[Int64] = []

    def note(self, series_ids: Int64) -> None:
        """Readings of these series were stored."""
        if len(series_ids):
            self._pieces.append(series_ids)
            if len(self._pieces) > PIECES_MAX:
                self._pieces = [np.unique(np.concatenate(self._pieces))]

    async def run(self, pool: Pool) -> None:
        """Write them down until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            if self._pieces:
                pieces, self._pieces = self._pieces, []
                try:
                    await write(pool, np.unique(np.concatenate(pieces)).tolist())
                except StorageUnavailable as error:
                    log.info("event=heartbeats_skipped reason=%r", error.message)


async def write(pool: Pool, series_ids: list[int]) -> None:
    """Set the heartbeat of these series' sensors to now, and note the minute; one that was registering is active."""
    async with transaction(pool) as connection:
        await connection.execute(_BEAT, series_ids)
        await connection.execute(_MINUTE, series_ids)
    async with transaction(pool) as connection:
        waiting = [row["id"] for row in await connection.fetch(_REGISTERING, series_ids)]
        if waiting:
            await connection.execute(_ACTIVATE, waiting)
