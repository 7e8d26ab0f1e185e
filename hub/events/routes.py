"""HTTP of events: the audit of a project, and the stream of what is public in it."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query
from starlette.responses import Response

from hub.access.identity import CurrentUser, Role, UserByQuery, member_of
from hub.access.rules import OWNER, VIEWER, rule
from hub.database.pool import acquire
from hub.errors import Problem
from hub.event_stream import EventStream
from hub.events import store
from hub.events.event import PublicEvent, SubjectType
from hub.events.store import ID_MAX, EventFilter
from hub.events.stream import Stream, StreamRequest, visible_projects
from hub.events.views import Events, EventView
from hub.fields import QueryText
from hub.paging import Paging
from hub.services import CurrentServices

router = APIRouter(prefix="/api/v1/events", tags=["events"])

SinceId = Annotated[int | None, Query(ge=0, le=ID_MAX, description="Events with higher ids.")]
_STREAM_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "Events named by their type, and `error`."}
}


class StreamQuery:
    """Query parameters of the stream; a dependency."""

    def __init__(
        self,
        project_id: Annotated[UUID | None, Query(description="Only this project; else all of the caller's.")] = None,
        event_type: Annotated[list[PublicEvent] | None, Query(description="Only these; repeat it.")] = None,
        since_id: SinceId = None,
        max_events: Annotated[int | None, Query(ge=1, le=ID_MAX, description="End after so many events.")] = None,
        idle_timeout_seconds: Annotated[
            float | None, Query(gt=0, allow_inf_nan=False, description="End when quiet for so long.")
        ] = None,
        last_event_id: Annotated[str | None, Header(description="Go on behind this event.")] = None,
    ) -> None:
        self.project_id = project_id
        self.event_types = frozenset(map(str, event_type)) if event_type else None
        self.max_events = max_events
        self.idle_timeout_s = idle_timeout_seconds
        self.since_id = int(last_event_id) if last_event_id and _is_id(last_event_id) else since_id


@router.get("", dependencies=[rule(OWNER)])
async def list_events(
    services: CurrentServices,
    user: CurrentUser,
    paging: Annotated[Paging, Depends()],
    project_id: UUID,
    event_type: QueryText | None = None,
    subject_type: SubjectType | None = None,
    subject_id: UUID | None = None,
    actor_id: UUID | None = None,
    since_id: SinceId = None,
) -> Events:
    """Everything that was changed in a project, by whom and from where; newest first."""
    await member_of(services, user, project_id, Role.OWNER)
    wanted = EventFilter(project_id, event_type, subject_type, subject_id, actor_id, since_id)
    async with acquire(services.pool) as connection:
        rows, total = await store.page(connection, wanted, paging.page_size, paging.offset)
    views = [EventView(**dict(row)) for row in rows]
    return Events(events=views, total=total, page=paging.page, page_size=paging.page_size)


@router.get(
    "/stream",
    status_code=200,
    dependencies=[rule(VIEWER, token_in_query=True)],
    response_class=EventStream,
    responses=_STREAM_ANSWERS,
)
async def stream(services: CurrentServices, user: UserByQuery, wanted: Annotated[StreamQuery, Depends()]) -> Response:
    """Public events as they happen, each once, in order of id; resumable with `Last-Event-ID`."""
    feed = services.feed
    if feed.stopped or feed.subscribers >= services.settings.streams_max:
        detail = "the hub is shutting down" if feed.stopped else "too many streams at once"
        raise Problem(503, detail, headers={"Retry-After": "2"})
    projects = await visible_projects(services, user, wanted.project_id)
    async with acquire(services.pool) as connection:
        last = await store.last_id(connection)
    asked = wanted.since_id
    request = StreamRequest(
        user=user,
        project_id=wanted.project_id,
        cursor=last if asked is None or asked > last else asked,
        event_types=wanted.event_types,
        max_events=wanted.max_events,
        idle_timeout_s=wanted.idle_timeout_s,
    )
    return EventStream(Stream(services, feed, request, projects).events())


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text[:20]) <= ID_MAX
