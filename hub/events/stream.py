"""One client's stream of events: public ones of its projects as Server-Sent Events.

Each carries its id, so that a client that connects again with `Last-Event-ID` goes on where it was, and its type as the
event's name. A comment goes out at least every `HEARTBEAT_S`. Whether the caller may still see what it sees is asked
again every `RECHECK_S`. The stream ends after `max_events` or `idle_timeout_s`, when the hub shuts down, and, with an
event `error`, when the caller's credentials are void or the database is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from uuid import UUID

import orjson

from hub.access.credentials import still_good
from hub.access.identity import User, projects_of
from hub.database.pool import acquire
from hub.errors import Problem, not_found, problem_of, unauthorized
from hub.events.feed import EventFeed
from hub.events.store import Told
from hub.services import Services
from hub.wake import set_within
from shared.errors import StorageUnavailable

HEARTBEAT_S = 8.0
RECHECK_S = 5.0
HELLO = b"retry: 2000\n: connected\n\n"
_HEARTBEAT = b": heartbeat\n\n"


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
            yield _error_event(error)

    async def _follow(self) -> AsyncGenerator[bytes, None]:
        wake, clock, idle_s = asyncio.Event(), self._services.clock, self._request.idle_timeout_s
        failures = self._feed.failures
        with self._feed.subscribed(wake):
            sent_s = active_s = checked_s = clock.monotonic_s()
            while not self._feed.stopped and self._left != 0:
                wake.clear()
                if self._feed.failures != failures:
                    raise StorageUnavailable("the database was lost", hint="connect again with the last event's id")
                part = await self._next()
                now_s = clock.monotonic_s()
                if part:
                    yield part
                    sent_s = active_s = now_s
                elif idle_s is not None and now_s - active_s >= idle_s:
                    return
                elif now_s - sent_s >= HEARTBEAT_S:
                    yield _HEARTBEAT
                    sent_s = now_s
                if now_s - checked_s >= RECHECK_S:
                    self._projects = await visible_projects(
                        self._services, self._request.user, self._request.project_id
                    )
                    checked_s = now_s
                if not part and not self._feed.is_behind(self._cursor):
                    due_s = [sent_s + HEARTBEAT_S, checked_s + RECHECK_S]
                    due_s += [] if idle_s is None else [active_s + idle_s]
                    await set_within(wake, max(0.0, min(due_s) - clock.monotonic_s()))

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


def _error_event(error: Exception) -> bytes:
    problem = problem_of(error) or Problem(500, "the stream failed")
    fields = {"status": problem.status, "detail": problem.detail, "error": problem.detail, "code": problem.code}
    return b"event: error\ndata: %b\n\n" % orjson.dumps(fields)
