"""What all Server-Sent Event streams have in common: how they begin and fail, and when one that is silent speaks.

A comment goes out at least every `HEARTBEAT_S`, so that a client and what lies between know that the stream is alive.
"""

from __future__ import annotations

import asyncio

import orjson

from hub.errors import Problem, problem_of
from hub.wake import set_within
from shared.clock import Clock

HEARTBEAT_S = 8.0
HELLO = b"retry: 2000\n: connected\n\n"
_HEARTBEAT = b": heartbeat\n\n"


class Pace:
    """When a stream has to say something though nothing happens, and when it has been idle for too long.

    Args:
        idle_timeout_s: seconds without any event after which the stream ends, None for never.
    """

    def __init__(self, clock: Clock, idle_timeout_s: float | None) -> None:
        self._clock = clock
        self._idle_timeout_s = idle_timeout_s
        self._sent_s = self._active_s = clock.monotonic_s()

    def next(self, events: bytes) -> bytes | None:
        """What goes out now: these events, or a heartbeat, or nothing; None when the stream ends instead."""
        now_s = self._clock.monotonic_s()
        if events:
            self._sent_s = self._active_s = now_s
            return events
        if self._idle_timeout_s is not None and now_s - self._active_s >= self._idle_timeout_s:
            return None
        if now_s - self._sent_s >= HEARTBEAT_S:
            self._sent_s = now_s
            return _HEARTBEAT
        return b""

    async def wait(self, wake: asyncio.Event, other_s: float | None = None) -> None:
        """Wait until something happens or is due.

        Args:
            other_s: monotonic, when the stream has something else to do.
        """
        due_s = [self._sent_s + HEARTBEAT_S]
        if self._idle_timeout_s is not None:
            due_s.append(self._active_s + self._idle_timeout_s)
        if other_s is not None:
            due_s.append(other_s)
        await set_within(wake, max(0.0, min(due_s) - self._clock.monotonic_s()))


def error_event(error: Exception) -> bytes:
    """The event with which a stream ends that cannot go on."""
    problem = problem_of(error) or Problem(500, "the stream failed")
    fields = {"status": problem.status, "detail": problem.detail, "error": problem.detail, "code": problem.code}
    return b"event: error\ndata: %b\n\n" % orjson.dumps(fields)
