"""HTTP of what is read: the stream, pages of readings, aggregates."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Header, Query
from starlette.responses import Response

from hub.access.identity import SensorOrUser
from hub.access.rules import SENSOR_OR_VIEWER, rule
from hub.database.pool import acquire
from hub.errors import Problem, invalid
from hub.event_stream import EventStream
from hub.export.formats import ExportFormat
from hub.services import CurrentServices
from hub.telemetry.answers import Aggregated, Points
from hub.telemetry.buckets import BUCKETS_MAX
from hub.telemetry.export import ReadingsFile, Wanted
from hub.telemetry.filters import ID_MAX, Filters, ProjectIdQuery, SensorIdsQuery, scope_of
from hub.telemetry.moments import Moment, interval_text, parse_interval, to_us
from hub.telemetry.parts import interval_for, parts_of, read_parts
from hub.telemetry.query import LIMIT_DEFAULT, LIMIT_MAX, read_page
from hub.telemetry.raw_values import buckets_without_raw
from hub.telemetry.scan import horizon, ids_drawn
from hub.telemetry.selection import select
from hub.telemetry.stream import Stream, StreamRequest
from hub.telemetry.tail import Since

router = APIRouter(prefix="/api/v1/telemetry", tags=["telemetry"])

_STREAM_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "Events `telemetry`, `live` and `error`."}
}
_EXPORT_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/csv": {}, "application/json": {}}, "description": "The file; whole if it ends in order."}
}


class StreamQuery:
    """Query parameters of the stream; a dependency."""

    def __init__(
        self,
        since_id: Annotated[int | None, Query(ge=0, le=ID_MAX, description="Readings with higher ids.")] = None,
        since_ts: Annotated[
            Moment | None, Query(description="Readings from this time on; `since_id` breaks ties among equal times.")
        ] = None,
        max_events: Annotated[
            int | None, Query(ge=1, le=ID_MAX, description="End after so many telemetry events.")
        ] = None,
        idle_timeout_seconds: Annotated[
            float | None, Query(gt=0, allow_inf_nan=False, description="End when quiet for so long.")
        ] = None,
        live: Annotated[bool, Query(description="Also the latest values of the live lane, as events `live`.")] = False,
        last_event_id: Annotated[str | None, Header(description="Go on behind this event.")] = None,
    ) -> None:
        self.since_id = since_id
        self.since_ts = since_ts
        self.max_events = max_events
        self.idle_timeout_s = idle_timeout_seconds
        self.live = live
        self.last_event_id = int(last_event_id) if last_event_id and _is_id(last_event_id) else None


@router.get(
    "/stream",
    status_code=200,
    dependencies=[rule(SENSOR_OR_VIEWER)],
    response_class=EventStream,
    responses=_STREAM_ANSWERS,
)
async def stream(
    services: CurrentServices,
    principal: SensorOrUser,
    wanted: Annotated[StreamQuery, Depends()],
    sensor_id: SensorIdsQuery = None,
    project_id: ProjectIdQuery = None,
) -> Response:
    """Committed readings as they come, each once, in order of id; resumable with `Last-Event-ID`."""
    if services.tail.stopped or services.tail.subscribers >= services.settings.streams_max:
        detail = "the hub is shutting down" if services.tail.stopped else "too many streams at once"
        raise Problem(503, detail, headers={"Retry-After": "2"})
    scope = scope_of(principal, sensor_id, project_id)
    async with acquire(services.pool) as connection:
        sight = await scope.sight(connection)
        last = await horizon(connection) - 1
        drawn = await ids_drawn(connection)
    cursor, since = _start(wanted, last, drawn)
    streaming = Stream(
        services.pool,
        services.tail,
        services.live,
        services.clock,
        StreamRequest(
            scope=scope,
            cursor=cursor,
            since=since,
            max_events=wanted.max_events,
            idle_timeout_s=wanted.idle_timeout_s,
            live=wanted.live,
        ),
        sight,
    )
    return EventStream(streaming.events())


@router.get("/query", dependencies=[rule(SENSOR_OR_VIEWER)], response_model=Points)
async def query(
    services: CurrentServices,
    principal: SensorOrUser,
    filters: Annotated[Filters, Depends()],
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX)] = LIMIT_DEFAULT,
) -> Response:
    """Stored readings in order of id, a page at a time: pass `next_since_id` as `since_id` until it is null."""
    catalogue = services.tail.catalogue
    async with acquire(services.pool) as connection:
        selection = await select(connection, catalogue, filters, principal)
        page = await read_page(
            connection,
            catalogue,
            selection.where(),
            since_id=filters.since_id,
            limit=limit,
            descending=filters.descending,
            hidden=selection.hidden_series,
            seen=selection.seen,
        )
    return Response(page.json(), media_type="application/json")


@router.get("/aggregated", dependencies=[rule(SENSOR_OR_VIEWER)], response_model=Aggregated)
async def aggregated(
    services: CurrentServices,
    principal: SensorOrUser,
    filters: Annotated[Filters, Depends()],
    bucket_interval: Annotated[
        str | None, Query(description="Such as 10s, 1m, 6h or 1d; without it, 1m or what a long range needs.")
    ] = None,
    bucket: Annotated[str | None, Query(description="The same as `bucket_interval`.")] = None,
    limit: Annotated[int | None, Query(ge=1, le=BUCKETS_MAX, description="The first so many buckets.")] = None,
) -> Response:
    """Counts, averages and extremes of readings in buckets aligned to UTC; what holds no reading is left out.

    It sums up what a query with the same filters would give, page by page.
    """
    if bucket_interval is not None and bucket not in (None, bucket_interval):
        raise invalid("bucket", "is another than bucket_interval")
    asked_us = _interval_us(bucket if bucket_interval is None else bucket_interval)
    catalogue = services.tail.catalogue
    async with acquire(services.pool) as connection:
        selection = await select(connection, catalogue, filters, principal)
        parts = await parts_of(connection, selection)
        interval_us = asked_us or interval_for(parts)
        buckets = await read_parts(
            connection,
            catalogue,
            parts,
            interval_us,
            limit or BUCKETS_MAX + 1,
            as_of=selection.as_of,
            descending=filters.descending,
        )
    if len(buckets) > BUCKETS_MAX:
        raise invalid("bucket_interval", f"gives more than {BUCKETS_MAX} buckets; take a longer one or a shorter range")
    answer = {"buckets": buckets_without_raw(buckets, selection.hidden), "bucket_interval": interval_text(interval_us)}
    return Response(orjson.dumps(answer, option=orjson.OPT_UTC_Z), media_type="application/json")


@router.get("/export", dependencies=[rule(SENSOR_OR_VIEWER)], response_class=Response, responses=_EXPORT_ANSWERS)
async def export(
    services: CurrentServices,
    principal: SensorOrUser,
    filters: Annotated[Filters, Depends()],
    kind: Annotated[ExportFormat, Query(alias="format")] = ExportFormat.CSV,
    limit: Annotated[int | None, Query(ge=1, le=ID_MAX, description="The first so many by id; else all.")] = None,
) -> Response:
    """All readings that a query would give, as one file: series after series, each in order of time.

    With `limit`, those of the first so many that a query would give. Where that or `since_id` is given, the highest id
    of a file (the lowest, with `desc`) is a cursor to go on behind.
    """
    below_id: int | None = None
    if limit is not None or filters.since_id is not None:
        async with acquire(services.pool) as connection:
            below_id = await horizon(connection)
    wanted = Wanted(filters, principal, kind, limit, below_id)
    return ReadingsFile(services.exports, services.pool, services.tail.catalogue, wanted, services.now())


def _start(wanted: StreamQuery, last: int, drawn: int) -> tuple[int, Since | None]:
    """The cursor to begin behind, and the moment if one was given."""
    if wanted.last_event_id is None and wanted.since_ts is not None:
        return 0, Since((to_us(wanted.since_ts), wanted.since_id or 0), last)
    given = wanted.since_id if wanted.last_event_id is None else wanted.last_event_id
    if given is None or given >= drawn:  # beyond what was ever drawn: the database is an older one now
        return last, None
    return given, None


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text[:20]) <= ID_MAX


def _interval_us(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_interval(text)
    except ValueError as error:
        raise invalid("bucket_interval", str(error)) from None
