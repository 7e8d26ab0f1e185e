"""What a limit says of a value, apart from any database.

A limit is exceeded by the first value beyond it, and cleared by the first that is back within it by the hysteresis:

::

    high ──────────────●─────────────────  exceeded
    high − hysteresis ─────────────●─────  cleared
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class Side(StrEnum):
    """Which limit."""

    LOW = "low"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Limit:
    """What is watched of a signal; in the unit of its physical values, or of raw ones where there is no profile.

    Attributes:
        silence_s: how long nothing may come.
    """

    low: float | None = None
    high: float | None = None
    hysteresis: float = 0.0
    silence_s: float | None = None

    def beyond(self, value: float) -> Side | None:
        """Which limit a value is beyond."""
        if self.high is not None and value > self.high:
            return Side.HIGH
        return Side.LOW if self.low is not None and value < self.low else None

    def clears(self, side: Side, value: float) -> bool:
        """Whether a value is back within a limit that was exceeded; so is any, once there is no such limit."""
        bound = self.high if side is Side.HIGH else self.low
        if bound is None:
            return True
        return value <= bound - self.hysteresis if side is Side.HIGH else value >= bound + self.hysteresis

    def after(self, exceeded: Side | None, value: float) -> Side | None:
        """Which limit counts as exceeded after a value."""
        if exceeded is not None and not self.clears(exceeded, value):
            return exceeded
        return self.beyond(value)

    def is_silent(self, last: datetime, now: datetime) -> bool:
        """Whether nothing has come for too long."""
        return self.silence_s is not None and now - last > timedelta(seconds=self.silence_s)
