"""One client's stream of events: public ones of its projects as Server-Sent Events.

Each carries its id, so that a client that connects again with `Last-Event-ID` goes on where it was, and its type as the
event's name. Whether the caller may still see what it sees is asked
again every `RECHECK_S`. The stream ends after `max_events` or `idle_timeout_s`, when the hub shuts down, and, with an
event `error`, when the caller's credentials are void or the database is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from uuid import UUID

from hub.access.credentials import still_good
from hub.access.identity import User, projects_of
from hub.database.pool import acquire
from hub.errors import Problem, not_found, unauthorized
from hub.events.feed import EventFeed
from hub.events.store import Told
from hub.services import Services
from hub.sse import HELLO, Pace, error_event
from shared.errors import StorageUnavailable

RECHECK_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRequest:
    """What a client wants.

    Attributes:
        project_id: None for all projects of the caller.
        cursor: events with higher ids.
        event_types: None for all.
    """

    user: User
    project_id: UUID | None
    cursor: int
    event_types: frozenset[str] | None = None
    max_events: int | None = None
    idle_timeout_s: float | None = None


class Stream:
    """Writes one client's events.

    Args:
        projects: what the caller may see at the start.
    """

    def __init__(self, services: Services, feed: EventFeed, request: StreamRequest, projects: frozenset[UUID]) -> None:
        self._services = services
        self._feed = feed
        self._request = request
        self._projects = projects
        self._cursor = request.cursor
        self._left = request.max_events

    async def events(self) -> AsyncGenerator[bytes, None]:
        """The stream's bytes, until it ends. To be closed by whoever iterates."""
        yield HELLO
        try:
            async for part in self._follow():
                yield part
        except (StorageUnavailable, Problem) as error:
            yield error_event(error)

    async def _follow(self) -> AsyncGenerator[bytes, None]:
        wake, clock, failures = asyncio.Event(), self._services.clock, self._feed.failures
        pace = Pace(clock, self._request.idle_timeout_s)
        with self._feed.subscribed(wake):
            checked_s = clock.monotonic_s()
            while not self._feed.stopped and self._left != 0:
                wake.clear()
                if self._feed.failures != failures:
                    raise StorageUnavailable("the database was lost", hint="connect again with the last event's id")
                events = await self._next()
                part = pace.next(events)
                if part is None:
                    return
                if part:
                    yield part
                if (now_s := clock.monotonic_s()) - checked_s >= RECHECK_S:
                    self._projects = await visible_projects(
                        self._services, self._request.user, self._request.project_id
                    )
                    checked_s = now_s
                if not events and not self._feed.is_behind(self._cursor):
                    await pace.wait(wake, checked_s + RECHECK_S)

    async def _next(self) -> bytes:
        found, self._cursor = await self._feed.take(self._cursor, self._projects)
        types = self._request.event_types
        wanted = [one for one in found if types is None or one.event_type in types]
        if self._left is not None:
            wanted = wanted[: self._left]
            self._left -= len(wanted)
        return b"".join(map(event_text, wanted))


async def visible_projects(services: Services, user: User, project_id: UUID | None) -> frozenset[UUID]:
    """The projects that the caller may see now, or the one asked for. Raises: Problem 401, 404."""
    async with acquire(services.pool) as connection:
        if not await still_good(connection, user, services.now()):
            raise unauthorized("the sign-in or token has ended")
    projects = frozenset(await projects_of(services, user))
    if project_id is None:
        return projects
    if project_id not in projects:
        raise not_found("project")
    return frozenset((project_id,))


def event_text(told: Told) -> bytes:
    """One event as the stream has it."""
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (told.id, told.event_type.encode(), told.body)
