"""One connection to a broker that this test plays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiomqtt
import pytest

from agent.hub_link.connection import INCOMING_MAX, Connection

CONNACK = b"\x20\x02\x00\x00"
PUBLISH, PUBACK, DISCONNECT = 3, 4, 14


@dataclass(frozen=True)
class Broker:
    """The other end of the line."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def packet(self) -> tuple[int, bytes]:
        """The next packet's type and what follows its header."""
        first = (await self.reader.readexactly(1))[0]
        length = shift = 0
        while True:
            part = (await self.reader.readexactly(1))[0]
            length |= (part & 0x7F) << shift
            shift += 7
            if not part & 0x80:
                return first >> 4, await self.reader.readexactly(length)

    async def published(self) -> tuple[int, bytes]:
        """Message id and payload of the next QoS 1 publish to the topic "t"."""
        kind, rest = await self.packet()
        assert kind == PUBLISH
        assert rest[:3] == b"\x00\x01t"
        return int.from_bytes(rest[3:5], "big"), rest[5:]

    def confirm(self, mid: int) -> None:
        """A PUBACK."""
        self.writer.write(b"\x40\x02" + mid.to_bytes(2, "big"))

    def publish(self, topic: str, payload: bytes) -> None:
        """A message at QoS 0."""
        rest = len(topic).to_bytes(2, "big") + topic.encode() + payload
        self.writer.write(bytes((0x30, len(rest))) + rest)


@asynccontextmanager
async def line(*, timeout_s: float = 30.0) -> AsyncIterator[tuple[Connection, Broker]]:
    ends: asyncio.Queue[Broker] = asyncio.Queue()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        broker = Broker(reader, writer)
        await broker.packet()
        writer.write(CONNACK)
        ends.put_nowait(broker)

    async with asyncio.timeout(60), await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with Connection("127.0.0.1", port, timeout=timeout_s) as connection:
            broker = await ends.get()
            try:
                yield connection, broker
            finally:
                broker.writer.close()


async def receive(connection: Connection, got: list[tuple[str, bytes]]) -> None:
    async for message in connection.received():
        got.append(message)


async def test_a_message_is_on_the_line_as_soon_as_it_is_sent_and_waits_for_its_confirmation() -> None:
    async with line() as (connection, broker):
        sending = asyncio.create_task(connection.send("t", b"content", qos=1))
        mid, payload = await broker.published()
        assert payload == b"content"
        assert not sending.done()
        broker.confirm(mid)
        await sending


async def test_confirmations_in_another_order_each_find_their_message() -> None:
    async with line() as (connection, broker):
        sending = [asyncio.create_task(connection.send("t", bytes((n,)), qos=1)) for n in range(3)]
        mids = [(await broker.published())[0] for _ in sending]
        for task, mid in reversed(list(zip(sending, mids, strict=True))):
            broker.confirm(mid)
            await task
            assert sum(other.done() for other in sending) == 3 - sending.index(task)


async def test_what_the_line_does_not_take_at_once_is_written_when_it_has_room() -> None:
    async with line() as (connection, broker):
        payload = bytes(range(256)) * 4096
        sending = [asyncio.create_task(connection.send("t", payload, qos=1)) for _ in range(10)]
        await asyncio.sleep(0.1)
        assert connection._client.want_write()
        for _ in sending:
            mid, got = await broker.published()
            assert got == payload
            broker.confirm(mid)
        await asyncio.wait(sending)
        assert not connection._client.want_write()
        assert connection._loop._selector.get_key(connection._client.socket()).events == 1  # type: ignore[attr-defined]


async def test_a_broker_that_does_not_confirm_is_given_up_after_the_timeout() -> None:
    async with line(timeout_s=0.2) as (connection, _):
        with pytest.raises(aiomqtt.MqttError, match="does not confirm"):
            await connection.send("t", b"", qos=1)


async def test_messages_come_in_their_order_and_the_end_of_the_line_behind_them() -> None:
    async with line() as (connection, broker):
        for n in range(3):
            broker.publish(f"t/{n}", bytes((n,)))
        await broker.writer.drain()
        broker.writer.close()
        got: list[tuple[str, bytes]] = []
        with pytest.raises(aiomqtt.MqttError, match="lost"):
            await receive(connection, got)
        assert got == [(f"t/{n}", bytes((n,))) for n in range(3)]
        with pytest.raises(aiomqtt.MqttError):
            await connection.send("t", b"", qos=1)


async def test_messages_that_nobody_takes_are_bounded_and_the_end_of_the_line_still_comes() -> None:
    async with line() as (connection, broker):
        for n in range(INCOMING_MAX + 10):
            broker.publish(str(n), b"")
        await broker.writer.drain()
        broker.writer.close()
        await asyncio.wait((connection._disconnected,))
        got: list[tuple[str, bytes]] = []
        with pytest.raises(aiomqtt.MqttError, match="lost"):
            await receive(connection, got)
        assert [topic for topic, _ in got] == [str(n) for n in range(INCOMING_MAX)]
