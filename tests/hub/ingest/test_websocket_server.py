"""The same over a real socket: what the server and a client's library make of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import uvicorn
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.hub.sessions.conftest import Lab, lab

__all__ = ["lab"]


@pytest.fixture
async def url(lab: Lab) -> AsyncIterator[str]:
    """Where the hub listens for WebSocket."""
    config = uvicorn.Config(lab.hub.app, port=0, lifespan="off", log_config=None, ws_max_size=2**20)
    server = uvicorn.Server(config)
    async with asyncio.TaskGroup() as group:
        group.create_task(server._serve(), name="server")
        async with asyncio.timeout(20):
            while not server.started:
                await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        try:
            yield f"ws://127.0.0.1:{port}/api/v1/telemetry/ws"
        finally:
            server.should_exit = True


async def test_a_client_sends_in_binary_and_is_acknowledged(lab: Lab, url: str) -> None:
    sensor = await lab.sensor("oven")
    async with connect(url, additional_headers={"Authorization": f"Bearer {lab.tokens[sensor]}"}) as client:
        await client.send(json.dumps({"type": "open", "stream": "s"}))
        assert json.loads(await client.recv())["last_seq"] == 0
        columns = {"timestamp_us": [1_772_452_800_000_000], "raw_value": [1.0]}
        await client.send(json.dumps({"type": "readings", "seq": 1, "columns": columns}).encode())
        assert json.loads(await client.recv())["stored"] == 1
        await client.send("x" * (2**20 + 1))
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


async def test_a_wrong_token_is_answered_with_401(lab: Lab, url: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"{url}?access_token=wrong"):
            pass
    assert refused.value.response.status_code == 401
