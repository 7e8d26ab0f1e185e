"""Live values: the latest reading of each series, past the spool, conflated.

The collector offers columns from its thread; the lane keeps the latest row of each series. The first change goes out
at once, then at most one message per `interval_s` with whatever changed since. While there is no link the latest values
wait, so that a dashboard is current as soon as it returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Sequence

from agent.newest import Named, Newest
from shared.messages import Live, LiveValue, encode
from shared.readings import Columns

VALUES_PER_MESSAGE_MAX = 2_000
"""Some 150 kB; a tick with more changes takes several messages."""

Publish = Callable[[bytes], Awaitable[None]]


class LiveLane:
    """Conflates readings for the link. `offer` may be called from any thread and waits for nobody.

    Args:
        series: the series by reference less 1; may grow.
        interval_s: between messages.
    """

    def __init__(self, series: Sequence[Named], *, interval_s: float = 0.1) -> None:
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._newest = Newest(series)
        self._waker: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    def offer(self, columns: Columns) -> None:
        """Take the latest of each series; in any order."""
        if not len(columns):
            return
        with self._lock:
            self._newest.note(columns)
            waker, self._waker = self._waker, None
        if waker is not None:
            loop, event = waker
            with contextlib.suppress(RuntimeError):  # the loop has ended; the values stay for the next link
                loop.call_soon_threadsafe(event.set)

    def take(self) -> list[LiveValue]:
        """What changed since the last call."""
        with self._lock:
            return [value for _, value in self._newest.take_changed()]

    async def run(self, publish: Publish) -> None:
        """Publish changes until cancelled. What `publish` raises ends it; unsent values are offered to the next run."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._change(loop)
                await self._send(publish)
                await asyncio.sleep(self._interval_s)
        finally:
            with self._lock:
                self._waker = None

    async def _change(self, loop: asyncio.AbstractEventLoop) -> None:
        event = asyncio.Event()
        with self._lock:
            if self._newest.may_have_changed:
                return
            self._waker = (loop, event)
        await event.wait()

    async def _send(self, publish: Publish) -> None:
        with self._lock:
            changed = self._newest.take_changed()
        try:
            while changed:
                await publish(encode(Live([value for _, value in changed[:VALUES_PER_MESSAGE_MAX]])))
                del changed[:VALUES_PER_MESSAGE_MAX]
        finally:
            with self._lock:
                self._newest.give_back(ref for ref, _ in changed)
