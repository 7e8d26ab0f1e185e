"""The embedded broker, through the client library that agent and hub use."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiomqtt
import pytest

from labrelay.up import secret_files
from labrelay.up.mqtt import connection, credentials
from labrelay.up.mqtt.broker import Broker, Listener
from labrelay.up.mqtt.credentials import Credentials
from tests.fixtures.proxy import FaultProxy

AGENT = "labrelay/v1/agents/one"
OTHER = "labrelay/v1/agents/two"


def _agent(name: str) -> credentials.User:
    base = f"labrelay/v1/agents/{name}"
    return credentials.hashed(f"{name}-password", publish=[f"{base}/up/#"], subscribe=[f"{base}/down/#"])


@pytest.fixture
def users_file(tmp_path: Path) -> Path:
    hub = credentials.hashed("hub-password", publish=["labrelay/v1/#"], subscribe=["labrelay/v1/#"])
    file = tmp_path / "credentials.json"
    secret_files.write(file, credentials.dump({"hub": hub, "one": _agent("one"), "two": _agent("two")}))
    return file


@pytest.fixture
async def broker(users_file: Path) -> AsyncIterator[Broker]:
    async with Broker(Credentials(users_file), [Listener("127.0.0.1", 0)]) as running:
        yield running


def client(broker: Broker, name: str, **options: object) -> aiomqtt.Client:
    arguments = {"username": name, "password": f"{name}-password", "port": broker.ports[0]} | options
    return aiomqtt.Client("127.0.0.1", **arguments)  # type: ignore[arg-type]


async def take(receiver: aiomqtt.Client, timeout_s: float = 5) -> aiomqtt.Message:
    return await asyncio.wait_for(anext(receiver.messages), timeout_s)


async def silent(receiver: aiomqtt.Client) -> bool:
    with contextlib.suppress(TimeoutError):
        return not await take(receiver, 0.3)
    return True


async def test_a_message_goes_to_whoever_subscribed(broker: Broker) -> None:
    async with client(broker, "hub") as hub, client(broker, "one") as agent:
        await hub.subscribe("labrelay/v1/agents/+/up/+", qos=1)
        for qos in (0, 1, 2):
            await agent.publish(f"{AGENT}/up/data", bytes(200_000), qos=qos)
            message = await take(hub)
            assert str(message.topic) == f"{AGENT}/up/data"
            assert message.qos == min(qos, 1)
            assert len(message.payload) == 200_000
        assert await silent(hub)


@pytest.mark.parametrize(("name", "password"), [("one", "wrong"), ("nobody", "x"), (None, None)])
async def test_nobody_connects_without_the_password(
    broker: Broker, name: str | None, password: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labrelay.up.mqtt.broker.FAILED_LOGIN_PAUSE_S", 0.01)
    with pytest.raises(aiomqtt.MqttError, match="Not authorized"):
        async with client(broker, "one", username=name, password=password):
            pass


async def test_an_agent_publishes_to_its_own_topics_only(broker: Broker) -> None:
    async with client(broker, "hub") as hub, client(broker, "one") as agent:
        await hub.subscribe("labrelay/v1/#")
        for topic in (f"{OTHER}/up/data", f"{AGENT}/down/config", "labrelay/v1/projects/x/events", "$SYS/x"):
            await agent.publish(topic, b"forged", qos=1)
        await agent.publish(f"{AGENT}/up/data", b"own", qos=1)
        assert (await take(hub)).payload == b"own"
        assert await silent(hub)


@pytest.mark.parametrize("topic_filter", [f"{OTHER}/down/#", "#", f"{AGENT}/#", "labrelay/v1/agents/+/down/ack"])
async def test_an_agent_reads_its_own_topics_only(broker: Broker, topic_filter: str) -> None:
    async with client(broker, "hub") as hub, client(broker, "one") as agent:
        await hub.publish(f"{OTHER}/down/config", b"secret", qos=1, retain=True)
        await agent.subscribe(f"{AGENT}/down/#")
        granted = await agent.subscribe(topic_filter)
        assert [code if isinstance(code, int) else code.value for code in granted] == [0x80]
        assert await silent(agent)


async def test_a_retained_message_awaits_new_subscribers_until_it_is_cleared(broker: Broker) -> None:
    async with client(broker, "hub") as hub, client(broker, "one") as agent:
        await hub.publish(f"{AGENT}/down/config", b"first", qos=1, retain=True)
        await hub.publish(f"{AGENT}/down/config", b"second", qos=1, retain=True)
        await agent.subscribe(f"{AGENT}/down/#", qos=1)
        message = await take(agent)
        assert (message.payload, message.retain) == (b"second", True)
        await hub.publish(f"{AGENT}/down/config", b"third", qos=1, retain=True)
        message = await take(agent)
        assert (message.payload, message.retain) == (b"third", False)
        await hub.publish(f"{AGENT}/down/config", b"", qos=1, retain=True)
        await take(agent)
        await agent.subscribe(f"{AGENT}/down/config")
        assert await silent(agent)


async def test_the_will_of_a_silent_client_is_published(
    broker: Broker, fault_proxy: Callable[[str, int], Awaitable[FaultProxy]]
) -> None:
    proxy = await fault_proxy("127.0.0.1", broker.ports[0])
    will = aiomqtt.Will(f"{AGENT}/up/state", b"gone", qos=1, retain=True)
    async with client(broker, "hub") as hub:
        await hub.subscribe("labrelay/v1/agents/+/up/state", qos=1)
        with contextlib.suppress(aiomqtt.MqttError):
            async with client(broker, "one", port=proxy.port, will=will, keepalive=1, timeout=1):
                proxy.half_open()
                assert (await take(hub)).payload == b"gone"
                await proxy.cut()


async def test_a_client_that_takes_leave_has_no_will(broker: Broker) -> None:
    async with client(broker, "hub") as hub:
        await hub.subscribe(f"{AGENT}/up/state")
        async with client(broker, "one", will=aiomqtt.Will(f"{AGENT}/up/state", b"gone")):
            pass
        assert await silent(hub)


async def test_a_will_is_bound_by_what_its_user_may_publish(broker: Broker) -> None:
    async with client(broker, "hub") as hub:
        await hub.subscribe("labrelay/v1/#")
        _, writer = await asyncio.open_connection("127.0.0.1", broker.ports[0])
        writer.write(_connect(b"one", b"one-password", will=(f"{OTHER}/up/state".encode(), b"forged")))
        await asyncio.sleep(0.3)
        writer.transport.abort()
        assert await silent(hub)


async def test_the_same_client_takes_over_but_another_user_cannot(broker: Broker) -> None:
    async with client(broker, "two", identifier="same") as other:
        await other.subscribe(f"{OTHER}/down/#")
        with contextlib.suppress(aiomqtt.MqttError):  # also when it takes leave
            async with client(broker, "one", identifier="same") as first, client(broker, "one", identifier="same"):
                with pytest.raises(aiomqtt.MqttError):
                    await take(first)
        async with client(broker, "hub") as hub:
            await hub.publish(f"{OTHER}/down/ack", b"still here")
        assert (await take(other)).payload == b"still here"


async def test_a_revoked_user_is_thrown_out_and_a_new_one_let_in(broker: Broker, users_file: Path) -> None:
    users = credentials.load(users_file)
    del users["one"]
    users["three"] = _agent("three")
    with contextlib.suppress(aiomqtt.MqttError):  # also when it takes leave
        async with client(broker, "one") as agent:
            secret_files.write(users_file, credentials.dump(users))
            async with client(broker, "three"):
                with pytest.raises(aiomqtt.MqttError):
                    await take(agent)


async def test_a_broken_credentials_file_changes_nothing(broker: Broker, users_file: Path) -> None:
    users_file.write_text('{"users": {"one": 5}}')
    async with client(broker, "one"):
        pass


async def test_another_protocol_version_is_refused_politely(broker: Broker) -> None:
    with pytest.raises(aiomqtt.MqttError, match=r"(?i)protocol version"):
        async with client(broker, "one", protocol=aiomqtt.ProtocolVersion.V5):
            pass


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 64, b"\x30\xff\xff\xff\x7f", b"\xc0\x00"])
async def test_garbage_ends_the_connection_and_nothing_else(broker: Broker, garbage: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", broker.ports[0])
    writer.write(garbage)
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    async with client(broker, "one"):
        pass


async def test_a_subscriber_that_does_not_read_loses_messages_and_the_others_none(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "QUEUED_MAX", 50)
    monkeypatch.setattr(connection, "IN_FLIGHT_MAX", 10)
    _, stuck = await asyncio.open_connection("127.0.0.1", broker.ports[0])
    stuck.write(_connect(b"hub", b"hub-password"))
    topic = b"labrelay/v1/#"
    body = b"\x00\x01" + len(topic).to_bytes(2, "big") + topic + b"\x01"
    stuck.write(bytes([0x82, len(body)]) + body)
    async with client(broker, "hub") as hub, client(broker, "one") as agent:
        await hub.subscribe("labrelay/v1/#", qos=1)
        for number in range(200):
            await agent.publish(f"{AGENT}/up/data", str(number), qos=1)
        received = [int((await take(hub)).payload) for _ in range(200)]
        assert received == list(range(200))
        (lagging,) = [one for one in broker._clients.values() if one.dropped]
        assert lagging.dropped == 200 - 50 - 10
    stuck.transport.abort()


def _connect(username: bytes, password: bytes, will: tuple[bytes, bytes] | None = None) -> bytes:
    fields = [b"raw-client", *(will or ()), username, password]
    flags = 0xC2 | (0x04 if will else 0)
    body = b"\x00\x04MQTT\x04" + bytes([flags]) + b"\x00\x3c"
    body += b"".join(len(field).to_bytes(2, "big") + field for field in fields)
    return bytes([0x10, len(body)]) + body
