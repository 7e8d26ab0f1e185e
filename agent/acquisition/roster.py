"""Who is read: devices by number, their points, and the series that the points feed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drivers.api import Device, Point
from shared.errors import ConfigurationError
from shared.readings import UInt32

POINTS_MAX = 10_000
"""Points of one device, those included that a listening device adds at run time."""

NAME_MAX, UNIT_MAX = 200, 50
"""Characters; as in `shared.records`."""


@dataclass(frozen=True, slots=True)
class Series:
    """One signal of one sensor. `ref` stands for it within this epoch."""

    ref: int
    sensor: str
    signal: str
    unit: str
    device: str


def check_point(device: Device, point: Point) -> None:
    """Refuse what the dictionary of an epoch cannot hold. Raises: ConfigurationError."""
    bounds = {
        "sensor": (point.sensor, 1, NAME_MAX),
        "signal": (point.signal, 1, NAME_MAX),
        "unit": (point.unit, 0, UNIT_MAX),
    }
    for what, (text, least, most) in bounds.items():
        if not least <= len(text) <= most:
            raise ConfigurationError(
                f"{what} of point {device.name}.{point.name} has {len(text)} characters, {least} to {most} are right",
                key=("devices", device.name, "points", point.name, what),
            )


class Roster:
    """Devices, points and series of this process. Grows and never shrinks; safe to use from any thread."""

    def __init__(self, devices: Sequence[Device]) -> None:
        self._lock = threading.Lock()
        self._devices = list(devices)
        self._numbers = {device.name: number for number, device in enumerate(devices)}
        self._points: list[dict[str, int]] = [{} for _ in devices]
        self._refs: list[list[int]] = [[] for _ in devices]
        self._by_name: dict[tuple[str, str], int] = {}
        self._series: list[Series] = []
        self._lookup: list[UInt32] = [np.empty(0, np.uint32) for _ in devices]
        for device in devices:
            for point in device.points:
                self.add_point(device, point)

    @property
    def series(self) -> Sequence[Series]:
        """All series; the one with reference `ref` stands at `ref - 1`. The list only ever grows."""
        return self._series

    def number(self, device: Device) -> int:
        """The device's number."""
        return self._numbers[device.name]

    def points(self, number: int) -> int:
        """How many points a device has now."""
        return len(self._refs[number])

    def add_point(self, device: Device, point: Point) -> int:
        """The index of a point within its device, new or known. Raises: ConfigurationError beyond `POINTS_MAX`."""
        number = self._numbers[device.name]
        check_point(device, point)
        with self._lock:
            known = self._points[number].get(point.name)
            if known is not None:
                return known
            index = len(self._refs[number])
            if index >= POINTS_MAX:
                raise ConfigurationError(
                    f"device `{device.name}` has {POINTS_MAX} points, no more are taken", key=("devices", device.name)
                )
            self._points[number][point.name] = index
            self._refs[number].append(self._ref(device, point))
            return index

    def refs(self, number: int, points: UInt32) -> UInt32:
        """The series references of points.

        Args:
            points: uint32 (n,), indices into the device's points.

        Raises: IndexError for a point that the device does not have.
        """
        try:
            return self._lookup[number][points]
        except IndexError:  # points were added
            self._lookup[number] = np.array(self._refs[number], np.uint32)
            return self._lookup[number][points]

    def _ref(self, device: Device, point: Point) -> int:
        name = (point.sensor.casefold(), point.signal)
        if name not in self._by_name:
            self._series.append(Series(len(self._series) + 1, point.sensor, point.signal, point.unit, device.name))
            self._by_name[name] = len(self._series)
        return self._by_name[name]
