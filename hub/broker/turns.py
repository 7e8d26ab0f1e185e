"""How many may keep a connection to the database for themselves while the broker answers.

Credentials are made within the transaction that notes them. A broker that hangs would otherwise take the hub's
connections one after the other, and with them what needs no broker.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.errors import LinkUnavailable


class Turns:
    """Whoever wants something of the broker takes a turn before it takes a connection.

    Args:
        at_once_max: how many have theirs at a time.
        wait_s: how long one may wait for its own.
    """

    def __init__(self, at_once_max: int, *, wait_s: float) -> None:
        self._free = asyncio.Semaphore(at_once_max)
        self._wait_s = wait_s

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for it. Raises: LinkUnavailable when that takes too long."""
        try:
            async with asyncio.timeout(self._wait_s):
                await self._free.acquire()
        except TimeoutError:
            raise LinkUnavailable("too many wait for the broker's answer already") from None
        try:
            yield
        finally:
            self._free.release()
