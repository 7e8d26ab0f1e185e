import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from drivers.api import Device, Point
from drivers.push.bus import PushBus
from drivers.push.device import Endpoints, Limits, PushDevice
from shared.clock import ManualClock
from shared.errors import InstrumentError, LabrelayError
from shared.readings import Samples


class Spool:
    """A sink that commits at once, or when told to."""

    def __init__(self) -> None:
        self.samples: list[Samples] = []
        self.errors: list[InstrumentError] = []
        self.points: list[Point] = []
        self.promises: list[Future[None]] = []
        self.refuses: LabrelayError | None = None
        self.holds = False
        self._changed = threading.Condition()

    def deliver(self, device: Device, samples: Samples) -> Future[None]:
        if self.refuses is not None:
            raise self.refuses
        promise: Future[None] = Future()
        with self._changed:
            self.samples.append(samples)
            self.promises.append(promise)
            self._changed.notify_all()
        if not self.holds:
            promise.set_result(None)
        return promise

    def add_point(self, device: Device, point: Point) -> int:
        for index, known in enumerate(self.points):
            if known.name == point.name:
                return index
        self.points.append(point)
        return len(self.points) - 1

    def failed(self, device: Device, error: InstrumentError) -> None:
        self.errors.append(error)

    def wait(self, deliveries: int) -> None:
        """Return when so many deliveries have come."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.samples) >= deliveries, 10)

    def readings(self) -> list[tuple[str, str, float, int, int]]:
        """(point, signal, raw, timestamp, reason) of everything delivered."""
        return [
            (self.points[point].name, self.points[point].signal, raw, stamp, reason)
            for part in self.samples
            for point, raw, stamp, reason in zip(
                part.point.tolist(),
                part.raw.tolist(),
                part.timestamp_us.tolist(),
                part.reason.tolist(),
                strict=True,
            )
        ]


class Rig:
    """A push bus that listens on free ports."""

    def __init__(self, device: PushDevice, sink: Spool, clock: ManualClock) -> None:
        self.device, self.sink, self.clock = device, sink, clock
        self.bus = PushBus(device, clock)
        self.tcp, self.udp, self.http = (self.bus.port(protocol) for protocol in ("tcp", "udp", "http"))
        self.thread = threading.Thread(target=self.bus.listen, args=(sink,))
        self.thread.start()

    def close(self) -> None:
        self.bus.close()
        self.thread.join(timeout=10)
        assert not self.thread.is_alive()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def sink() -> Spool:
    return Spool()


@pytest.fixture
def push(sink: Spool, clock: ManualClock) -> Iterator[Callable[..., Rig]]:
    rigs: list[Rig] = []

    def start(limits: Limits | None = None, **more: Any) -> Rig:
        rigs.append(Rig(PushDevice("script", Endpoints(0, 0, 0), limits or Limits(), **more), sink, clock))
        return rigs[-1]

    yield start
    for rig in rigs:
        rig.close()
