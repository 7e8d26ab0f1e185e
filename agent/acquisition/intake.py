"""The bounded queue between the buses' threads and the collector's.

When it is full, a polling bus waits and a listening one is told at once. Nothing that was handed over is dropped; what
was not taken for that reason is counted, and becomes a gap record.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass

from shared.clock import Clock
from shared.errors import SpoolFull
from shared.readings import Samples

WAKE_S = 0.2
"""A waiting bus looks this often whether it is to stop."""
LISTENING_LAG_US = 1_000_000
"""A listening bus hands over what it heard within this time."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Samples on their way.

    Attributes:
        device: number in the roster.
        segment: of the clock, in which they were taken.
        due_s: on the monotonic clock, by when they are to be committed.
        done: told when they are committed; None if nobody waits for that.
    """

    device: int
    samples: Samples
    segment: int
    due_s: float
    done: Future[None] | None = None


@dataclass(frozen=True, slots=True)
class Haul:
    """What the collector takes at once.

    Attributes:
        taken_through_us: all samples up to then are in this haul or in earlier ones.
    """

    arrivals: list[Arrival]
    taken_through_us: int


@dataclass(frozen=True, slots=True)
class Missed:
    """Readings that were not taken because the queue was full, and the time concerned."""

    readings: int
    from_us: int
    to_us: int


class Intake:
    """See the module. Safe to use from any thread.

    Args:
        capacity: readings that may wait.
    """

    def __init__(self, capacity: int, clock: Clock) -> None:
        self._capacity = capacity
        self._clock = clock
        self._changed = threading.Condition(threading.RLock())
        self._arrivals: deque[Arrival] = deque()
        self._readings = 0
        self._due_s = math.inf
        self._enough = 1
        self._closed = False
        self._missed: Missed | None = None
        self._busy_since: dict[str, int] = {}
        self._listening: set[str] = set()

    @property
    def readings(self) -> int:
        """How many readings wait."""
        return self._readings

    @property
    def full(self) -> bool:
        """Whether acquisition is held up."""
        return self._readings >= self._capacity

    def put(self, arrival: Arrival, *, abandoned: Callable[[], bool]) -> bool:
        """Hand over, waiting while the queue is full, unless `abandoned`. Whether it had to wait."""
        with self._changed:
            held_up = self.full
            while self.full and not self._closed:
                if abandoned():
                    return True
                self._changed.wait(WAKE_S)
            self._append(arrival)
            return held_up

    def offer(self, arrival: Arrival) -> None:
        """Hand over at once. Raises: SpoolFull when the queue is full or closed."""
        with self._changed:
            if self.full or not self._append(arrival):
                self.miss(len(arrival.samples), int(arrival.samples.timestamp_us.min()))
                raise SpoolFull("readings wait for the disk, no more are taken", hint="see `labrelay agent status`")

    def take(self, timeout_s: float, *, enough: int = 1, patience_s: float = math.inf) -> Haul:
        """All that waits, as soon as `enough` readings do, the first of them is due, any has waited beyond `patience_s`
        from now, or `timeout_s` have passed."""
        with self._changed:
            self._enough = enough
            began_s = now_s = self._clock.monotonic_s()
            while self._readings < enough and not self._closed:
                until_s = began_s + (min(timeout_s, patience_s) if self._readings else timeout_s)
                rest_s = min(until_s, self._due_s) - now_s
                if rest_s <= 0:
                    break
                self._changed.wait(rest_s)
                now_s = self._clock.monotonic_s()
            haul = Haul(list(self._arrivals), self.taken_through_us())
            self._arrivals.clear()
            self._readings, self._due_s, self._enough = 0, math.inf, 1
            self._changed.notify_all()
            return haul

    def miss(self, readings: int, from_us: int) -> None:
        """Count readings that were not taken because the queue was full."""
        with self._changed:
            before = self._missed
            from_us = from_us if before is None else min(from_us, before.from_us)
            self._missed = Missed(readings + (0 if before is None else before.readings), from_us, self._clock.now_us())

    def take_missed(self) -> Missed | None:
        """What was not taken since the last call, None if nothing."""
        with self._changed:
            missed, self._missed = self._missed, None
            return missed

    @property
    def closed(self) -> bool:
        """Whether nothing more will come."""
        return self._closed

    def close(self) -> None:
        """Take nothing more. What waits can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @contextmanager
    def reading(self, bus: str) -> Iterator[None]:
        """Around a poll and its `put`: samples from the present moment on may still come from this bus."""
        with self._changed:
            self._busy_since[bus] = self._clock.now_us()
        try:
            yield
        finally:
            with self._changed:
                del self._busy_since[bus]

    @contextmanager
    def listening(self, bus: str) -> Iterator[None]:
        """Around a listening bus's life."""
        with self._changed:
            self._listening.add(bus)
        try:
            yield
        finally:
            with self._changed:
                self._listening.discard(bus)

    def taken_through_us(self) -> int:
        """All samples up to this time have been handed over."""
        with self._changed:
            now_us = self._clock.now_us()
            earliest_us = min((now_us, *self._busy_since.values()))
            return min(earliest_us, now_us - LISTENING_LAG_US) if self._listening else earliest_us

    def _append(self, arrival: Arrival) -> bool:
        if self._closed:
            return False
        self._arrivals.append(arrival)
        self._readings += len(arrival.samples)
        sooner = arrival.due_s < self._due_s
        self._due_s = min(self._due_s, arrival.due_s)
        if sooner or self._readings >= self._enough:
            self._changed.notify_all()
        return True
