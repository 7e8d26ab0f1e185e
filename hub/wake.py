"""Waiting for an event that may not come."""

from __future__ import annotations

import asyncio


async def set_within(event: asyncio.Event, timeout_s: float) -> None:
    """Wait for the event, but no longer than this."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
