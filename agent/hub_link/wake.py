"""Waiting for an event that may not come."""

from __future__ import annotations

import asyncio


async def set_within(event: asyncio.Event, timeout_s: float | None) -> None:
    """Wait until the event is set, which after so long it is; None for as long as it takes."""
    if timeout_s is None:
        await event.wait()
        return
    alarm = asyncio.get_running_loop().call_later(max(timeout_s, 0.0), event.set)
    try:
        await event.wait()
    finally:
        alarm.cancel()
