"""Time: a monotonic clock anchored to UTC, so that samples never jump, and the segments in which that holds.

A *clock segment* starts with the process and with every step of the system's clock (someone set it, or a time service
corrected it by more than `STEP_US_MIN`). Within a segment timestamps follow the monotonic clock alone; the hub learns
each segment's offset to its own clock once and corrects the whole segment by it.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import Protocol

STEP_US_MIN = 500_000
"""A system clock that differs this much from the anchored one has been stepped, not slewed."""


class Timeline(Protocol):
    """One clock segment and the time in it, which goes on evenly even when a later segment has been opened."""

    @property
    def segment(self) -> int:
        """Its number."""
        ...

    def now_us(self) -> int:
        """UTC in microseconds since the Unix epoch, as this segment has it."""
        ...


class Clock(Protocol):
    """Where the program takes its time from; tests pass a `ManualClock`."""

    def now_us(self) -> int:
        """UTC in microseconds since the Unix epoch; never goes back within a segment."""
        ...

    def monotonic_s(self) -> float:
        """Seconds since an arbitrary start, for intervals and timeouts."""
        ...

    @property
    def segment(self) -> int:
        """Number of the current clock segment, from 1."""
        ...

    def timeline(self) -> Timeline:
        """The current segment with its time, read together."""
        ...


@dataclass(frozen=True, slots=True)
class _Anchor:
    segment: int
    utc_us: int
    monotonic_ns: int

    def now_us(self) -> int:
        return self.utc_us + (_running_ns() - self.monotonic_ns) // 1000


_running_ns = (
    partial(time.clock_gettime_ns, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic_ns
)
"""A monotonic clock that goes on while the machine sleeps, where there is one; elsewhere waking looks like a step."""


class AnchoredClock:
    """The system's monotonic clock, anchored to UTC once a segment. Safe to read from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._anchor = _Anchor(1, time.time_ns() // 1000, _running_ns())

    def now_us(self) -> int:
        return self._anchor.now_us()

    def monotonic_s(self) -> float:
        return time.monotonic()

    @property
    def segment(self) -> int:
        return self._anchor.segment

    def timeline(self) -> Timeline:
        return self._anchor

    def check_step(self) -> int:
        """Open a new segment if the system's clock was stepped.

        Returns: the step in microseconds (system minus anchored), 0 if there was none. Called once a second or so.
        """
        with self._lock:
            step_us = time.time_ns() // 1000 - self.now_us()
            if abs(step_us) < STEP_US_MIN:
                return 0
            self._anchor = _Anchor(self._anchor.segment + 1, time.time_ns() // 1000, _running_ns())
            return step_us


@dataclass(frozen=True, slots=True)
class _ManualTimeline:
    clock: ManualClock
    segment: int
    ahead_us: int

    def now_us(self) -> int:
        return self.clock.elapsed_us + self.ahead_us


class ManualClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now_us: int = 1_700_000_000_000_000) -> None:
        self._now_us = now_us
        self._monotonic_s = 1000.0
        self._segment = 1
        self.elapsed_us = 0
        """Since it was made, whatever it was set to."""

    def now_us(self) -> int:
        return self._now_us

    def monotonic_s(self) -> float:
        return self._monotonic_s

    @property
    def segment(self) -> int:
        return self._segment

    def timeline(self) -> Timeline:
        return _ManualTimeline(self, self._segment, self._now_us - self.elapsed_us)

    def advance_s(self, seconds: float) -> None:
        """Let time pass."""
        self._now_us += round(seconds * 1e6)
        self.elapsed_us += round(seconds * 1e6)
        self._monotonic_s += seconds

    def step_s(self, seconds: float) -> None:
        """Set the system's clock by hand: UTC jumps, the monotonic clock does not, a new segment opens."""
        self._now_us += round(seconds * 1e6)
        self._segment += 1
