"""Live values: the latest reading of each series, past the spool, conflated.

The collector offers columns from its thread; the lane keeps the latest row of each series. The first change goes out
at once, then at most one message per `interval_s` with whatever changed since. While there is no link the latest values
wait, so that a dashboard is current as soon as it returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import numpy as np

from shared.messages import Live, LiveValue, encode
from shared.readings import Columns

VALUES_PER_MESSAGE_MAX = 2_000
"""Some 150 kB; a tick with more changes takes several messages."""

NEVER_US = -1

Publish = Callable[[bytes], Awaitable[None]]


class Named(Protocol):
    """What a series is called."""

    @property
    def sensor(self) -> str: ...
    @property
    def signal(self) -> str: ...
    @property
    def unit(self) -> str: ...


class LiveLane:
    """Conflates readings for the link. `offer` may be called from any thread and waits for nobody.

    Args:
        series: the series by reference less 1; may grow.
        interval_s: between messages.
    """

    def __init__(self, series: Sequence[Named], *, interval_s: float = 0.1) -> None:
        self._series = series
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._dirty = np.zeros(1, np.bool_)
        self._timestamp_us = np.full(1, NEVER_US)
        self._raw = np.zeros(1, np.float64)
        self._physical = np.zeros(1, np.float64)
        self._status = np.zeros(1, np.uint8)
        self._waker: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    def offer(self, columns: Columns) -> None:
        """Take the latest of each series; in any order."""
        if not len(columns):
            return
        order = np.argsort(columns.timestamp_us, kind="stable")
        refs = columns.series[order]
        with self._lock:
            self._grow(int(refs.max()) + 1)
            newer = columns.timestamp_us[order] >= self._timestamp_us[refs]
            order, refs = order[newer], refs[newer]
            self._timestamp_us[refs] = columns.timestamp_us[order]
            self._raw[refs] = columns.raw[order]
            self._physical[refs] = columns.physical[order]
            self._status[refs] = columns.status[order]
            self._dirty[refs] = True
            waker, self._waker = self._waker, None
        if waker is not None:
            loop, event = waker
            with contextlib.suppress(RuntimeError):  # the loop has ended; the values stay for the next link
                loop.call_soon_threadsafe(event.set)

    def take(self) -> list[LiveValue]:
        """What changed since the last call."""
        return [value for _, value in self._take()]

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
            if self._dirty.any():
                return
            self._waker = (loop, event)
        await event.wait()

    async def _send(self, publish: Publish) -> None:
        changed = self._take()
        try:
            while changed:
                await publish(encode(Live([value for _, value in changed[:VALUES_PER_MESSAGE_MAX]])))
                del changed[:VALUES_PER_MESSAGE_MAX]
        finally:
            with self._lock:
                self._dirty[[ref for ref, _ in changed]] = True

    def _take(self) -> list[tuple[int, LiveValue]]:
        with self._lock:
            refs = np.flatnonzero(self._dirty)
            self._dirty[refs] = False
            rows = zip(
                refs.tolist(),
                self._timestamp_us[refs].tolist(),
                self._raw[refs].tolist(),
                self._physical[refs].tolist(),
                self._status[refs].tolist(),
                strict=True,
            )
        return [(row[0], _value(self._series[row[0] - 1], *row[1:])) for row in rows]

    def _grow(self, size: int) -> None:
        missing = size - len(self._dirty)
        if missing > 0:
            self._dirty = np.append(self._dirty, np.zeros(missing, np.bool_))
            self._timestamp_us = np.append(self._timestamp_us, np.full(missing, NEVER_US))
            self._raw = np.append(self._raw, np.zeros(missing))
            self._physical = np.append(self._physical, np.zeros(missing))
            self._status = np.append(self._status, np.zeros(missing, np.uint8))


def _value(name: Named, timestamp_us: int, raw: float, physical: float, status: int) -> LiveValue:
    return LiveValue(
        name.sensor,
        name.signal,
        timestamp_us,
        raw if math.isfinite(raw) else None,
        physical if math.isfinite(physical) else None,
        status,
        name.unit,
    )
