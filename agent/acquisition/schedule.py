"""When which points of a bus are due: fixed rates, without drift, on one bus's own time.

The n-th poll of a group of points is due at ``start + n * interval``, whatever the polls before it took. One that comes
late is made once; those that it ran over are skipped and counted, never made up for in a bunch. Groups of one bus start
spread over the first second, so that equal intervals do not queue up behind each other.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from drivers.api import Device

SPREAD_S_MAX = 1.0
"""The last group of a bus is polled for the first time no later than this after the start."""

FLUSH_S = 0.2
FLUSH_SLOW_S = 1.0
FAST_READINGS_PER_S = 100


@dataclass(frozen=True, slots=True)
class Task:
    """Points of one device that are polled together.

    Attributes:
        device: index among the bus's devices.
        points: indices into the device's points, ascending; the same object at every poll.
        overruns: polls that were skipped because this one comes late.
    """

    device: int
    points: tuple[int, ...]
    overruns: int = 0


@dataclass(slots=True)
class _Group:
    task: Task
    interval_s: float
    start_s: float
    polls: int = 0

    @property
    def due_s(self) -> float:
        return self.start_s + self.polls * self.interval_s


class Schedule:
    """The polls of one bus.

    Args:
        devices: in the order in which they are polled when due at the same time.
        now_s: on the monotonic clock, the start.
    """

    def __init__(self, devices: Sequence[Device], now_s: float) -> None:
        self._groups = [_Group(task, interval_s, now_s) for task, interval_s in _tasks(devices)]
        for place, group in enumerate(self._groups):
            group.start_s += min(group.interval_s, SPREAD_S_MAX) * place / len(self._groups)
        self._due = [(group.due_s, place) for place, group in enumerate(self._groups)]
        heapq.heapify(self._due)

    def next_due_s(self) -> float:
        """When the next poll is due, on the monotonic clock; infinity without points."""
        return self._due[0][0] if self._due else float("inf")

    def take(self, now_s: float) -> Task | None:
        """The poll that has been due the longest, None if none is due at `now_s`."""
        if self.next_due_s() > now_s:
            return None
        due_s, place = self._due[0]
        group = self._groups[place]
        overruns = int((now_s - due_s) / group.interval_s)
        group.polls += 1 + overruns
        if group.due_s <= now_s:  # the division was rounded down across a due time
            group.polls += 1
            overruns += 1
        heapq.heapreplace(self._due, (group.due_s, place))
        return Task(group.task.device, group.task.points, overruns) if overruns else group.task


def flush_interval_s(device: Device) -> float:
    """How long a reading of a polled device waits for others before it is committed, unless configured otherwise."""
    return FLUSH_S if readings_per_s(device) >= FAST_READINGS_PER_S else FLUSH_SLOW_S


def readings_per_s(device: Device) -> float:
    """What polling a device brings, if it keeps up."""
    return sum(1 / point.interval_s for point in device.points)


def _tasks(devices: Sequence[Device]) -> list[tuple[Task, float]]:
    tasks: list[tuple[Task, float]] = []
    for place, device in enumerate(devices):
        by_interval: dict[float, list[int]] = {}
        for index, point in enumerate(device.points):
            by_interval.setdefault(point.interval_s, []).append(index)
        tasks.extend((Task(place, tuple(points)), interval_s) for interval_s, points in by_interval.items())
    return tasks
