"""A `push` device: where it listens, within which limits, and the points that it has come to know."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from drivers.api import Point
from shared.errors import ConfigurationError
from shared.readings import DEFAULT_SIGNAL

LOOPBACK = ("127.0.0.1", "::1")
SENSOR_NAME_MAX = 200


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where a device listens; a port that is None is not opened, 0 takes any free one.

    Attributes:
        hosts: addresses to bind, by default both of the loopback.
    """

    tcp_port: int | None = None
    udp_port: int | None = None
    http_port: int | None = None
    hosts: tuple[str, ...] = LOOPBACK

    @property
    def loopback(self) -> bool:
        """Whether only this computer can reach it."""
        return all(host in LOOPBACK or host.startswith("127.") or host == "localhost" for host in self.hosts)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one sender may ask of the agent.

    Attributes:
        points_max: points of the device, configured and pushed ones together.
        connections_max: open connections, TCP and HTTP apart.
        line_bytes_max: a longer line is refused.
        body_bytes_max: a longer HTTP body is refused.
        answer_timeout_s: so long a sender waits for the disk before it is told that it takes too long.
    """

    points_max: int = 500
    connections_max: int = 64
    line_bytes_max: int = 65_536
    body_bytes_max: int = 1_048_576
    answer_timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Range:
    """What a point's values may be; others become failed readings."""

    low: float = -math.inf
    high: float = math.inf


@dataclass(slots=True, eq=False)
class PushDevice:
    """A `push` listener as one device. Its points grow with what is pushed; safe to read from any thread."""

    name: str
    endpoints: Endpoints
    limits: Limits = field(default_factory=Limits)
    configured: tuple[Point, ...] = ()
    ranges: Mapping[str, Range] = field(default_factory=dict)
    _points: list[Point] = field(init=False)
    _spoken: dict[tuple[str, str | None], Point] = field(init=False, default_factory=dict)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._points = list(self.configured)
        for point in self.configured:
            self._spoken[point.name.casefold(), None] = point
            self._spoken[point.name.casefold(), point.signal] = point

    @property
    def bus(self) -> str:
        ports = (self.endpoints.tcp_port, self.endpoints.udp_port, self.endpoints.http_port)
        return f"push:{','.join('-' if port is None else str(port) for port in ports)}"

    @property
    def points(self) -> Sequence[Point]:
        return tuple(self._points)

    @property
    def timeout_s(self) -> float:
        return self.limits.answer_timeout_s

    def point(self, name: str, signal: str | None) -> Point | None:
        """The point that a sender means; names do not differ by case alone, since sensors' do not."""
        return self._spoken.get((name.casefold(), signal))

    def new_point(self, name: str, signal: str | None, unit: str) -> Point:
        """The point that such a message would make. Raises: ConfigurationError beyond `points_max`."""
        if len(self._points) >= self.limits.points_max:
            raise ConfigurationError(
                f"{self.name} has {self.limits.points_max} points, {name!r} would be one more",
                key=("devices", self.name, "points_max"),
                hint="points_max in the agent's configuration",
            )
        if len(self.name) + 1 + len(name) > SENSOR_NAME_MAX:
            raise ConfigurationError(f"{name[:40]!r} … is too long a name", key=("devices", self.name))
        signal = signal or DEFAULT_SIGNAL
        label = name if signal == DEFAULT_SIGNAL else f"{name}:{signal}"
        if any(point.name.casefold() == label.casefold() for point in self._points):
            raise ConfigurationError(f"{self.name} has another point called {label!r}", key=("devices", self.name))
        return Point(label, f"{self.name}.{name}", signal, unit)

    def add(self, name: str, index: int, point: Point) -> None:
        """Keep a new point under the name that senders use, at the index that the sink gave."""
        with self._lock:
            if index == len(self._points):
                self._points.append(point)
            self._spoken[name.casefold(), point.signal] = point
            if point.signal == DEFAULT_SIGNAL:
                self._spoken[name.casefold(), None] = point
