"""One sensor that sends over one WebSocket, as fast as the hub takes it: readings a second, to the committed row."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

from websockets.sync.client import ClientConnection, connect

from bench._rig.servers import Servers

READINGS_PER_MESSAGE = 1000
STEP_US = 100
TIMEOUT_S = 120.0


def measure(running: Servers, messages: int) -> dict[str, Any]:
    """Figures of so many messages with columns, timed from the first one sent to the last acknowledgement."""
    body = {"project_id": running.project_id, "name": "rig", "type": "bench"}
    token = running.post("/api/v1/sensors", body)["token"]
    address = str(running.http.base_url).replace("http://", "ws://", 1).rstrip("/") + "/api/v1/telemetry/ws"
    prepared = _messages(messages)
    with connect(address, additional_headers={"Authorization": f"Bearer {token}"}, max_size=1 << 20) as line:
        line.send(json.dumps({"type": "open", "stream": "bench"}))
        assert json.loads(line.recv(TIMEOUT_S))["type"] == "ready"
        began_s = time.perf_counter()
        sender = threading.Thread(target=_send, args=(line, prepared), name="sender")
        sender.start()
        stored = _await_acks(line, messages)
        taken_s = time.perf_counter() - began_s
        sender.join(TIMEOUT_S)
    return {
        "websocket_readings": stored,
        "websocket_per_s": stored / taken_s,
        "websocket_lost": messages * READINGS_PER_MESSAGE - stored,
    }


def _messages(count: int) -> list[str]:
    first_us = time.time_ns() // 1000 - count * READINGS_PER_MESSAGE * STEP_US
    made = []
    for number in range(count):
        start_us = first_us + number * READINGS_PER_MESSAGE * STEP_US
        columns = {
            "timestamp_us": [start_us + place * STEP_US for place in range(READINGS_PER_MESSAGE)],
            "raw_value": [float(place) for place in range(READINGS_PER_MESSAGE)],
        }
        made.append(json.dumps({"type": "readings", "seq": number + 1, "columns": columns}))
    return made


def _send(line: ClientConnection, messages: list[str]) -> None:
    for message in messages:
        line.send(message)


def _await_acks(line: ClientConnection, messages: int) -> int:
    stored, through = 0, 0
    while through < messages:
        answer = json.loads(line.recv(TIMEOUT_S))
        if answer["type"] != "ack":
            raise RuntimeError(f"the hub answers {answer}")
        stored += answer["stored"]
        through = answer["seq"]
    return stored
