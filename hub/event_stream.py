"""A response of Server-Sent Events that notices at once when its client is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

SEND_TIMEOUT_S = 60.0
"""A client that takes nothing for this long is given up."""


class EventStream(Response):
    """Sends what a generator yields, and closes the generator whichever way the stream ends.

    Args:
        events: the stream's bytes.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the events end or the client leaves."""
        async with asyncio.TaskGroup() as group:
            sender = group.create_task(self._send(send), name="event stream")
            watcher = group.create_task(_cancel_when_gone(receive, sender), name="event stream client")
            sender.add_done_callback(lambda _: watcher.cancel())

    async def _send(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            try:
                async for part in events:
                    async with asyncio.timeout(SEND_TIMEOUT_S):
                        await send({"type": "http.response.body", "body": part, "more_body": True})
            except (TimeoutError, OSError):
                return  # the client stopped reading, or left
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _cancel_when_gone(receive: Receive, sender: asyncio.Task[None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    sender.cancel()
