"""Instruments and spools that do what a test tells them, and the real collector between them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import zstandard

from agent.spool.batch import PendingBatch
from drivers.api import Device, Exchange, Point, Sink
from shared.clock import Clock, ManualClock
from shared.columns import DecodedColumns, decode_columns
from shared.errors import SpoolError
from shared.readings import Columns, Samples
from shared.records import Gap, ProfileEntry, SeriesEntry


def samples(points: Sequence[int], timestamp_us: int | Sequence[int], raw: Sequence[float]) -> Samples:
    """Good readings."""
    n = len(points)
    return Samples(
        np.array(points, np.uint32),
        np.broadcast_to(np.array(timestamp_us, np.int64), n).copy(),
        np.array(raw, np.float64),
        np.zeros(n, np.uint8),
    )


@dataclass(frozen=True)
class Meter:
    """A device as configured."""

    name: str = "meter"
    points: tuple[Point, ...] = (Point("flow", "meter.flow", unit="L/min", interval_s=0.1),)
    bus: str = "bus"
    timeout_s: float = 0.2


@dataclass
class FakeDriver:
    """A driver whose buses answer with `answer` and cannot be opened while `refusal` is set."""

    clock: Clock
    answer: Callable[[Device, Sequence[int]], Exchange] | None = None
    hear: Callable[[Sink, threading.Event], None] | None = None
    refusal: Exception | None = None
    opened: int = 0
    closed: int = 0
    polls: list[tuple[str, float]] = field(default_factory=list)
    name: str = "fake"

    def device(self, name: str, table: object) -> Device:
        return Meter(name)

    def open(self, devices: Sequence[Device], clock: Clock) -> FakePolledBus | FakeListeningBus:
        if self.refusal is not None:
            raise self.refusal
        self.opened += 1
        return FakePolledBus(self) if self.hear is None else FakeListeningBus(self)


@dataclass
class FakePolledBus:
    driver: FakeDriver

    def read(self, device: Device, points: Sequence[int]) -> Exchange:
        self.driver.polls.append((device.name, self.driver.clock.monotonic_s()))
        if self.driver.answer is not None:
            return self.driver.answer(device, points)
        return Exchange(samples(points, self.driver.clock.now_us(), [1.0] * len(points)))

    def close(self) -> None:
        self.driver.closed += 1


@dataclass
class FakeListeningBus:
    driver: FakeDriver
    ended: threading.Event = field(default_factory=threading.Event)

    def listen(self, sink: Sink) -> None:
        assert self.driver.hear is not None
        self.driver.hear(sink, self.ended)

    def close(self) -> None:
        self.driver.closed += 1
        self.ended.set()


@dataclass
class Lapse:
    """A pause that passes at once on a manual clock, until `end_s` has come."""

    clock: ManualClock
    end_s: float
    stopped: bool = False

    def wait(self, timeout: float) -> bool:
        if not self.is_set():
            self.clock.advance_s(max(timeout, 1e-3))
        return self.is_set()

    def is_set(self) -> bool:
        return self.stopped or self.clock.monotonic_s() >= self.end_s

    def set(self) -> None:
        self.stopped = True


@dataclass
class FakeSpool:
    """Keeps what it is given, or raises `refusal`."""

    refusal: SpoolError | None = None
    batches: list[PendingBatch] = field(default_factory=list)
    commits: list[int] = field(default_factory=list)
    series: list[SeriesEntry] = field(default_factory=list)
    profiles: list[ProfileEntry] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    attempts: int = 0

    def declare(self, series: Sequence[SeriesEntry], profiles: Sequence[ProfileEntry]) -> None:
        self.series += series
        self.profiles += profiles

    def append(self, batches: Sequence[PendingBatch]) -> None:
        self.attempts += 1
        if self.refusal is not None:
            raise self.refusal
        self.batches += batches
        self.commits.append(len(batches))

    def note(self, record: Gap) -> None:
        self.gaps.append(record)

    @property
    def decoded(self) -> list[DecodedColumns]:
        return [decode_columns(plain(batch)) for batch in self.batches]

    @property
    def rows(self) -> list[tuple[int, int, float, int, int]]:
        """(series, timestamp, raw, status, profile) of all readings."""
        return [
            row
            for decoded in self.decoded
            for row in zip(
                decoded.columns.series.tolist(),
                decoded.columns.timestamp_us.tolist(),
                decoded.columns.raw.tolist(),
                decoded.columns.status.tolist(),
                decoded.columns.profile.tolist(),
                strict=True,
            )
        ]


def plain(batch: PendingBatch) -> bytes:
    """The body without its compression."""
    if not batch.body.compressed:
        return batch.body.content
    return zstandard.ZstdDecompressor().decompress(batch.body.content, max_output_size=batch.body.size)


@dataclass
class FakeLive:
    """Keeps what is shown."""

    shown: list[Columns] = field(default_factory=list)

    def offer(self, columns: Columns) -> None:
        self.shown.append(columns)
