"""Agents that deliver to a hub, without a broker between: their batches go through the hub's own writer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from hub.database.ids import uuid7
from hub.database.pool import acquire
from hub.telemetry.moments import to_us
from tests.hub.conftest import Hub
from tests.hub.ingest.conftest import Agent, columns

_IS_STORED = """
select count(*) from ledger l join epochs e on e.id = l.epoch_id where e.agent_id = $1 and l.seq = any($2::bigint[])
"""


@dataclass
class Delivery:
    """An agent of a project, and the sensors that it names."""

    hub: Hub
    project: str
    agent: Agent = field(default_factory=lambda: Agent(uuid7()))
    names: list[str] = field(default_factory=list)

    async def enrol(self, *names: str) -> None:
        """Known to the project, with sensors by these names."""
        async with acquire(self.hub.services.pool) as connection:
            await connection.execute(
                "insert into agents (id, project_id, name, mqtt_username) values ($1, $2, $3, $3)",
                self.agent.id,
                UUID(self.project),
                str(self.agent.id),
            )
        self.names = list(names)
        for arrival in (self.agent.opening(), self.agent.dictionary(*names)):
            self.hub.services.ingest.offer(arrival)
        await self.settled(1, 2)

    def offer(self, name: str, readings: Mapping[datetime, float]) -> int:
        """Deliver readings of a sensor. Returns: the seq of the batch."""
        times = [to_us(at) for at in readings]
        rows = columns([self.names.index(name) + 1] * len(times), times, list(readings.values()))
        arrival = self.agent.data(rows)
        self.hub.services.ingest.offer(arrival)
        return arrival.header.seq

    async def settled(self, *seqs: int) -> None:
        """Wait until these batches are in the ledger."""
        async with asyncio.timeout(30):
            while True:
                async with acquire(self.hub.services.pool) as connection:
                    if await connection.fetchval(_IS_STORED, self.agent.id, list(seqs)) == len(seqs):
                        return
                await asyncio.sleep(0.01)

    async def deliver(self, name: str, readings: Mapping[datetime, float]) -> None:
        """Deliver and wait until it is stored."""
        await self.settled(self.offer(name, readings))
