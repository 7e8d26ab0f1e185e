"""A bus's clock: what is stamped for one delivery is stamped in one clock segment, which is recorded with it.

A step of the system's clock opens a new segment at any moment, also in the middle of a poll. Timestamps of the old one
under the new one's number would be corrected by the wrong offset. So the first stamp takes hold of the segment that is
open then, and those after it follow the same time until the samples are handed over.
"""

from __future__ import annotations

from shared.clock import Clock, Timeline


class Timekeeper:
    """A `Clock` for one bus, used on the bus's thread only."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: Timeline | None = None

    def now_us(self) -> int:
        return self.timeline().now_us()

    def monotonic_s(self) -> float:
        return self._clock.monotonic_s()

    @property
    def segment(self) -> int:
        return self.timeline().segment

    def timeline(self) -> Timeline:
        """The one that is held, from now on if none was."""
        if self._held is None:
            self._held = self._clock.timeline()
        return self._held

    def settle(self) -> int:
        """Let go. Returns: the segment of all stamps since the last time."""
        segment = self.segment
        self._held = None
        return segment
