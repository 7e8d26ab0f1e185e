"""How an agent is told to stop, on POSIX and on Windows alike."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress


class StopSignals:
    """SIGTERM and SIGINT (and SIGBREAK on Windows) while the agent runs; the second one has the system's own effect."""

    def __init__(self, loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
        self._loop = loop
        self._stop = stop
        self._before = {}
        for name in ("SIGTERM", "SIGINT", "SIGBREAK"):
            number = getattr(signal, name, None)
            if number is not None:
                with suppress(ValueError):  # not on the main thread: whoever runs us there stops us by `stop`
                    self._before[number] = signal.signal(number, self._received)

    def _received(self, number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        self._loop.call_soon_threadsafe(self._stop)

    def restore(self) -> None:
        """As it was before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
