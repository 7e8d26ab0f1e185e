"""Tokens that stand in queries, since their clients can set no header, stand in no log of a running hub."""

from __future__ import annotations

import json

import httpx
from websockets.sync.client import connect

from tests.fixtures.processes import soon
from tests.fixtures.stack import Stack


def test_tokens_in_queries_stand_in_no_log(stack: Stack) -> None:
    sensor_token = stack.sensor("oven")["token"]
    user_token = stack.http.headers["Authorization"].removeprefix("Bearer ")
    for path, token in (
        ("/api/v1/events/stream", user_token),
        ("/api/v1/telemetry/stream", user_token),
        ("/api/v1/telemetry/stream", sensor_token),
    ):
        query = {"access_token": token, "idle_timeout_seconds": "0.1"}
        assert httpx.get(f"{stack.url}{path}", params=query, timeout=30).status_code == 200
    address = f"{stack.url.replace('http', 'ws')}/api/v1/telemetry/ws?access_token={sensor_token}"
    with connect(address, open_timeout=30) as line:
        line.send(json.dumps({"type": "open", "stream": "rig"}))
        assert json.loads(line.recv(30))["type"] == "ready"

    def said() -> str:
        return stack.hub.log.read_text()

    soon(lambda: "WebSocket /api/v1/telemetry/ws" in said() and said().count("/stream status=200") == 3, "it is logged")
    assert sensor_token not in said()
    assert user_token not in said()
    assert "access_token" not in said()
