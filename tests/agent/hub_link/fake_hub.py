"""A hub that fits a test: a ledger in memory, acknowledgements by the wire's rules, and misbehaviour on demand."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from dataclasses import dataclass, field
from uuid import UUID

import aiomqtt

from agent.spool.batch import Standing
from shared import topics, wire
from shared.messages import Ack, EpochRange, Refusal, State, TimeAnswer, TimeRequest, decode, encode
from shared.records import Dictionary
from shared.wire import Batch, Kind

Key = tuple[bytes, int]


@dataclass
class FakeHub:
    """Takes messages, answers acknowledgements.

    Attributes:
        ledger: what was committed, by identity.
        received: how often each batch came.
        refuse: reasons by identity; `lose` identities are never answered; `later` ones once.
        wants_dictionary: answer `later` and ask, until the epoch's dictionary has come since.
        lose_share: of acknowledgements that vanish on the way.
    """

    incarnation: str = "first"
    window_batches: int = 64
    ledger: dict[Key, Batch] = field(default_factory=dict)
    checksums: dict[Key, int] = field(default_factory=dict)
    received: Counter[Key] = field(default_factory=Counter)
    refuse: dict[Key, str] = field(default_factory=dict)
    lose: set[Key] = field(default_factory=set)
    later: set[Key] = field(default_factory=set)
    wants_physical: set[Key] = field(default_factory=set)
    wants_dictionary: set[bytes] = field(default_factory=set)
    lose_share: float = 0.0
    duplicate_share: float = 0.0
    delay_s_max: float = 0.0
    silent: bool = False
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    messages: int = 0
    in_flight_max: int = 0

    def receive(self, payload: bytes) -> Ack:
        """Commit what is right, say what is not."""
        self.messages += 1
        acked: list[EpochRange] = []
        refused: list[Refusal] = []
        later: list[EpochRange] = []
        physical: list[EpochRange] = []
        asked: list[str] = []
        for part in wire.split(payload):
            batch = wire.decode(part)
            key = (batch.header.epoch, batch.header.seq)
            one = EpochRange(key[0].hex(), key[1], key[1])
            self.received[key] += 1
            if isinstance(batch.content, Dictionary):
                self.wants_dictionary.discard(key[0])
            if key in self.lose:
                continue
            if key in self.refuse:
                refused.append(Refusal(key[0].hex(), key[1], self.refuse[key]))
            elif key in self.later:
                self.later.discard(key)
                later.append(one)
            elif key[0] in self.wants_dictionary and batch.header.kind is Kind.DATA:
                later.append(one)
                asked.append(key[0].hex())
            elif key in self.wants_physical and batch.content.physical_digest:  # type: ignore[union-attr]
                physical.append(one)
            else:
                assert self.checksums.setdefault(key, batch.header.checksum) == batch.header.checksum, "other content"
                self.ledger[key] = batch
                acked.append(one)
        return Ack(self.incarnation, acked, refused, later, asked, physical, self.window_batches)

    def readings(self) -> list[int]:
        """Raw values of everything stored, sorted."""
        return sorted(
            int(raw)
            for batch in self.ledger.values()
            if batch.header.kind is Kind.DATA
            for raw in batch.content.columns.raw  # type: ignore[union-attr]
        )

    def records(self, kind: type) -> list[object]:
        """All records of a kind."""
        return [batch.content for batch in self.ledger.values() if isinstance(batch.content, kind)]


class BrokerHub:
    """A `FakeHub` behind a real broker, for as long as `run` runs."""

    def __init__(self, hub: FakeHub, host: str, port: int, username: str, password: str) -> None:
        self.hub = hub
        self.states: list[State] = []
        self.live: list[bytes] = []
        self.replies: list[bytes] = []
        self._address = (host, port, username, password)
        self._client: aiomqtt.Client | None = None

    async def run(self) -> None:
        """Serve, and come back when the broker does."""
        host, port, username, password = self._address
        while True:
            with contextlib.suppress(aiomqtt.MqttError):
                async with aiomqtt.Client(host, port, username=username, password=password, timeout=3) as client:
                    self._client = client
                    await client.subscribe(topics.ALL_UP, qos=1)
                    async with asyncio.TaskGroup() as group:
                        try:
                            async for message in client.messages:
                                self._handle(client, group, message)
                        except aiomqtt.MqttError:
                            pass
            self._client = None
            await asyncio.sleep(0.05)

    async def send(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish something as the hub."""
        while self._client is None:
            await asyncio.sleep(0.02)
        await self._client.publish(topic, payload, qos=1, retain=retain)

    def _handle(self, client: aiomqtt.Client, group: asyncio.TaskGroup, message: aiomqtt.Message) -> None:
        found = topics.parse_up(message.topic.value)
        assert found is not None
        assert isinstance(message.payload, bytes)
        if found.lane == "time":
            asked = decode(message.payload, TimeRequest)
            answer = TimeAnswer(asked.segment, asked.sent_us, asked.sent_us + 5_000_000, asked.sent_us + 5_000_100)
            group.create_task(_publish(client, topics.down(found.agent_id, "time"), encode(answer), 0.0))
        elif found.lane == "state":
            self.states.append(decode(message.payload, State))
        elif found.lane == "live":
            self.live.append(message.payload)
        elif found.lane == "reply":
            self.replies.append(message.payload)
        elif not self.hub.silent:
            self._acknowledge(client, group, found.agent_id, message.payload)

    def _acknowledge(self, client: aiomqtt.Client, group: asyncio.TaskGroup, agent_id: UUID, payload: bytes) -> None:
        hub = self.hub
        ack = encode(hub.receive(payload))
        copies = 0 if hub.chance.random() < hub.lose_share else 1 + (hub.chance.random() < hub.duplicate_share)
        for _ in range(copies):
            delay_s = hub.chance.random() * hub.delay_s_max
            group.create_task(_publish(client, topics.down(agent_id, "ack"), ack, delay_s))


async def _publish(client: aiomqtt.Client, topic: str, payload: bytes, delay_s: float) -> None:
    await asyncio.sleep(delay_s)
    with contextlib.suppress(aiomqtt.MqttError):
        await client.publish(topic, payload, qos=0)


__all__ = ["BrokerHub", "FakeHub", "Key", "Standing"]
