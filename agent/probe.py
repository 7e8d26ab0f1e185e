"""Reads one instrument once, without spool or hub: what `labrelay agent read` shows."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from agent.acquisition.roster import Roster
from agent.acquisition.worker import listens, polls
from agent.settings import DeviceSettings
from drivers.api import Device, ListeningBus, Point
from shared.clock import Clock
from shared.errors import InstrumentError
from shared.readings import Reason, Samples

LISTENING_S = 10.0
"""A device that talks unasked gets so long to say something of each point."""


@dataclass(frozen=True, slots=True)
class ProbedValue:
    """One value. `reason` is why there is none, `NONE` for a good one."""

    point: Point
    timestamp_us: int
    raw: float
    reason: Reason


@dataclass(slots=True)
class Probe:
    """What reading a device once brought."""

    values: list[ProbedValue] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    errors: list[InstrumentError] = field(default_factory=list)

    def add(self, points: Sequence[Point], samples: Samples) -> None:
        """Take samples of these points."""
        rows = zip(
            samples.point.tolist(),
            samples.timestamp_us.tolist(),
            samples.raw.tolist(),
            samples.reason.tolist(),
            strict=True,
        )
        self.values += [ProbedValue(points[point], at_us, raw, Reason(reason)) for point, at_us, raw, reason in rows]


def probe(entry: DeviceSettings, clock: Clock, *, listening_s: float = LISTENING_S) -> Probe:
    """Open a device's bus, read all its points once, and close the bus.

    Raises: InstrumentUnavailable when the bus cannot be opened; ConfigurationError.
    """
    bus = entry.driver.open([entry.device], clock)
    found = Probe()
    try:
        if polls(bus):
            exchange = bus.read(entry.device, tuple(range(len(entry.device.points))))
            found.add(entry.device.points, exchange.samples)
            found.texts.update(exchange.texts)
            found.errors += exchange.errors
        elif listens(bus):
            _listen(bus, entry.device, found, listening_s)
    except InstrumentError as error:
        found.errors.append(error)
    finally:
        bus.close()
    return found


def _listen(bus: ListeningBus, device: Device, found: Probe, listening_s: float) -> None:
    """Until each point has come, or the time is over."""
    timer = threading.Timer(listening_s, bus.close)
    timer.start()
    try:
        bus.listen(_ProbeSink(device, bus, found))
    finally:
        timer.cancel()
        timer.join()


class _ProbeSink:
    """Collects, and closes the bus once every point has been heard; see `drivers.api.Sink`."""

    def __init__(self, device: Device, bus: ListeningBus, found: Probe) -> None:
        self._roster = Roster([device])
        self._points = list(device.points)
        self._bus = bus
        self._found = found
        self._lock = threading.Lock()

    def deliver(self, device: Device, samples: Samples) -> Future[None]:
        with self._lock:
            self._found.add(self._points, samples)
            heard = {value.point.name for value in self._found.values}
            if heard.issuperset(point.name for point in self._points):
                threading.Thread(target=self._bus.close, name="probe end", daemon=True).start()
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def add_point(self, device: Device, point: Point) -> int:
        with self._lock:
            index = self._roster.add_point(device, point)
            if index == len(self._points):
                self._points.append(point)
            return index

    def failed(self, device: Device, error: InstrumentError) -> None:
        with self._lock:
            self._found.errors.append(error)
            del self._found.errors[:-10]
