"""One connection to a broker that is not there."""

from __future__ import annotations

import asyncio
import socket
from uuid import uuid4

import pytest

from agent.hub_link.broker import connected
from agent.hub_link.credentials import Credentials, MqttAccess
from agent.hub_link.settings import HubSettings
from shared.errors import LinkUnavailable


async def test_a_line_that_is_closed_before_the_broker_answers_is_given_up_at_once() -> None:
    async def slam(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    server = await asyncio.start_server(slam, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    access = Credentials(uuid4(), uuid4(), "bench", MqttAccess("127.0.0.1", port, "bench", "secret"))
    settings = HubSettings(connect_timeout_s=60)
    try:
        async with asyncio.timeout(20):
            with pytest.raises(LinkUnavailable):
                async with connected(access, instance="1" * 32, farewell=b"", settings=settings):
                    pass
    finally:
        server.close()


async def test_a_message_does_not_wait_for_the_broker_to_confirm_the_one_before() -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"\x20\x02\x00\x00")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    access = Credentials(uuid4(), uuid4(), "bench", MqttAccess("127.0.0.1", port, "bench", "secret"))
    async with (
        server,
        asyncio.timeout(20),
        connected(access, instance="1" * 32, farewell=b"", settings=HubSettings()) as client,
    ):
        line = client._client.socket()
        assert isinstance(line, socket.socket)
        assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
