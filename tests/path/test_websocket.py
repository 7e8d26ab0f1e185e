"""A hub is killed in the middle of a stream over WebSocket, again and again: all of it is stored, once."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.fixtures.stack import Stack

KILLS = 5
MESSAGES, READINGS = 400, 250
AHEAD = 30
"""Messages on their way without an answer: fewer than the window has, so that the client is never held up."""
CONFLICTING_EVERY = 50
TIMEOUT_S = 30.0


class Sender:
    """A client as docs/sensors.md wants it: it keeps what has no answer, and sends that again with the numbers it had.

    Attributes:
        acked: the last number that was acknowledged.
        stored, set_aside: what acknowledgements have said.
    """

    def __init__(self, stack: Stack, token: str, messages: list[dict[str, Any]]) -> None:
        self._stack, self._messages = stack, messages
        self._headers = {"Authorization": f"Bearer {token}"}
        self.acked = self.stored = self.set_aside = 0

    def follow(self) -> Iterator[int]:
        """Send on one connection, until the hub is gone or has all. Each answer is a step: how far the hub has come."""
        address = f"{self._stack.url.replace('http', 'ws')}/api/v1/telemetry/ws"
        with connect(address, additional_headers=self._headers, open_timeout=TIMEOUT_S) as line:
            try:
                yield from self._follow(line)
            except ConnectionClosed:
                return

    def _follow(self, line: ClientConnection) -> Iterator[int]:
        line.send(json.dumps({"type": "open", "stream": "rig"}))
        ready = json.loads(line.recv(TIMEOUT_S))
        assert ready["last_seq"] >= self.acked, "what was acknowledged must be there"
        self.acked = sent = ready["last_seq"]
        while self.acked < len(self._messages):
            for message in self._messages[sent : self.acked + AHEAD]:
                line.send(json.dumps(message))
                sent += 1
            told = json.loads(line.recv(TIMEOUT_S))
            assert told["type"] == "ack", told
            self.acked = told["seq"]
            self.stored += told["stored"]
            self.set_aside += told["set_aside"]
            yield self.acked


def messages(start: datetime) -> list[dict[str, Any]]:
    """Numbered, with a reading a millisecond; some say another value for the very first reading, too."""
    first_us = int(start.timestamp() * 1_000_000)
    made = []
    for number in range(MESSAGES):
        raw = [float(one) for one in range(number * READINGS, (number + 1) * READINGS)]
        times = [first_us + int(one) * 1000 for one in raw]
        if number % CONFLICTING_EVERY == CONFLICTING_EVERY - 1:
            raw, times = [*raw, -float(number)], [*times, first_us]
        made.append({"type": "readings", "seq": number + 1, "columns": {"timestamp_us": times, "raw_value": raw}})
    return made


@pytest.mark.slow
def test_a_hub_that_is_killed_in_the_middle_of_a_stream_has_all_of_it_once(stack: Stack) -> None:
    made = stack.sensor("rig", "linear", {"a": 2.0, "b": 0.0})
    sender = Sender(stack, made["token"], messages(datetime.now(UTC) - timedelta(hours=1)))
    for left in range(KILLS, 0, -1):
        until = sender.acked + random.randint(1, (MESSAGES - sender.acked) // (left + 1))
        for acked in sender.follow():
            if acked >= until:
                stack.hub.kill()
        assert sender.acked < MESSAGES, "there must be something left to be sent again"
        stack.start_hub()
    for _ in sender.follow():
        pass
    assert sender.acked == MESSAGES
    points = stack.points(sensor_id=made["sensor"]["id"], limit=20_000)
    assert sorted(point["raw_value"] for point in points) == [float(one) for one in range(MESSAGES * READINGS)]
    assert {point["physical_value"] / 2 - point["raw_value"] for point in points} == {0.0}
    assert stack.get("/api/v1/set-aside", project_id=stack.project_id)["total"] == MESSAGES // CONFLICTING_EVERY
