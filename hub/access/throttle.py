"""Slows down guessing: attempts are counted in windows, by user name and address together and by address alone.

An attempt counts when it begins, so that many at once count too, and is given back when it succeeds. Counting by user
name alone would let anyone lock anyone out. The counts are this hub's own; several hubs each allow as many.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

from shared.clock import Clock

KEYS_MAX = 20_000
"""Counts kept; the ones unused for longest go first."""


@dataclass(slots=True)
class _Window:
    started_s: float
    attempts: int


class Throttle:
    """Counts attempts per key in fixed windows.

    Args:
        window_s: length of a window in seconds.
        pair_max: attempts per (user name, address) in a window.
        address_max: attempts per address in a window.
    """

    def __init__(self, *, clock: Clock, window_s: float, pair_max: int, address_max: int) -> None:
        self._clock = clock
        self._window_s = window_s
        self._pair_max = pair_max
        self._address_max = address_max
        self._windows: OrderedDict[tuple[str, str], _Window] = OrderedDict()

    def begin(self, name: str, address: str) -> int:
        """Count an attempt. Returns: 0, or the seconds to wait when it is one too many (then it is not counted)."""
        pair = self._window((name.lower(), address))
        alone = self._window(("", address))
        now_s = self._clock.monotonic_s()
        waits = [
            window.started_s + self._window_s - now_s
            for window, most in ((pair, self._pair_max), (alone, self._address_max))
            if window.attempts >= most
        ]
        if waits:
            return max(1, math.ceil(max(waits)))
        pair.attempts += 1
        alone.attempts += 1
        return 0

    def succeed(self, name: str, address: str) -> None:
        """Give the attempt back, and forget the failed ones of this user from this address."""
        self._window((name.lower(), address)).attempts = 0
        alone = self._window(("", address))
        alone.attempts = max(0, alone.attempts - 1)

    def _window(self, key: tuple[str, str]) -> _Window:
        now_s = self._clock.monotonic_s()
        window = self._windows.pop(key, None)
        if window is None or now_s - window.started_s >= self._window_s:
            window = _Window(now_s, 0)
        self._windows[key] = window
        while len(self._windows) > KEYS_MAX:
            self._windows.popitem(last=False)
        return window
