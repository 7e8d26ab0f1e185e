"""`last_heartbeat` of sensors: when something of theirs was stored last, written every few seconds.

Not in the transaction of the readings: a sensor's row that someone else holds must not hold ingest up. Until it is
written, and some time after, this hub knows by itself, so that whoever asks it is told what holds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hub.database.pool import Pool, transaction
from shared.clock import Clock
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


@dataclass(slots=True)
class _Heard:
    """Series of which something was stored, at `at_us` for the last time; put together when somebody looks."""

    at_us: int = 0
    pieces: list[Int64] = field(default_factory=list)
    known: set[int] = field(default_factory=set)

    def series(self) -> set[int]:
        """All of them."""
        if self.pieces:
            self.known.update(np.unique(np.concatenate(self.pieces)).tolist())
            self.pieces.clear()
        return self.known


class Heartbeats:
    """Collects series that were heard of. A lost one is made good by the next."""

    def __init__(self, interval_s: float, clock: Clock) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._heard = _Heard()
        self._written = _Heard()

    def note(self, series_ids: Int64) -> None:
        """Readings of these series were stored."""
        if len(series_ids):
            self._heard.pieces.append(series_ids)
            self._heard.at_us = self._clock.now_us()
            if len(self._heard.pieces) > PIECES_MAX:
                self._heard.series()

    def heard_us(self, series_ids: Sequence[int]) -> int | None:
        """When something of one of these series was stored, UTC microseconds, as far as it was not written long ago.

        It is exact to the interval. None where nothing was, or the database has it.
        """
        if not series_ids:
            return None
        found = (one for one in (self._heard, self._written) if not one.series().isdisjoint(series_ids))
        return next((one.at_us for one in found), None)

    async def run(self, pool: Pool) -> None:
        """Write them down until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            if self._heard.at_us:
                self._written, self._heard = self._heard, _Heard()
                try:
                    await write(pool, sorted(self._written.series()))
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
