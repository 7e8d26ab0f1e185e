"""A database with agents in it, and a writer in front of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from hub.database.ids import uuid7
from hub.database.pool import acquire, transaction
from hub.ingest.arrivals import Arrival
from hub.ingest.commit import Checkpoint, no_checkpoint
from hub.ingest.write import IngestWriter
from hub.metrics import Metrics
from hub.settings import HubSettings
from shared import messages, wire
from shared.clock import ManualClock
from shared.messages import Ack
from shared.readings import Columns
from shared.records import Dictionary, Opening, ProfileEntry, Record, SeriesEntry
from tests.fixtures.readings import Bench, bench

__all__ = ["bench"]

NOW_US = 1_790_000_000_000_000


def columns(
    series: Sequence[int],
    time_us: Sequence[int],
    raw: Sequence[float],
    *,
    physical: Sequence[float] | None = None,
    status: int | Sequence[int] = 0,
    profile: int | Sequence[int] = 0,
) -> Columns:
    """Columns from lists; scalars are repeated."""
    size = len(raw)
    return Columns(
        np.array(series, np.uint32),
        np.array(time_us, np.int64),
        np.array(raw, np.float64),
        np.full(size, np.nan) if physical is None else np.array(physical, np.float64),
        np.broadcast_to(np.array(status, np.uint8), size).copy(),
        np.broadcast_to(np.array(profile, np.uint32), size).copy(),
    )


@dataclass
class Agent:
    """An agent as the hub sees it: it numbers batches and seals them."""

    id: UUID
    epoch: bytes = field(default_factory=lambda: os.urandom(16))
    seq: int = 0

    def seal(self, body: wire.Body, *, seq: int | None = None, taken_through_us: int = 0) -> bytes:
        """The next batch (or that of a given seq), as bytes."""
        self.seq = seq if seq is not None else self.seq + 1
        return wire.seal(
            body,
            agent_id=self.id,
            epoch=self.epoch,
            seq=self.seq,
            created_us=NOW_US,
            taken_through_us=taken_through_us,
            clock_segment=1,
            generation=1,
        )

    def arrival(self, body: wire.Body, *, seq: int | None = None, taken_through_us: int = 0) -> Arrival:
        """The same, decoded."""
        sealed = self.seal(body, seq=seq, taken_through_us=taken_through_us)
        batch = wire.decode(sealed)
        return Arrival(batch.header, batch.content, len(sealed))

    def record(self, record: Record, *, seq: int | None = None) -> Arrival:
        """A batch that is not readings."""
        return self.arrival(wire.record_body(record), seq=seq)

    def opening(self) -> Arrival:
        """The first batch of the epoch."""
        return self.record(Opening(started_us=NOW_US, version="1", host="bench"))

    def dictionary(self, *names: str, profiles: Sequence[UUID] = ()) -> Arrival:
        """Sensors by name, from reference 1."""
        series = [SeriesEntry(place, name, "value", "V") for place, name in enumerate(names, start=1)]
        return self.record(
            Dictionary(series, [ProfileEntry(place, one) for place, one in enumerate(profiles, start=1)])
        )

    def data(
        self, readings: Columns, *, derivable: bool = False, seq: int | None = None, taken_through_us: int = 0
    ) -> Arrival:
        """Readings."""
        return self.arrival(wire.data_body(readings, derivable=derivable), seq=seq, taken_through_us=taken_through_us)


class Publisher:
    """Collects what the hub would publish."""

    def __init__(self) -> None:
        self.acks: list[tuple[str, Ack]] = []
        self.arrived = asyncio.Event()

    async def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        self.acks.append((topic, messages.decode(payload, Ack)))
        self.arrived.set()

    def acked(self, epoch: bytes) -> set[int]:
        """Seqs of an epoch that were acknowledged."""
        ranges = [one for _, ack in self.acks for one in ack.acked if one.epoch == epoch.hex()]
        return {seq for one in ranges for seq in range(one.first, one.last + 1)}

    async def until(self, done: Callable[[], Any], timeout_s: float = 20.0) -> None:
        """Wait until `done` says so, looking after each message."""
        async with asyncio.timeout(timeout_s):
            while not done():
                self.arrived.clear()
                await self.arrived.wait()


class Tail:
    """Counts notifications."""

    def __init__(self) -> None:
        self.notified = 0

    def notify(self) -> None:
        self.notified += 1


@dataclass
class Room:
    """A writer that runs, and what it is connected to."""

    bench: Bench
    settings: HubSettings
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW_US))
    publisher: Publisher = field(default_factory=Publisher)
    tail: Tail = field(default_factory=Tail)
    checkpoint: Checkpoint = no_checkpoint

    async def agent(self, name: str = "bench") -> Agent:
        """An enrolled agent of the project."""
        agent = Agent(uuid7())
        async with transaction(self.bench.pool) as connection:
            await connection.execute(
                "insert into agents (id, project_id, name, mqtt_username) values ($1, $2, $3, $3)",
                agent.id,
                self.bench.project_id,
                name,
            )
        return agent

    async def profile(
        self, sensor_id: UUID, kind: str = "linear", payload: Any = None, valid_from: Any = None, version: str = "1"
    ) -> UUID:
        """A published profile."""
        profile_id = uuid7()
        async with transaction(self.bench.pool) as connection:
            await connection.execute(
                """
                insert into conversion_profiles
                    (id, sensor_id, version, kind, payload, status, valid_from, published_at)
                values ($1, $2, $3, $4, $5, 'active', $6, now())
                """,
                profile_id,
                sensor_id,
                version,
                kind,
                payload or {"a": 2.0, "b": 1.0},
                valid_from,
            )
        return profile_id

    async def fetch(self, query: str, *arguments: Any) -> list[dict[str, Any]]:
        """Rows as dictionaries."""
        async with acquire(self.bench.pool) as connection:
            return [dict(row) for row in await connection.fetch(query, *arguments)]

    async def value(self, query: str, *arguments: Any) -> Any:
        """The first value of the first row."""
        async with acquire(self.bench.pool) as connection:
            return await connection.fetchval(query, *arguments)

    def new_writer(self) -> IngestWriter:
        """One that is not running yet."""
        return IngestWriter(
            self.settings,
            self.bench.storage,
            self.publisher,
            self.tail,
            clock=self.clock,
            metrics=Metrics(),
            checkpoint=self.checkpoint,
        )

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[IngestWriter]:
        """A writer that runs while the block lasts."""
        writer = self.new_writer()
        task = asyncio.create_task(writer.run())
        try:
            yield writer
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()

    async def send(self, writer: IngestWriter, agent: Agent, *arrivals: Arrival) -> None:
        """Offer batches and wait until they are acknowledged."""
        for arrival in arrivals:
            writer.offer(arrival)
        wanted = {arrival.header.seq for arrival in arrivals}
        await self.publisher.until(lambda: wanted <= self.publisher.acked(agent.epoch))


@pytest.fixture
def room(bench: Bench) -> Room:
    """A prepared database and everything around a writer."""
    return Room(bench, HubSettings())


RoomContext = AbstractAsyncContextManager[IngestWriter]
