"""One connection to a broker that is not there."""

from __future__ import annotations

import asyncio
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
