"""A connection to a broker that this test plays: attempts that fail leave nothing behind, neither in the log."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiomqtt
import pytest

from shared.mqtt import MqttClient

AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: the line is reset rather than ended."""
CONNACK = b"\x20\x02\x00\x00"
NOT_AUTHORISED = b"\x20\x02\x00\x05"


@asynccontextmanager
async def broker(answer: bytes | None = CONNACK) -> AsyncIterator[int]:
    """Answers the greeting so, or not at all. Gives its port."""
    lines: list[asyncio.StreamWriter] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(writer)
        if answer is not None:
            await reader.read(1)
            writer.write(answer)

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        for writer in lines:
            writer.close()


@asynccontextmanager
async def slamming() -> AsyncIterator[int]:
    """Resets each line before a word was said, from a thread of its own. Gives its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def slam() -> None:
        with suppress(OSError):
            while True:
                line, _ = listener.accept()
                time.sleep(0.05)  # so that it was made
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
                line.close()

    thread = threading.Thread(target=slam)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        listener.close()


def slow_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let any thread but the loop's own be held up just before it has a socket watched for room."""
    loop, own = asyncio.get_running_loop(), threading.get_ident()
    at_once = loop.call_soon_threadsafe

    def held_up(callback: Callable[..., object], *rest: Any, **more: Any) -> asyncio.Handle:
        if threading.get_ident() != own and getattr(callback, "__name__", "") == "add_writer":
            time.sleep(0.2)
        return at_once(callback, *rest, **more)

    monkeypatch.setattr(loop, "call_soon_threadsafe", held_up)


def keep_alives() -> list[str]:
    """Tasks that keep connections alive."""
    return [str(task) for task in asyncio.all_tasks() if "_misc_loop" in str(task)]


async def test_a_line_that_is_closed_while_it_is_made_leaves_no_trace_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    slow_to_write(monkeypatch)
    async with slamming() as port:
        for _ in range(3):
            with pytest.raises(aiomqtt.MqttError):
                async with asyncio.timeout(30), MqttClient("127.0.0.1", port, timeout=20):
                    pass
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == []


@pytest.mark.parametrize("answer", [None, NOT_AUTHORISED])
async def test_an_attempt_that_fails_leaves_neither_socket_nor_task(answer: bytes | None) -> None:
    async with broker(answer) as port:
        clients = []
        for _ in range(3):
            client = MqttClient("127.0.0.1", port, timeout=0.3)
            clients.append(client)  # or the garbage collector would close what was forgotten
            with pytest.raises(aiomqtt.MqttError):
                await client.__aenter__()
        await asyncio.sleep(0.05)
        assert all(client._client.socket() is None for client in clients)
        assert not keep_alives()


async def test_an_attempt_that_is_cancelled_closes_the_line_that_it_gets_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with broker() as port:
        client = MqttClient("127.0.0.1", port)
        connect, begun = client._client.connect, threading.Event()

        def slow(*where: Any) -> Any:
            begun.set()
            time.sleep(0.3)
            return connect(*where)

        monkeypatch.setattr(client._client, "connect", slow)
        attempt = asyncio.create_task(client.__aenter__())
        await asyncio.to_thread(begun.wait)
        attempt.cancel()
        await asyncio.wait([attempt])
        assert attempt.cancelled()
        await asyncio.sleep(0.6)
        assert client._client.socket() is None
        assert not keep_alives()


async def test_a_cancellation_is_not_lost_when_the_confirmation_comes_in_the_same_moment() -> None:
    async with broker() as port, MqttClient("127.0.0.1", port) as client:
        publishing = asyncio.create_task(client.publish("t", b"", qos=1))
        while not client._pending_publishes:
            await asyncio.sleep(0)
        (confirmed,) = client._pending_publishes.values()
        confirmed.set()
        publishing.cancel()
        await asyncio.wait([publishing])
        assert publishing.cancelled()


async def test_what_is_not_confirmed_is_given_up_after_the_timeout() -> None:
    async with broker() as port, MqttClient("127.0.0.1", port, timeout=0.3) as client:
        with pytest.raises(aiomqtt.MqttError, match="does not answer"):
            await client.publish("t", b"", qos=1)
