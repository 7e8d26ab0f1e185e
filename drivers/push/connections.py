"""Open connections of a listener: bounded, and ended in an orderly way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

GRACE_S = 1.5
"""So long a sender that waits for its answer is let wait when the listener ends."""
WRITE_TIMEOUT_S = 10.0

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter, "Connections"], Awaitable[None]]


class Connections:
    """Those of one listener.

    Args:
        connections_max: further ones are turned away with `busy`.
        busy: bytes that they are told.
        serve: what happens on a connection; ends when the other side does, and at once after `stopping`.
    """

    def __init__(self, connections_max: int, busy: bytes, serve: Serve) -> None:
        self._connections_max = connections_max
        self._busy = busy
        self._serve = serve
        self._waiting: dict[asyncio.Task[None], bool] = {}
        self.stopping = False

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        task = asyncio.current_task()
        assert task is not None
        try:
            if len(self._waiting) >= self._connections_max or self.stopping:
                await send(writer, self._busy)
                return
            self._waiting[task] = False
            await self._serve(reader, writer, self)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # the other side went away; what it said whole was taken
        finally:
            self._waiting.pop(task, None)
            writer.close()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Around the time from a message to its answer, which is not cut short."""
        task = asyncio.current_task()
        assert task is not None
        self._waiting[task] = True
        try:
            yield
        finally:
            self._waiting[task] = False

    async def end(self) -> None:
        """End all: those that wait for a message now, those that wait for an answer after it, or after `GRACE_S`."""
        self.stopping = True
        for task, answering in list(self._waiting.items()):
            if not answering:
                task.cancel()
        for patience_s in (GRACE_S, None):
            tasks = list(self._waiting)
            if tasks:
                await asyncio.wait(tasks, timeout=patience_s)
            for task in self._waiting:
                task.cancel()


async def send(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Write all of it. Raises: TimeoutError if the other side does not take it, OSError if it is gone."""
    writer.write(data)
    async with asyncio.timeout(WRITE_TIMEOUT_S):
        await writer.drain()
