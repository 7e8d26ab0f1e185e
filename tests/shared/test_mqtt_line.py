"""What every message pays for: sent, confirmed and received on a line whose other end this test plays."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiomqtt
import pytest

from labrelay.up import certificates
from labrelay.up.certificates import ServerCertificate
from shared import mqtt_line
from shared.mqtt_line import MqttLine
from shared.mqtt_packets import PUBLISH, Inflow, Message, Packet, confirm, publish

CONNACK, SUBACK_OF_1, PINGRESP = b"\x20\x02\x00\x00", b"\x90\x03\x00\x01\x01", b"\xd0\x00"
SUBSCRIBE, DISCONNECT = 8, 14


class Line(MqttLine):
    """Keeps what came."""

    def __init__(self, port: int, timeout_s: float, tls: ssl.SSLContext | None) -> None:
        super().__init__("127.0.0.1", port, timeout=timeout_s, tls_context=tls)
        self.got: list[Message] = []
        self.changed = asyncio.Event()

    def came(self, topic: str, payload: bytes, *, retain: bool) -> None:
        self.got.append(Message(topic, payload, 0, retain))
        self.changed.set()

    async def until(self, count: int) -> None:
        while len(self.got) < count:
            self.changed.clear()
            await self.changed.wait()


@dataclass
class Broker:
    """The other end."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    inflow: Inflow = field(default_factory=Inflow)
    heard: list[Packet] = field(default_factory=list)

    async def packet(self) -> Packet:
        """The next one that comes."""
        while not self.heard:
            part = await self.reader.read(1 << 20)
            assert part, "the line has ended"
            self.heard += self.inflow.take(part)
        return self.heard.pop(0)

    def say(self, *packets: bytes) -> None:
        """All in one piece."""
        self.writer.write(b"".join(packets))


def contexts(certificate: ServerCertificate) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of the client and of the broker."""
    there = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    there.load_cert_chain(certificate.chain, certificate.key)
    return ssl.create_default_context(cafile=str(certificate.authority)), there


@asynccontextmanager
async def line(
    *, timeout_s: float = 30.0, certificate: ServerCertificate | None = None
) -> AsyncIterator[tuple[Line, Broker]]:
    here, there = (None, None) if certificate is None else contexts(certificate)
    ends: asyncio.Queue[Broker] = asyncio.Queue()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        broker = Broker(reader, writer)
        await broker.packet()
        broker.say(CONNACK)
        ends.put_nowait(broker)

    async with (
        asyncio.timeout(60),
        await asyncio.start_server(accept, "127.0.0.1", 0, ssl=there) as server,
        Line(server.sockets[0].getsockname()[1], timeout_s, here) as client,
    ):
        broker = await ends.get()
        try:
            yield client, broker
        finally:
            broker.writer.close()


async def test_messages_are_confirmed_together_where_they_came_together() -> None:
    async with line() as (client, broker):
        broker.say(*(publish("t", bytes((mid,)), mid=mid, retain=False) for mid in (1, 2, 3)))
        await client.until(3)
        assert [(await broker.packet()).whole for _ in range(3)] == [confirm(1), confirm(2), confirm(3)]
        assert [message.payload for message in client.got] == [b"\x01", b"\x02", b"\x03"]


async def test_a_message_that_comes_byte_by_byte_comes_once() -> None:
    async with line() as (client, broker):
        for byte in publish("topic", b"content", mid=0, retain=True):
            broker.say(bytes((byte,)))
            await broker.writer.drain()
            await asyncio.sleep(0)
        await client.until(1)
        assert client.got == [Message("topic", b"content", 0, True)]


async def test_a_message_of_many_pieces_comes_whole() -> None:
    async with line() as (client, broker):
        payload = bytes(range(256)) * 8192
        broker.say(publish("t", payload, mid=9, retain=False))
        await client.until(1)
        assert client.got[0].payload == payload
        assert (await broker.packet()).whole == confirm(9)


async def test_what_the_library_waits_for_reaches_it_between_messages() -> None:
    async with line() as (client, broker):
        subscribing = asyncio.create_task(client.subscribe("t", 1))
        assert (await broker.packet()).kind == SUBSCRIBE
        here, there = publish("t", b"before", mid=0, retain=False), publish("t", b"behind", mid=0, retain=False)
        broker.say(here, SUBACK_OF_1, there, PINGRESP)
        await subscribing
        await client.until(2)
        assert [message.payload for message in client.got] == [b"before", b"behind"]


async def test_what_comes_is_a_sign_of_life_to_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    async with line() as (client, broker):
        monkeypatch.setattr(client._client, "_last_bytes_received", 0.0)
        broker.say(publish("t", b"", mid=0, retain=False))
        await client.until(1)
        assert client._client._last_bytes_received > 0


async def test_what_the_library_publishes_is_confirmed_to_the_library() -> None:
    async with line() as (client, broker):
        publishing = asyncio.create_task(client.publish("t", b"", qos=1))
        packet = await broker.packet()
        assert packet.kind == PUBLISH
        broker.say(confirm(packet.message().mid))
        await publishing


async def test_ids_of_ours_and_of_the_library_never_meet() -> None:
    async with line() as (client, broker):
        work = [client.publish("t", b"", qos=1), client.send("t", b"", qos=1), client.publish("t", b"", qos=1)]
        tasks = [asyncio.create_task(one) for one in work]
        mids = [(await broker.packet()).message().mid for _ in tasks]
        assert len(set(mids)) == 3
        broker.say(*map(confirm, mids))
        await asyncio.wait(tasks)
        assert [task.exception() for task in tasks] == [None] * 3


async def test_without_confirmation_a_message_is_sent_when_the_line_has_taken_it() -> None:
    async with line() as (client, broker):
        await client.send("t", b"one", qos=0, retain=True)
        message = (await broker.packet()).message()
        assert message == Message("t", b"one", 0, True)


async def test_a_full_line_holds_up_what_is_not_confirmed_too() -> None:
    async with line() as (client, broker):
        payload = bytes(1 << 20)
        sending = [asyncio.create_task(client.send("t", payload, qos=0)) for _ in range(16)]
        while not client._client.want_write():
            await asyncio.sleep(0)
        assert not sending[-1].done()
        for _ in sending:
            assert (await broker.packet()).message().payload == payload
        await asyncio.wait(sending)
        assert [task.exception() for task in sending] == [None] * 16


async def test_a_line_that_takes_nothing_is_given_up_after_the_timeout() -> None:
    async with line(timeout_s=0.3) as (client, broker):
        broker.writer.transport.pause_reading()  # type: ignore[attr-defined]
        sending = [asyncio.create_task(client.send("t", bytes(1 << 20), qos=0)) for _ in range(64)]
        await asyncio.wait(sending)
        assert isinstance(sending[-1].exception(), aiomqtt.MqttError)
        assert all(task.exception() is None or "does not" in str(task.exception()) for task in sending)
        broker.writer.transport.abort()
        await asyncio.wait([client._disconnected])


async def test_whoever_waits_learns_at_once_that_the_line_has_ended() -> None:
    async with line() as (client, broker):
        sending = asyncio.create_task(client.send("t", b"", qos=1))
        await broker.packet()
        broker.writer.close()
        with pytest.raises(aiomqtt.MqttError, match="lost"):
            await sending
        with pytest.raises(aiomqtt.MqttError, match="not currently connected"):
            await client.send("t", b"", qos=0)


async def test_a_broker_that_does_not_speak_mqtt_is_a_lost_line() -> None:
    async with line() as (client, broker):
        broker.say(b"\x30\xff\xff\xff\xff\x01")
        await asyncio.wait([client._disconnected])
        assert client._disconnected.exception() is not None


async def test_confirmations_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_line, "UNCONFIRMED_MAX", 2)
    async with line() as (client, broker):
        sending = [asyncio.create_task(client.send("t", b"", qos=1)) for _ in range(2)]
        packets = [await broker.packet() for _ in sending]
        with pytest.raises(aiomqtt.MqttError, match="too many"):
            await client.send("t", b"", qos=1)
        broker.say(*(confirm(packet.message().mid) for packet in packets))
        await asyncio.wait(sending)
        assert [task.exception() for task in sending] == [None] * 2


async def test_a_parting_word_goes_behind_what_was_sent() -> None:
    async with line() as (client, broker):
        await client.send("t", b"last", qos=0)
        leaving = asyncio.create_task(client.__aexit__(None, None, None))
        assert (await broker.packet()).message().payload == b"last"
        assert (await broker.packet()).kind == DISCONNECT
        await leaving


async def test_over_tls_all_comes_and_goes_though_the_loop_knows_only_of_the_socket(tmp_path: Path) -> None:
    async with line(certificate=certificates.ensure(tmp_path, ["127.0.0.1"])) as (client, broker):
        small = [publish("t", bytes((number,)), mid=number, retain=False) for number in range(1, 201)]
        large = bytes(range(256)) * 8192
        broker.say(*small, publish("t", large, mid=201, retain=False))
        await client.until(201)
        assert [message.payload for message in client.got[:200]] == [bytes((number,)) for number in range(1, 201)]
        assert client.got[200].payload == large
        assert [(await broker.packet()).whole for _ in range(201)] == [confirm(number) for number in range(1, 202)]
        sending = [asyncio.create_task(client.send("t", large, qos=1)) for _ in range(4)]
        for _ in sending:
            message = (await broker.packet()).message()
            assert message.payload == large
            broker.say(confirm(message.mid))
        await asyncio.wait(sending)
        assert [task.exception() for task in sending] == [None] * 4
