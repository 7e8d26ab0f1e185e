"""Which streams of sensors are open at this hub: one connection a stream, and not too many in all.

A client that lost its connection comes again before the hub has noticed. The new connection takes the stream over: the
older one reads no more, sees what it has read committed, and leaves; only then is it said how far the stream has come.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from hub.errors import RETRY_AFTER_S, Problem
from hub.ingest.streams import StreamKey


@dataclass(frozen=True, slots=True, eq=False)
class Holder:
    """One connection's hold of a stream.

    Attributes:
        superseded: another connection wants the stream.
    """

    superseded: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)


class Inlets:
    """The open streams. For one event loop.

    Args:
        connections_max: connections at the same time.
        takeover_timeout_s: how long an older connection may take to leave.
    """

    def __init__(self, *, connections_max: int, takeover_timeout_s: float) -> None:
        self._connections_max = connections_max
        self._takeover_timeout_s = takeover_timeout_s
        self._holders: dict[StreamKey, Holder] = {}
        self.connections = 0
        """Connections that are open, whether or not they have said which stream they are for."""

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Count a connection. Raises: Problem 503 when there are too many."""
        if self.connections >= self._connections_max:
            raise _busy(f"{self.connections} connections are open, which is the most")
        self.connections += 1
        try:
            yield
        finally:
            self.connections -= 1

    @asynccontextmanager
    async def hold(self, key: StreamKey) -> AsyncIterator[Holder]:
        """Hold a stream, once whoever has it has left. Raises: Problem 503 when that takes too long."""
        older, holder = self._holders.get(key), Holder()
        self._holders[key] = holder
        try:
            if older is not None:
                older.superseded.set()
                await self._gone(older)
            yield holder
        finally:
            holder.left.set()
            if self._holders.get(key) is holder:
                del self._holders[key]

    async def _gone(self, older: Holder) -> None:
        try:
            async with asyncio.timeout(self._takeover_timeout_s):
                await older.left.wait()
        except TimeoutError:
            raise _busy("an older connection of this stream is still at work") from None


def _busy(detail: str) -> Problem:
    return Problem(503, detail, headers={"Retry-After": str(RETRY_AFTER_S)})
