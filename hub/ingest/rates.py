"""How much a sensor may send: so many readings a second, with a burst of `BURST_S` of them.

What is sent is counted when it is let in, so one post may be larger than what is left; the next one then waits the
longer. The counts are this hub's own: of several hubs each lets as much in.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from uuid import UUID

from shared.clock import Clock

BURST_S = 10.0
SENSORS_MAX = 20_000
"""Sensors that are remembered; the ones unheard of for longest go first, and may send a burst again."""


@dataclass(slots=True)
class _Bucket:
    left: float
    at_s: float


class Rates:
    """Counts readings by sensor.

    Args:
        per_s_max: readings a second of a sensor that has no rate of its own; 0 for no limit.
    """

    def __init__(self, clock: Clock, *, per_s_max: int) -> None:
        self._clock = clock
        self._per_s_max = per_s_max
        self._buckets: OrderedDict[UUID, _Bucket] = OrderedDict()

    def take(self, sensor_id: UUID, readings: int, own_per_s_max: int | None = None) -> float:
        """Let readings in.

        Args:
            own_per_s_max: the sensor's own rate.

        Returns: 0, or the seconds to wait first (then nothing is counted).
        """
        per_s = own_per_s_max or self._per_s_max
        if not per_s:
            return 0.0
        now_s = self._clock.monotonic_s()
        bucket = self._buckets.pop(sensor_id, None) or _Bucket(per_s * BURST_S, now_s)
        self._buckets[sensor_id] = bucket
        while len(self._buckets) > SENSORS_MAX:
            self._buckets.popitem(last=False)
        bucket.left = min(bucket.left + (now_s - bucket.at_s) * per_s, per_s * BURST_S)
        bucket.at_s = now_s
        if bucket.left <= 0:
            return max(-bucket.left / per_s, 1 / per_s)
        bucket.left -= readings
        return 0.0


def whole_seconds(wait_s: float) -> int:
    """For `Retry-After`."""
    return max(1, math.ceil(wait_s))
