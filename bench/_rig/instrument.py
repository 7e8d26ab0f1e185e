"""A driver whose instrument is this program itself: it delivers arrays as fast, or as regularly, as it is told.

Each device connects to its front panel (`bench._rig.panel`, in the benchmark's process) and takes orders from there.
Of everything that it delivers it keeps its own account, a `BLOCK` a delivery, in a file beside the agent: from it the
checker makes every timestamp and every value again that must be in the database. The n-th value of a series
comes from `values_of`: all 16-bit values in an order without a pattern, or a random walk in float64, so that nothing
compresses better than it would in a laboratory.
"""

from __future__ import annotations

import json
import select
import socket
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from drivers.api import Device, Point, Sink
from shared.clock import Clock
from shared.errors import InstrumentUnavailable, SpoolFull
from shared.readings import Float64, Int64, Samples

BLOCK = np.dtype([("first", "<i8"), ("count", "<i8"), ("first_us", "<i8"), ("step_us", "<i8")])
"""One delivery: number of the first reading of each series, readings a series, first timestamp, distance."""
OUTSTANDING_READINGS_MAX = 64_000
"""Delivered and not yet on the disk; the instrument waits beyond that."""
COMMIT_TIMEOUT_S = 60.0
IDLE_S = 0.5
_INTEGERS = np.random.default_rng(1).permutation(np.arange(-32_768, 32_768)).astype(np.float64)
_APART = 7919
"""How far series are from each other in the sequence of values."""
_WALK = np.cumsum(np.random.default_rng(2).normal(size=65_536))


def values_of(numbers: Int64, signal: int | Int64, *, walk: bool = False) -> Float64:
    """The raw values of readings by number, of the signal with that index."""
    values = _WALK if walk else _INTEGERS
    found: Float64 = values[(numbers + signal * _APART) % len(values)]
    return found


@dataclass(frozen=True, slots=True)
class BenchDevice:
    """`panel_port`: where its front panel listens; `account`: the file of its own account."""

    name: str
    panel_port: int
    account: Path
    points: Sequence[Point]
    walk: bool = False
    timeout_s: float = 10.0

    @property
    def bus(self) -> str:
        """Its own."""
        return f"bench:{self.name}"


@dataclass(frozen=True, slots=True)
class BenchDriver:
    """The registered object."""

    name: str = "bench"

    def device(self, name: str, table: Mapping[str, Any]) -> BenchDevice:
        """See `Driver.device`. `signals` series; of one sensor each, or all of the sensor that `sensor` names."""
        one: str = table.get("sensor", "")
        points = [
            Point(f"p{n}", one or f"{name}.p{n}", f"s{n}" if one else "value") for n in range(int(table["signals"]))
        ]
        return BenchDevice(name, int(table["panel_port"]), Path(table["account"]), points, bool(table["walk"]))

    def open(self, devices: Sequence[Device], clock: Clock) -> BenchBus:
        """See `Driver.open`."""
        device = devices[0]
        assert isinstance(device, BenchDevice)
        return BenchBus(device, clock)


INSTRUMENT = BenchDriver()


@dataclass(slots=True)
class _Order:
    """What the panel wants: deliver up to `until` blocks in all, `count` readings a series each."""

    until: int = 0
    count: int = 1
    step_us: int = 1
    interval_s: float = 0.0


@dataclass(slots=True)
class BenchBus:
    """Delivers what its panel orders."""

    device: BenchDevice
    clock: Clock
    _closed: bool = False
    _order: _Order = field(default_factory=_Order)
    _blocks: int = 0
    _numbers: int = 0
    _last_us: int = 0
    _due_s: float = 0.0
    _began_cpu_s: float = 0.0
    _delivering_cpu_s: float = 0.0
    _outstanding: deque[Future[None]] = field(default_factory=deque)

    def close(self) -> None:
        """See `ListeningBus.close`."""
        self._closed = True

    def listen(self, sink: Sink) -> None:
        """See `ListeningBus.listen`."""
        try:
            with (
                socket.create_connection(("127.0.0.1", self.device.panel_port), timeout=10) as line,
                self.device.account.open("ab") as account,
            ):
                self._began_cpu_s = time.thread_time()
                line.sendall(f"{self.device.name}\n".encode())
                self._obey(line, sink, account)
        except OSError as error:
            raise InstrumentUnavailable(f"the panel is gone: {error}") from None

    def _obey(self, line: socket.socket, sink: Sink, account: BinaryIO) -> None:
        heard = b""
        while not self._closed:
            due = self._blocks < self._order.until
            rest_s = max(self._due_s - time.monotonic(), 0.0) if due else IDLE_S
            if select.select([line], [], [], rest_s)[0]:
                part = line.recv(4096)
                if not part:
                    return
                *lines, heard = (heard + part).split(b"\n")
                for one in lines:
                    self._ordered(line, json.loads(one))
            elif due:
                self._deliver(sink, account)

    def _ordered(self, line: socket.socket, order: dict[str, Any]) -> None:
        if order:
            if self._blocks >= self._order.until:
                self._due_s = time.monotonic()
            self._order = _Order(**order)
            return
        while self._outstanding:
            self._outstanding.popleft().result(COMMIT_TIMEOUT_S)
        own_cpu_s = time.thread_time() - self._began_cpu_s - self._delivering_cpu_s
        report = {"blocks": self._blocks, "readings": self._numbers * self._signals, "cpu_s": own_cpu_s}
        line.sendall(json.dumps(report).encode() + b"\n")

    @property
    def _signals(self) -> int:
        return len(self.device.points)

    def _deliver(self, sink: Sink, account: BinaryIO) -> None:
        order = self._order
        first_us = max(self.clock.now_us() - (order.count - 1) * order.step_us, self._last_us + order.step_us)
        samples = self._samples(first_us, order)
        block = np.array([(self._numbers, order.count, first_us, order.step_us)], BLOCK)
        while len(self._outstanding) * len(samples) > OUTSTANDING_READINGS_MAX:
            self._outstanding.popleft().result(COMMIT_TIMEOUT_S)
        began_s = time.thread_time()
        try:
            self._outstanding.append(sink.deliver(self.device, samples))
        except SpoolFull:
            time.sleep(0.01)  # not taken: made again
            return
        finally:
            self._delivering_cpu_s += time.thread_time() - began_s
        account.write(block.tobytes())
        account.flush()
        self._blocks += 1
        self._numbers += order.count
        self._last_us = first_us + (order.count - 1) * order.step_us
        self._due_s += order.interval_s

    def _samples(self, first_us: int, order: _Order) -> Samples:
        signals, count = self._signals, order.count
        timestamps_us = first_us + np.arange(count, dtype=np.int64) * order.step_us
        numbers = self._numbers + np.arange(count, dtype=np.int64)
        point = np.repeat(np.arange(signals, dtype=np.uint32), count)
        return Samples(
            point,
            np.tile(timestamps_us, signals),
            values_of(np.tile(numbers, signals), point.astype(np.int64), walk=self.device.walk),
            np.zeros(signals * count, np.uint8),
        )
