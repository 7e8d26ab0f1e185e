"""A laboratory with agents whose batches go through the hub's own writer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np

from hub.database.ids import uuid7
from hub.database.pool import acquire
from hub.ingest.arrivals import Arrival
from shared import wire
from shared.readings import Columns
from shared.records import Dictionary as Names
from shared.records import Opening, Record, SeriesEntry
from tests.hub.sessions.conftest import Lab, lab

__all__ = ["lab"]

NOON = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


def at(seconds: float) -> datetime:
    """A moment of the tests' hour."""
    return NOON + timedelta(seconds=seconds)


def at_us(seconds: float) -> int:
    """The same in microseconds."""
    return round(at(seconds).timestamp() * 1e6)


def columns(series: Sequence[int], times_us: Sequence[int], raw: Sequence[float]) -> Columns:
    """Raw readings."""
    size = len(raw)
    return Columns(
        np.array(series, np.uint32),
        np.array(times_us, np.int64),
        np.array(raw, np.float64),
        np.full(size, np.nan),
        np.zeros(size, np.uint8),
        np.zeros(size, np.uint32),
    )


@dataclass
class Box:
    """An agent as the hub sees it: it numbers its batches, and can start again."""

    lab: Lab
    names: tuple[str, ...]
    id: UUID = field(default_factory=uuid7)
    epoch: bytes = b""
    seq: int = 0
    segment: int = 1

    async def enrol(self, started: datetime) -> None:
        """Make it known, and let it begin."""
        async with acquire(self.lab.hub.services.pool) as connection:
            await connection.execute(
                "insert into agents (id, project_id, name, mqtt_username) values ($1, $2, $3, '')",
                self.id,
                UUID(self.lab.project),
                f"box {self.id}",
            )
        await self.start(started)

    async def start(self, started: datetime) -> None:
        """A new epoch, all up to whose start was taken."""
        await self.tell(started)
        await self.deliver(self.batch({}, started))

    async def tell(self, started: datetime) -> None:
        """A new epoch, which says what the last one's last batch was."""
        previous, last = self.epoch, self.seq
        self.epoch, self.seq = os.urandom(16), 0
        started_us = round(started.timestamp() * 1e6)
        opening = Opening(started_us, previous.hex(), last if previous else 0, "1", "host")
        names = Names([SeriesEntry(ref, name) for ref, name in enumerate(self.names, start=1)])
        await self.deliver(self.record(opening), self.record(names))

    def batch(self, readings: dict[datetime, float], through: datetime, *, ref: int = 1) -> Arrival:
        """The next batch: raw values by time, and through when everything was taken."""
        times = [round(one.timestamp() * 1e6) for one in readings]
        body = wire.data_body(columns([ref] * len(times), times, list(readings.values())), derivable=False)
        return self._sealed(body, round(through.timestamp() * 1e6))

    def record(self, record: Record) -> Arrival:
        """The next batch, which is not readings."""
        return self._sealed(wire.record_body(record), 0)

    async def deliver(self, *arrivals: Arrival) -> None:
        """Hand batches to the hub, and wait for their commit."""
        for one in arrivals:
            self.lab.hub.services.ingest.offer(one)
        async with asyncio.timeout(20), acquire(self.lab.hub.services.pool) as connection:
            for one in arrivals:
                header = one.header
                while not await connection.fetchval(
                    "select exists (select from ledger l join epochs e on e.id = l.epoch_id "
                    "where e.epoch = $1 and l.seq = $2 and l.checksum = $3)",
                    header.epoch,
                    header.seq,
                    header.checksum,
                ):
                    await asyncio.sleep(0.02)

    def _sealed(self, body: wire.Body, through_us: int) -> Arrival:
        self.seq += 1
        sealed = wire.seal(
            body,
            agent_id=self.id,
            epoch=self.epoch,
            seq=self.seq,
            created_us=at_us(0),
            taken_through_us=through_us,
            clock_segment=self.segment,
            generation=1,
        )
        batch = wire.decode(sealed)
        return Arrival(batch.header, batch.content, len(sealed))


async def box(lab: Lab, *names: str, started: float = -60) -> Box:
    """An agent that is running."""
    made = Box(lab, names)
    await made.enrol(at(started))
    return made


async def certificate(lab: Lab, session: dict[str, Any], **parameters: Any) -> dict[str, Any]:
    """What the hub certifies now."""
    answer = await lab.owner.get(f"{lab.path(session)}/certificate", params=parameters)
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()["certificate"]
    return said


async def stop(lab: Lab, session: dict[str, Any], seconds: float) -> None:
    """End a session at this moment."""
    answer = await lab.owner.post(f"{lab.path(session)}/stop", json={"stopped_at": at(seconds).isoformat()})
    assert answer.status_code == 200, answer.text


async def rows(lab: Lab, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
    """What SQL says, past the product."""
    async with acquire(lab.hub.services.pool) as connection:
        return [tuple(row) for row in await connection.fetch(query, *arguments)]
