"""What comes over the data lane: batches go on, garbage is counted and answered where it says whose it is."""

from __future__ import annotations

import asyncio
import os
from typing import Any
from uuid import UUID

from hub.broker.lanes import UpMessage
from hub.database.ids import uuid7
from hub.ingest.arrivals import Arrival
from hub.ingest.subscriber import Subscriber
from hub.ingest.write import IngestWriter
from hub.metrics import Metrics
from shared import wire
from shared.messages import Refusal
from shared.records import Dictionary, SeriesEntry
from tests.hub.ingest.conftest import NOW_US, Room, columns


def _message(agent_id: UUID, payload: bytes) -> UpMessage:
    return UpMessage(agent_id, "data", payload, False)


def _subscriber(room: Room, writer: IngestWriter) -> Subscriber:
    return Subscriber(writer, room.bench.storage, Metrics())


async def _refusals(room: Room) -> list[Refusal]:
    await room.publisher.until(lambda: any(ack.refused for _, ack in room.publisher.acks))
    return [one for _, ack in room.publisher.acks for one in ack.refused]


async def test_a_message_of_several_batches_is_stored(room: Room) -> None:
    agent = await room.agent()
    body = wire.record_body(Dictionary([SeriesEntry(1, "oven")]))
    payload = agent.seal(body) + agent.seal(wire.data_body(columns([1], [NOW_US], [1.0]), derivable=False))
    async with room.writing() as writer:
        await _subscriber(room, writer).receive(_message(agent.id, payload))
        await room.publisher.until(lambda: room.publisher.acked(agent.epoch) == {1, 2})
    assert await room.value("select count(*) from readings") == 1


async def test_garbage_does_not_disturb(room: Room) -> None:
    agent = await room.agent()
    async with room.writing() as writer:
        subscriber = _subscriber(room, writer)
        for garbage in (b"", b"hello", b"LRB", os.urandom(500), b"LRB\x01" + b"\xff" * 200, bytes(200_000)):
            await subscriber.receive(_message(agent.id, garbage))
        await subscriber.receive(_message(agent.id, agent.seal(wire.record_body(Dictionary([SeriesEntry(1, "oven")])))))
        await room.publisher.until(lambda: room.publisher.acked(agent.epoch) == {1})


async def test_a_damaged_batch_is_refused_and_its_neighbours_go_in(room: Room) -> None:
    agent = await room.agent()
    first = agent.seal(wire.record_body(Dictionary([SeriesEntry(1, "oven")])))
    damaged = bytearray(agent.seal(wire.data_body(columns([1], [NOW_US], [1.0]), derivable=False)))
    damaged[-1] ^= 1
    third = agent.seal(wire.data_body(columns([1], [NOW_US + 1], [2.0]), derivable=False))
    async with room.writing() as writer:
        await _subscriber(room, writer).receive(_message(agent.id, first + bytes(damaged) + third))
        assert await _refusals(room) == [Refusal(agent.epoch.hex(), 2, "corrupt")]
        await room.publisher.until(lambda: room.publisher.acked(agent.epoch) == {1, 3})


async def test_a_batch_under_another_agents_topic_is_refused(room: Room) -> None:
    agent, thief = await room.agent(), uuid7()
    async with room.writing() as writer:
        stolen = agent.seal(wire.record_body(Dictionary([SeriesEntry(1, "oven")])))
        await _subscriber(room, writer).receive(_message(thief, stolen))
        assert [one.reason for one in await _refusals(room)] == ["not_yours"]
    assert str(thief) in room.publisher.acks[0][0]
    assert await room.value("select count(*) from ledger") == 0


async def test_a_newer_wire_version_is_refused_by_name(room: Room) -> None:
    agent = await room.agent()
    newer = bytearray(agent.seal(wire.record_body(Dictionary([SeriesEntry(1, "oven")]))))
    newer[3] = 99
    async with room.writing() as writer:
        await _subscriber(room, writer).receive(_message(agent.id, bytes(newer)))
        assert [one.reason for one in await _refusals(room)] == ["unsupported_version"]


async def test_texts_that_the_database_cannot_hold_are_refused(room: Room) -> None:
    agent = await room.agent()
    async with room.writing() as writer:
        bad = agent.seal(wire.record_body(Dictionary([SeriesEntry(1, "a\0b")])))
        await _subscriber(room, writer).receive(_message(agent.id, bad))
        assert [one.reason for one in await _refusals(room)] == ["corrupt"]


async def test_a_full_message_leaves_others_their_turn(room: Room) -> None:
    turns, at_turn = 0, list[int]()

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    class Noting:
        async def room(self) -> None:
            return

        def offer(self, arrival: Arrival) -> None:
            at_turn.extend([turns] * arrival.readings)

    agent = await room.agent()
    batch = wire.data_body(columns([1] * 1000, range(NOW_US, NOW_US + 1000), range(1000)), derivable=True)
    message = _message(agent.id, b"".join(agent.seal(batch) for _ in range(20)))
    writer: Any = Noting()
    other = asyncio.create_task(take_turns())
    await asyncio.sleep(0)
    await _subscriber(room, writer).receive(message)
    other.cancel()
    await asyncio.wait([other])
    assert len(at_turn) == 20_000
    assert max(at_turn.count(turn) for turn in set(at_turn)) < 8_000
