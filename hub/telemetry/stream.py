"""One client's stream: committed readings and live values as Server-Sent Events.

`telemetry` events carry the reading's id as event id, so that a client that connects again with `Last-Event-ID` goes
on where it was. `live` events have none and are never resumed. Whether
the caller may still see what it sees is asked again every `RECHECK_S`; that is also when new sensors of a project join.

The stream ends after `max_events` or `idle_timeout_s`, when the hub shuts down, and, with an `error` event, when the
caller's token is revoked or the database is lost.

Nothing here waits for the database: what has to be asked there is asked aside, and live values go out meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import orjson

from hub.database.pool import Pool, acquire
from hub.errors import Problem
from hub.sse import HELLO, Pace, error_event
from hub.telemetry.errands import Errand
from hub.telemetry.live import LiveHub, LiveReading, Watch
from hub.telemetry.moments import to_datetime
from hub.telemetry.points import status_label, system_meta, timestamp_text
from hub.telemetry.scope import Scope, Sight
from hub.telemetry.tail import Since, Subscription, Tail
from shared.clock import Clock
from shared.errors import StorageUnavailable

RECHECK_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRequest:
    """What a client wants.

    Attributes:
        cursor: telemetry with higher ids.
        max_events: telemetry events after which the stream ends, None for never.
        idle_timeout_s: seconds without any event after which it ends, None for never.
        live: whether live values come too.
    """

    scope: Scope
    cursor: int
    since: Since | None = None
    max_events: int | None = None
    idle_timeout_s: float | None = None
    live: bool = False


class Stream:
    """Writes one client's events.

    Args:
        sight: what the caller may see at the start.
    """

    def __init__(
        self, pool: Pool, tail: Tail, live: LiveHub, clock: Clock, request: StreamRequest, sight: Sight
    ) -> None:
        self._pool = pool
        self._tail = tail
        self._live = live
        self._clock = clock
        self._request = request
        self._sight = sight
        self._left = request.max_events
        self._checked_s = 0.0
        self._checking: Errand[Sight] | None = None

    async def events(self) -> AsyncGenerator[bytes, None]:
        """The stream's bytes, until it ends. To be closed by whoever iterates."""
        yield HELLO
        try:
            async for part in self._follow():
                yield part
        except (StorageUnavailable, Problem) as error:
            yield error_event(error)
        finally:
            if self._checking is not None:
                self._checking.abandon()

    async def _follow(self) -> AsyncGenerator[bytes, None]:
        wake, pace = asyncio.Event(), Pace(self._clock, self._request.idle_timeout_s)
        with (
            self._tail.subscribe(wake, self._request.cursor, self._request.since) as subscription,
            self._live.watch(wake, self._sight.sensors) as watch,
        ):
            self._checked_s = self._clock.monotonic_s()
            while not self._tail.stopped and self._left != 0:
                wake.clear()
                events = self._next(subscription, watch)
                part = pace.next(events)
                if part is None:
                    return
                if part:
                    yield part
                self._recheck(self._clock.monotonic_s(), wake)
                if not events and (subscription.fetching or not subscription.behind):
                    await pace.wait(wake, self._checked_s + RECHECK_S if self._checking is None else None)

    def _next(self, subscription: Subscription, watch: Watch) -> bytes:
        """Live values first: they are what a dashboard waits for while a backlog drains."""
        part = b""
        if self._request.live:
            part = b"".join(
                live_event(reading, with_raw=reading.sensor_id not in self._sight.hidden)
                for reading in watch.take(self._sight.sensors)
            )
        if subscription.behind:
            delivery = subscription.take(self._sight.sensors, self._left, self._sight.hidden)
            if self._left is not None:
                self._left -= delivery.count
            part += delivery.body
        return part

    def _recheck(self, now_s: float, wake: asyncio.Event) -> None:
        """Have asked, now and then, what the caller may see. Raises: StorageUnavailable, Problem."""
        if self._checking is None:
            if now_s - self._checked_s >= RECHECK_S:
                self._checking = self._tail.rechecks.send(self._look_again, wake)
        elif self._checking.done:
            checking, self._checking = self._checking, None
            self._sight = checking.result()
            self._checked_s = now_s

    async def _look_again(self) -> Sight:
        async with acquire(self._pool) as connection:
            await self._request.scope.check_credentials(connection, to_datetime(self._clock.now_us()))
            return await self._request.scope.sight(connection)


def live_event(reading: LiveReading, *, with_raw: bool = True) -> bytes:
    """One live value as an event."""
    fields = {
        "sensor_id": str(reading.sensor_id),
        "signal": reading.signal,
        "timestamp": timestamp_text(reading.timestamp_us),
        "raw_value": reading.raw if with_raw else None,
        "physical_value": reading.physical,
        "conversion_status": status_label(reading.status),
        "unit": reading.unit,
        "meta": system_meta(reading.status),
    }
    return b"event: live\ndata: %b\n\n" % orjson.dumps(fields)
