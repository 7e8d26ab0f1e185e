"""A hundred agents at one hub: its share of a core, and how long acknowledgements take.

The agents are enrolled one by one and speak the real protocol, each over a connection of its own: opening, dictionary,
state, batches with QoS 1, and what the hub asks to have again is sent again. They live in this process, so latencies
include its own. The same load runs twice, the second time with a message of live values beside each batch. Hub, broker
and PostgreSQL (with fsync) are processes of their own, as shipped.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import aiomqtt
import numpy as np

from agent.hub_link.credentials import Credentials
from agent.hub_link.enrol import enrol
from bench._rig import checker, processes
from bench._rig.servers import Servers, servers
from shared import topics, wire
from shared.messages import Ack, Live, LiveValue, State, decode, encode
from shared.readings import Columns, Status
from shared.records import Dictionary, Opening, SeriesEntry

SIGNALS = 10
READINGS_PER_SIGNAL = 5
RESEND_S = 5.0
SETTLE_S = 5.0
WARM_UP_S = 2.0
"""The hub registers the sensors with the first batches."""
DRAIN_S = 30.0
LOOK_S = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--agents", type=int, default=100, help="how many (default 100)")
    parser.add_argument("--rate", type=float, default=5.0, help="batches a second of each (default 5)")
    parser.add_argument("--seconds", type=float, default=15.0, help="how long each load runs (default 15)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """The figures."""
    with tempfile.TemporaryDirectory(prefix="labrelay-fleet-") as folder, servers(Path(folder)) as running:
        fleet = [_enrolled(running, number) for number in range(options.agents)]
        return asyncio.run(_run(running, fleet, options))


def _enrolled(running: Servers, number: int) -> SimulatedAgent:
    name = f"agent-{number}"
    question = {"project_id": running.project_id, "name": name}
    code = running.post("/api/v1/agents/enrolment-codes", question)["code"]
    return SimulatedAgent(enrol(str(running.http.base_url), code, running.folder / "fleet" / name, name))


async def _run(running: Servers, fleet: list[SimulatedAgent], options: argparse.Namespace) -> dict[str, Any]:
    figures: dict[str, Any] = {"agents": len(fleet), "batches_per_s": len(fleet) * options.rate}
    database = await checker.connect(running.database_url)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one.run(), name=one.name) for one in fleet]
        await asyncio.sleep(SETTLE_S)
        await _load(running, fleet, options.rate, WARM_UP_S, live=False)
        for key, live in (("", False), ("_with_live", True)):
            measured = await _load(running, fleet, options.rate, options.seconds, live=live)
            figures |= {f"{name}{key}": value for name, value in measured.items()}
        for task in tasks:
            task.cancel()
    sent = sum(one.readings for one in fleet)
    stored = await database.fetchval("select count(*) from readings")
    await database.close()
    return figures | {"sent": sent, "lost": max(sent - stored, 0), "duplicated": max(stored - sent, 0)}


async def _load(
    running: Servers, fleet: list[SimulatedAgent], rate: float, seconds: float, *, live: bool
) -> dict[str, float]:
    for one in fleet:
        one.latencies_s.clear()
    before_s, began_s = processes.cpu_s(running.hub.pid), time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number, one in enumerate(fleet):
            offset_s = number / len(fleet) / rate
            group.create_task(one.load(rate, seconds, offset_s, live=live), name=f"load of {one.name}")
    share = (processes.cpu_s(running.hub.pid) - before_s) / (time.monotonic() - began_s)
    for _ in range(int(DRAIN_S / LOOK_S)):
        if not any(one.waiting for one in fleet):
            break
        await asyncio.sleep(LOOK_S)
    latencies_s = np.concatenate([one.latencies_s for one in fleet])
    return {
        "hub_cores": share,
        "ack_p50_ms": float(np.percentile(latencies_s, 50)) * 1000,
        "ack_p99_ms": float(np.percentile(latencies_s, 99)) * 1000,
        "acknowledged": float(len(latencies_s)),
    }


@dataclass(slots=True)
class _Sent:
    content: bytes
    first_s: float
    again_s: float


@dataclass(slots=True)
class SimulatedAgent:
    """One agent on one connection; `run` keeps it up."""

    access: Credentials
    epoch: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    latencies_s: list[float] = field(default_factory=list)
    readings: int = 0
    _seq: int = 0
    _sent: dict[int, _Sent] = field(default_factory=dict)
    _dictionary: bytes = b""
    _client: aiomqtt.Client | None = None

    @property
    def name(self) -> str:
        """At the hub."""
        return self.access.name

    async def run(self) -> None:
        """Connect, introduce itself and listen, until cancelled."""
        mqtt, agent_id = self.access.mqtt, self.access.agent_id
        async with aiomqtt.Client(mqtt.host, mqtt.port, username=mqtt.username, password=mqtt.password) as client:
            await client.subscribe(topics.down(agent_id, "ack"), qos=1)
            self._client = client
            state = State("online", self.epoch.hex(), time.time_ns() // 1000)
            await client.publish(topics.up(agent_id, "state"), encode(state), qos=1, retain=True)
            await self._publish(self._sealed(wire.record_body(Opening(started_us=time.time_ns() // 1000))))
            series = [SeriesEntry(n + 1, f"{self.name}.p{n}") for n in range(SIGNALS)]
            self._dictionary = self._sealed(wire.record_body(Dictionary(series=series)))
            await self._publish(self._dictionary)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen(client), name=f"acknowledgements of {self.name}")
                group.create_task(self._repeat(), name=f"repeats of {self.name}")

    async def load(self, rate: float, seconds: float, offset_s: float, *, live: bool) -> None:
        """Send batches at a fixed rate for a while."""
        start_s = time.monotonic() + offset_s
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(start_s + number / rate - time.monotonic(), 0))
            await self._publish(self._sealed(wire.data_body(self._columns(), derivable=True)))
            if live:
                await self._publish_live()

    @property
    def waiting(self) -> int:
        """Batches that have not been acknowledged yet."""
        return len(self._sent)

    async def _publish(self, content: bytes) -> None:
        assert self._client is not None
        await self._client.publish(topics.up(self.access.agent_id, "data"), content, qos=1)

    async def _publish_live(self) -> None:
        assert self._client is not None
        now_us = time.time_ns() // 1000
        values = [LiveValue(f"{self.name}.p{n}", "value", now_us, float(n), None, 0, "") for n in range(SIGNALS)]
        await self._client.publish(topics.up(self.access.agent_id, "live"), encode(Live(values)))

    def _columns(self) -> Columns:
        n = SIGNALS * READINGS_PER_SIGNAL
        steps = np.arange(READINGS_PER_SIGNAL, dtype=np.int64) * 10
        self.readings += n
        return Columns(
            np.repeat(np.arange(1, SIGNALS + 1, dtype=np.uint32), READINGS_PER_SIGNAL),
            np.tile(time.time_ns() // 1000 + steps, SIGNALS),
            np.arange(n, dtype=np.float64) + self._seq,
            np.full(n, np.nan),
            np.full(n, Status.RAW_ONLY, np.uint8),
            np.zeros(n, np.uint32),
        )

    def _sealed(self, body: wire.Body) -> bytes:
        self._seq += 1
        now_us, now_s = time.time_ns() // 1000, time.monotonic()
        content = wire.seal(
            body,
            agent_id=UUID(str(self.access.agent_id)),
            epoch=self.epoch,
            seq=self._seq,
            created_us=now_us,
            taken_through_us=now_us,
            clock_segment=1,
            generation=0,
        )
        self._sent[self._seq] = _Sent(content, now_s, now_s + RESEND_S)
        return content

    async def _listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            ack, now_s = decode(message.payload, Ack), time.monotonic()
            for some in ack.acked:
                for seq in range(some.first, some.last + 1):
                    sent = self._sent.pop(seq, None)
                    if sent is not None:
                        self.latencies_s.append(now_s - sent.first_s)
            if ack.dictionary:
                await self._publish(self._dictionary)

    async def _repeat(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            now_s = time.monotonic()
            for sent in [sent for sent in self._sent.values() if sent.again_s <= now_s]:
                sent.again_s = now_s + RESEND_S
                await self._publish(sent.content)
