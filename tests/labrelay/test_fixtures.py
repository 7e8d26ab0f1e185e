"""What the shared fixtures promise."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import aiomqtt
import asyncpg
import pytest

from labrelay.up.mosquitto import Broker
from tests.fixtures.proxy import FaultProxy
from tests.fixtures.servers import Mosquitto

Proxy = Callable[[str, int], Awaitable[FaultProxy]]


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1024):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_a_database_is_new_and_empty(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    await connection.close()


async def test_a_wrong_password_is_refused_by_postgres(postgres_url: str) -> None:
    user, _, rest = postgres_url.removeprefix("postgresql://").partition(":")
    address = rest.partition("@")[2]
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(f"postgresql://{user}:wrong@{address}")


async def test_mosquitto_takes_the_hub_and_nobody_else(mosquitto: Mosquitto) -> None:
    async with aiomqtt.Client(mosquitto.host, mosquitto.port, username="hub", password=mosquitto.password) as hub:
        topic = f"labrelay/v1/agents/{uuid4()}/down/config"  # others use this broker too
        await hub.subscribe(topic)
        await hub.publish(topic, b"hello", qos=1)
        message = await asyncio.wait_for(anext(hub.messages), 5)
        assert message.payload == b"hello"
    with pytest.raises(aiomqtt.MqttError):
        async with aiomqtt.Client(mosquitto.host, mosquitto.port):
            pass


async def test_a_proxy_forwards_and_is_slow_on_command(fault_proxy: Proxy, echo: int) -> None:
    proxy = await fault_proxy("127.0.0.1", echo)
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    writer.write(b"ping")
    assert await asyncio.wait_for(reader.readexactly(4), 5) == b"ping"
    proxy.slow(bytes_s=10)
    writer.write(b"ping")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.readexactly(4), 0.3)
    assert await asyncio.wait_for(reader.read(4), 5)
    writer.close()
    await writer.wait_closed()


async def test_a_cut_line_resets_connections_until_it_is_mended(fault_proxy: Proxy, echo: int) -> None:
    proxy = await fault_proxy("127.0.0.1", echo)
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    writer.write(b"ping")
    await asyncio.wait_for(reader.readexactly(4), 5)
    await proxy.cut()
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(1), 5)
    writer.close()
    proxy.forward()
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    writer.write(b"pong")
    assert await asyncio.wait_for(reader.readexactly(4), 5) == b"pong"
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("fault", ["stall", "half_open"])
async def test_a_silent_line_tells_nobody(fault_proxy: Proxy, echo: int, fault: str) -> None:
    proxy = await fault_proxy("127.0.0.1", echo)
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    getattr(proxy, fault)()
    writer.write(b"ping")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(4), 0.3)
    proxy.forward()
    if fault == "stall":
        assert await asyncio.wait_for(reader.readexactly(4), 5) == b"ping"
    writer.close()
    await writer.wait_closed()


def test_a_free_port_is_free(free_port: int) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port))


def test_a_forgotten_task_or_child_fails_its_test(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    pytester.makeconftest('pytest_plugins = ["tests.fixtures.leftovers"]')
    pytester.makepyfile(
        """
        import asyncio, subprocess, pytest, sys

        async def test_forgets_a_task():
            test_forgets_a_task.task = asyncio.create_task(asyncio.sleep(60))

        async def test_forgets_nothing():
            await asyncio.create_task(asyncio.sleep(0))

        def test_forgets_a_child():
            test_forgets_a_child.child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])

        def test_tidies_up():
            test_forgets_a_child.child.kill()
            test_forgets_a_child.child.wait()
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-o", "asyncio_mode=auto")
    result.assert_outcomes(passed=4, errors=2)
    result.stdout.fnmatch_lines(["*tasks left behind*", "*child processes left behind*"])


async def test_the_embedded_broker_takes_the_hub(embedded_broker: Broker) -> None:
    async with aiomqtt.Client(
        "127.0.0.1", embedded_broker.port, username="hub", password=embedded_broker.password
    ) as hub:
        await hub.subscribe("labrelay/v1/#")
