"""A script that does not exist: pushes a waveform to a `push` listener over TCP and keeps what was not acknowledged."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass, field

from drivers.simulators.scenarios import HELD_MAX, Chain, Reading
from drivers.simulators.signals import Waveform

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 15.0
RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Feed:
    """What is pushed, and where to.

    Attributes:
        scenario: what happens to the readings on their way; each is sent with its own time.
    """

    host: str
    port: int
    point: str
    source: Waveform
    interval_s: float = 1.0
    unit: str = ""
    scenario: Chain = field(default_factory=lambda: Chain(()))


class PushFeeder:
    """Runs a feed in a thread of its own. While the listener is away, readings wait, at most `HELD_MAX`.

    Attributes:
        acknowledged: readings that the listener has confirmed.
        refused: readings that it has refused.
        dropped: readings lost because too many waited.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._waiting: deque[Reading] = deque()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"feeder {feed.point}", daemon=True)
        self._started_at = 0.0
        self._started_us = 0
        self.acknowledged = 0
        self.refused = 0
        self.dropped = 0

    @property
    def address(self) -> str:
        """Where it pushes to."""
        return f"{self._feed.host}:{self._feed.port}"

    def start(self) -> None:
        """Begin to push; the listener need not be there yet."""
        self._started_at = time.monotonic()
        self._started_us = time.time_ns() // 1000
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what was not acknowledged is forgotten."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=ANSWER_TIMEOUT_S + CONNECT_TIMEOUT_S)

    def _run(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(OSError):
                self._connect_and_push()
            self._measure_for(RETRY_S)

    def _connect_and_push(self) -> None:
        with socket.create_connection((self._feed.host, self._feed.port), CONNECT_TIMEOUT_S) as connection:
            connection.settimeout(ANSWER_TIMEOUT_S)
            self._push(connection)

    def _push(self, connection: socket.socket) -> None:
        """Push until stopped. Raises: OSError when the listener is gone."""
        with connection.makefile("rb") as answers:
            while not self._stopping.is_set():
                while self._waiting:
                    connection.sendall(self._line(self._waiting[0]))
                    answer = answers.readline()
                    if not answer:
                        raise ConnectionResetError("the listener has closed the connection")
                    self._waiting.popleft()
                    if json.loads(answer)["ok"]:
                        self.acknowledged += 1
                    else:
                        self.refused += 1
                self._measure_for(self._feed.interval_s)

    def _measure_for(self, seconds: float) -> None:
        """Take the readings that fall due within so many seconds."""
        interval_s = self._feed.interval_s
        end = time.monotonic() + seconds
        while not self._stopping.is_set():
            age_s = time.monotonic() - self._started_at
            due_s = (age_s // interval_s + 1) * interval_s
            if self._started_at + due_s > end + interval_s / 2:
                self._stopping.wait(max(end - time.monotonic(), 0))
                return
            if self._stopping.wait(due_s - age_s):
                return
            for reading in self._feed.scenario.step(Reading(due_s, self._feed.source(due_s))):
                if len(self._waiting) >= HELD_MAX:
                    self._waiting.popleft()
                    self.dropped += 1
                self._waiting.append(reading)

    def _line(self, reading: Reading) -> bytes:
        item = {
            "point": self._feed.point,
            "value": reading.value,
            "timestamp": self._started_us + round(reading.t_s * 1e6),
            "unit": self._feed.unit,
        }
        return json.dumps(item).encode() + b"\n"
