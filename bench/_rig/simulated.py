"""Agents that are nothing but the protocol, so that a hundred of them fit into one process."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from uuid import UUID

import aiomqtt
import numpy as np

from agent.hub_link.credentials import Credentials
from shared import topics, wire
from shared.messages import Ack, Live, LiveValue, State, decode, encode
from shared.readings import Columns, Status
from shared.records import Dictionary, Opening, SeriesEntry

SIGNALS = 10
READINGS_PER_SIGNAL = 5
RESEND_S = 5.0
DAY_US = 86_400_000_000
BACKLOG_BATCH = 1_000
"""Readings in a batch of a backlog."""
BATCHES_PER_MESSAGE = 16
WINDOW_BATCHES_MIN = 4
"""What an agent assumes before the hub's first answer."""


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
    _window_batches: int = WINDOW_BATCHES_MIN
    _answered: asyncio.Event = field(default_factory=asyncio.Event)

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

    async def load(
        self, rate: float, seconds: float, offset_s: float, *, live: bool, until: asyncio.Task[None] | None = None
    ) -> None:
        """Send batches at a fixed rate for a while, or until a task is done."""
        start_s = time.monotonic() + offset_s
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(start_s + number / rate - time.monotonic(), 0))
            if until is not None and until.done():
                return
            columns = self.columns(READINGS_PER_SIGNAL, time.time_ns() // 1000, 10)
            await self._publish(self._sealed(wire.data_body(columns, derivable=True)))
            if live:
                await self._publish_live()

    async def room(self) -> int:
        """Wait until the hub's window leaves room. Returns: for how many batches."""
        while (room := self._window_batches - len(self._sent)) <= 0:
            self._answered.clear()
            await self._answered.wait()
        return room

    async def settled(self) -> None:
        """Wait until everything is acknowledged."""
        while self._sent:
            self._answered.clear()
            await self._answered.wait()

    async def send(self, batches: list[Columns]) -> None:
        """Send readings, several batches in one message."""
        sealed = [self._sealed(wire.data_body(columns, derivable=True)) for columns in batches]
        await self._publish(b"".join(sealed))

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

    def columns(self, per_signal: int, first_us: int, step_us: int) -> Columns:
        """Readings of all signals, so many each, not sent before."""
        n = SIGNALS * per_signal
        self.readings += n
        return Columns(
            np.repeat(np.arange(1, SIGNALS + 1, dtype=np.uint32), per_signal),
            np.tile(first_us + np.arange(per_signal, dtype=np.int64) * step_us, SIGNALS),
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
            self._window_batches = ack.window_batches
            for some in ack.acked:
                for seq in range(some.first, some.last + 1):
                    sent = self._sent.pop(seq, None)
                    if sent is not None:
                        self.latencies_s.append(now_s - sent.first_s)
            self._answered.set()
            if ack.dictionary:
                await self._publish(self._dictionary)

    async def _repeat(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            now_s = time.monotonic()
            for sent in [sent for sent in self._sent.values() if sent.again_s <= now_s]:
                sent.again_s = now_s + RESEND_S
                await self._publish(sent.content)


@dataclass(slots=True)
class Latecomer:
    """An agent with a day's readings to tell, oldest first; as an agent does, within the window that it is granted.

    Attributes:
        batches: of `BACKLOG_BATCH` readings.
        done_s: monotonic, when the last was acknowledged.
    """

    agent: SimulatedAgent
    batches: int
    done_s: float = 0.0

    async def drain(self) -> None:
        """Send all of it; returns when all of it is acknowledged."""
        per_signal = BACKLOG_BATCH // SIGNALS
        step_us = DAY_US // max(self.batches * per_signal, 1)
        first_us = time.time_ns() // 1000 - DAY_US
        sent = 0
        while sent < self.batches:
            count = min(await self.agent.room(), self.batches - sent, BATCHES_PER_MESSAGE)
            numbers = range(sent, sent + count)
            spans = [first_us + number * per_signal * step_us for number in numbers]
            await self.agent.send([self.agent.columns(per_signal, at_us, step_us) for at_us in spans])
            sent += count
        await self.agent.settled()
        self.done_s = time.monotonic()
