"""HTTP of metrics."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from hub.access.identity import CurrentUser, Role
from hub.access.rules import EDITOR, VIEWER, rule
from hub.database.pool import acquire
from hub.errors import conflict, invalid, require_same
from hub.events.change import Change, CurrentChanges
from hub.experiments.rules import Status
from hub.paging import Paging
from hub.runs.access import find_run, hold_run
from hub.runs.metrics import store
from hub.runs.metrics.store import MetricFilter
from hub.runs.metrics.views import (
    STEP_MAX,
    Accepted,
    Aggregated,
    MetricBucket,
    Metrics,
    MetricSummary,
    MetricView,
    NameQuery,
    NewMetrics,
    StepQuery,
    Summaries,
)
from hub.services import CurrentServices

router = APIRouter(prefix="/api/v1/runs/{run_id}/metrics", tags=["runs"])

BUCKETS_MAX = 10_000
_BUCKETS_DEFAULT = 500


def metric_filter(
    run_id: UUID, name: NameQuery = None, step_from: StepQuery = None, step_to: StepQuery = None
) -> MetricFilter:
    """A dependency."""
    return MetricFilter(run_id, name, step_from, step_to)


Wanted = Annotated[MetricFilter, Depends(metric_filter)]


@router.post("", status_code=201, response_model=Accepted, dependencies=[rule(EDITOR)])
async def add_metrics(changes: CurrentChanges, user: CurrentUser, run_id: UUID, body: NewMetrics) -> Response:
    """Add one number, or up to 10,000. The same name and step may come again."""

    async def create(change: Change) -> Accepted:
        run = await hold_run(change.connection, user, run_id, Role.EDITOR)
        require_same("project_id", body.project_id, run["project_id"])
        require_same("run_id", body.run_id, run_id)
        for index, point in enumerate(body.metrics or ()):
            require_same(f"metrics.{index}.run_id", point.run_id, run_id)
        if run["status"] == Status.ARCHIVED:
            raise conflict("the run is archived", code="run_archived")
        points = body.points(change.now)
        await store.add(change.connection, run_id, points, change.now)
        return Accepted(accepted=len(points))

    return await changes.once(create)


@router.get("", dependencies=[rule(VIEWER)])
async def list_metrics(
    services: CurrentServices, user: CurrentUser, wanted: Wanted, paging: Annotated[Paging, Depends()]
) -> Metrics:
    """Numbers of a run by name, step and time."""
    async with acquire(services.pool) as connection:
        await find_run(connection, user, wanted.run_id)
        rows, total = await store.page(connection, wanted, paging.page_size, paging.offset)
    views = [MetricView(**dict(row)) for row in rows]
    return Metrics(metrics=views, total=total, page=paging.page, page_size=paging.page_size)


@router.get("/summary", dependencies=[rule(VIEWER)])
async def summarise_metrics(
    services: CurrentServices, user: CurrentUser, wanted: Wanted, paging: Annotated[Paging, Depends()]
) -> Summaries:
    """Count, extremes, average and last value of each name."""
    async with acquire(services.pool) as connection:
        await find_run(connection, user, wanted.run_id)
        rows, total = await store.summary(connection, wanted, paging.page_size, paging.offset)
    views = [MetricSummary(**dict(row)) for row in rows]
    return Summaries(metrics=views, total=total, page=paging.page, page_size=paging.page_size)


@router.get("/aggregated", dependencies=[rule(VIEWER)])
async def aggregate_metrics(
    services: CurrentServices,
    user: CurrentUser,
    wanted: Wanted,
    bucket_size: Annotated[
        int | None, Query(ge=1, le=STEP_MAX, description="Steps in a bucket; by default what gives 500 at most.")
    ] = None,
) -> Aggregated:
    """Count, average and extremes in buckets of steps, aligned to step 0."""
    async with acquire(services.pool) as connection:
        await find_run(connection, user, wanted.run_id)
        extent = await store.extent(connection, wanted)
        size = bucket_size or _default_size(extent)
        rows = await store.buckets(connection, wanted, size, BUCKETS_MAX + 1)
    if len(rows) > BUCKETS_MAX:
        raise invalid("bucket_size", f"gives more than {BUCKETS_MAX} buckets; take a larger one, or one name")
    return Aggregated(buckets=[MetricBucket(**dict(row)) for row in rows], bucket_size=size)


def _default_size(extent: tuple[int, int] | None) -> int:
    """Steps a bucket, so that there are `_BUCKETS_DEFAULT` a name at most."""
    first, last = extent or (0, 0)
    return max(1, -(-(last - first + 1) // (_BUCKETS_DEFAULT - 1)))
