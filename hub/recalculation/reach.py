"""Which readings a task of sessions is about; fixed when it was made, whatever becomes of the sessions. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hub.recalculation.rules import Stretch
from hub.telemetry.membership import IdRanges
from hub.telemetry.scan import timestamp
from shared.readings import Int64


@dataclass(frozen=True, slots=True)
class Reach:
    """Readings of one sensor that came before the task: by their time, or because their post named a session.

    Attributes:
        windows: of the sessions, rising and apart.
        named: ids of posts that named one of the sessions and do not lie in one window altogether.
        elsewhere: ids of posts that lie in the windows and named a session that the task is not about.
    """

    windows: Sequence[Stretch]
    named: IdRanges
    elsewhere: IdRanges

    def condition(self) -> str:
        """As SQL about `r`, a reading of the sensor."""
        within = [f"r.time >= {timestamp(one.from_us)} and r.time < {timestamp(one.to_us)}" for one in self.windows]
        inside = f"({' or '.join(within)})" if within else "false"
        if len(self.elsewhere):
            inside = f"({inside} and not {self.elsewhere.condition()})"
        return f"({inside} or {self.named.condition()})" if len(self.named) else inside

    def part(self, time_us: Int64, ids: Int64) -> Int64:
        """int64 (n,): a number for each of these readings, which belong. Between readings of one series with the same
        number there is none, in time and id, that does not belong.

        Args:
            time_us, ids: int64 (n,)
        """
        window = np.searchsorted(np.array([one.from_us for one in self.windows], np.int64), time_us, side="right")
        gap = np.searchsorted(self.elsewhere.bounds[:, 0], ids, side="right")
        post = np.searchsorted(self.named.bounds[:, 0], ids, side="right")
        found: Int64 = np.where(self.named.holds(ids), -post, window * (len(self.elsewhere) + 1) + gap)
        return found
