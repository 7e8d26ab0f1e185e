"""HTTP of signals on one grid of time."""

from __future__ import annotations

import re
from typing import Annotated
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from hub.access.identity import Principal, SensorOrUser
from hub.access.rules import SENSOR_OR_VIEWER, rule
from hub.database.pool import Connection, acquire
from hub.errors import invalid
from hub.services import CurrentServices
from hub.telemetry.aligned import Grid, Method, Source, Value, align, origin_of
from hub.telemetry.catalogue import Catalogue
from hub.telemetry.filters import Filters, ProjectIdQuery, SensorIdsQuery, SignalsQuery
from hub.telemetry.moments import Moment, interval_text, parse_interval
from hub.telemetry.points import timestamp_text
from hub.telemetry.selection import select

RUNS_MAX = 20
_ALIGN = re.compile(r"time|started_at|annotation:.{1,100}")
_STARTED_AT = "started_at"

router = APIRouter(prefix="/api/v1/telemetry", tags=["telemetry"])


class Column(BaseModel):
    """A signal, of a run where runs were asked for."""

    run_id: UUID | None
    sensor_id: UUID
    signal: str
    unit: str
    values: list[float | None]


class Table(BaseModel):
    """Columns on one grid."""

    align: str
    interval: str
    times: list[str] | None = Field(description="The grid's moments; null where columns are aligned to events of runs.")
    offsets_s: list[float] | None = Field(description="Seconds since what runs are aligned to; null otherwise.")
    columns: list[Column]


class AlignedQuery:
    """Query parameters; a dependency. Raises: Problem 422."""

    def __init__(
        self,
        interval: Annotated[str, Query(description="Such as 100ms, 10s or 1m.")],
        sensor_id: SensorIdsQuery = None,
        project_id: ProjectIdQuery = None,
        signal: SignalsQuery = None,
        time_from: Annotated[Moment | None, Query(description="From this time on (RFC 3339).")] = None,
        time_to: Annotated[Moment | None, Query(description="Up to and including this time (RFC 3339).")] = None,
        run_id: Annotated[
            list[UUID] | None, Query(max_length=RUNS_MAX, description="Repeatable: what belongs to these runs.")
        ] = None,
        capture_session_id: Annotated[UUID | None, Query(description="What belongs to this session.")] = None,
        align: Annotated[str, Query(description="`time`, or with runs `started_at` or `annotation:<kind>`.")] = "time",
        method: Method = Method.MEAN,
        value: Value = Value.PHYSICAL,
    ) -> None:
        if not _ALIGN.fullmatch(align):
            raise invalid("align", "must be time, started_at or annotation:<kind>")
        if align != "time" and not run_id:
            raise invalid("align", "goes with run_id")
        self.align = align
        self.run_ids: list[UUID | None] = list(dict.fromkeys(run_id)) if run_id else [None]
        self.grid = Grid(_interval_us(interval), method, value)
        self._about = {
            "sensor_id": sensor_id,
            "project_id": project_id,
            "signal": signal,
            "capture_session_id": capture_session_id,
        }
        self._times = {"time_from": time_from, "time_to": time_to}

    def filters(self, run_id: UUID | None) -> Filters:
        """Those of one run, or of all."""
        return Filters(**self._about, **self._times, run_id=run_id)  # type: ignore[arg-type]


@router.get("/aligned", dependencies=[rule(SENSOR_OR_VIEWER)], response_model=Table)
async def aligned(
    services: CurrentServices, principal: SensorOrUser, wanted: Annotated[AlignedQuery, Depends()]
) -> Response:
    """Several signals on one grid of time; or of runs, on one grid since each started or was annotated."""
    catalogue = services.tail.catalogue
    async with acquire(services.pool) as connection:
        sources = [await _source(connection, catalogue, principal, wanted, run_id) for run_id in wanted.run_ids]
        table = await align(connection, catalogue, sources, wanted.grid)
    interval_us = wanted.grid.interval_us
    moments = [slot * interval_us for slot in table.slots]
    by_time = wanted.align == "time"
    answer = {
        "align": wanted.align,
        "interval": interval_text(interval_us),
        "times": [timestamp_text(one) for one in moments] if by_time else None,
        "offsets_s": None if by_time else [one / 1e6 for one in moments],
        "columns": table.columns,
    }
    return Response(orjson.dumps(answer), media_type="application/json")


async def _source(
    connection: Connection, catalogue: Catalogue, principal: Principal, wanted: AlignedQuery, run_id: UUID | None
) -> Source:
    """What the columns of one run are read from. Raises: Problem 404; 422 for a run without what is aligned to."""
    selection = await select(connection, catalogue, wanted.filters(run_id), principal)
    if run_id is None or wanted.align == "time":
        return Source(selection, run_id=run_id)
    kind = None if wanted.align == _STARTED_AT else wanted.align.partition(":")[2]
    origin_us = await origin_of(connection, run_id, kind)
    if origin_us is None:
        raise invalid(
            "align", f"run {run_id} has not started" if kind is None else f"run {run_id} has no such annotation"
        )
    return Source(selection, origin_us, run_id)


def _interval_us(text: str) -> int:
    try:
        return parse_interval(text)
    except ValueError as error:
        raise invalid("interval", str(error)) from None
