"""HTTP of runs."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel
from starlette.responses import Response

from hub.access.identity import CurrentUser, Role
from hub.access.rules import EDITOR, VIEWER, rule
from hub.database.ids import uuid7
from hub.database.pool import Connection, acquire
from hub.errors import conflict, require_same
from hub.etags import IfMatch, etag, require_match
from hub.events.change import Change, CurrentChanges
from hub.experiments.access import find_experiment
from hub.experiments.filters import Filters
from hub.experiments.rules import Status
from hub.export.download import Download
from hub.export.formats import ExportFormat
from hub.paging import Paging
from hub.runs import lists, store
from hub.runs.access import find_run, lock_run
from hub.runs.lifecycle import active_sessions_conflict, enter, record_created, record_run, record_tags
from hub.runs.store import Row, RunFields
from hub.runs.views import NewRun, RunChange, RunEvent, RunEvents, Runs, RunView
from hub.services import CurrentServices

router = APIRouter(prefix="/api/v1", tags=["runs"])

_FILE_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/csv": {}, "application/json": {}}, "description": "All runs that the filters leave."}
}


@router.get("/experiments/{experiment_id}/runs", dependencies=[rule(VIEWER)])
async def list_runs(
    services: CurrentServices,
    user: CurrentUser,
    experiment_id: UUID,
    filters: Annotated[Filters, Depends()],
    paging: Annotated[Paging, Depends()],
) -> Runs:
    """Runs of an experiment, newest first."""
    async with acquire(services.pool) as connection:
        await find_experiment(connection, user, experiment_id)
        rows, total = await lists.page(connection, experiment_id, filters, paging.page_size, paging.offset)
    return Runs(runs=[RunView.of(row) for row in rows], total=total, page=paging.page, page_size=paging.page_size)


@router.get(
    "/experiments/{experiment_id}/runs/export",
    dependencies=[rule(VIEWER)],
    response_class=Response,
    responses=_FILE_ANSWERS,
)
async def export_runs(
    services: CurrentServices,
    user: CurrentUser,
    experiment_id: UUID,
    filters: Annotated[Filters, Depends()],
    format: ExportFormat = ExportFormat.CSV,  # noqa: A002 - the contract's name
) -> Response:
    """All runs of an experiment as a file, however many they are."""
    async with acquire(services.pool) as connection:
        await find_experiment(connection, user, experiment_id)
    query = lists.whole(experiment_id, filters)
    return Download(services.exports, services.pool, query, lists.SHEET, format, services.now())


@router.post("/experiments/{experiment_id}/runs", status_code=201, response_model=RunView, dependencies=[rule(EDITOR)])
async def add_run(changes: CurrentChanges, user: CurrentUser, experiment_id: UUID, body: NewRun) -> Response:
    """Make a run; it is a draft unless it is to run at once."""

    async def create(change: Change) -> RunView:
        experiment = await find_experiment(change.connection, user, experiment_id, Role.EDITOR, lock=True)
        require_same("experiment_id", body.experiment_id, experiment_id)
        require_same("project_id", body.project_id, experiment["project_id"])
        if experiment["status"] == Status.ARCHIVED:
            raise conflict("the experiment is archived", code="experiment_archived")
        run_id = uuid7()
        await store.add(
            change.connection, run_id, experiment_id, experiment["project_id"], user.id, body.fields(), change.now
        )
        row = await find_run(change.connection, user, run_id)
        record_created(change, RunView.of(row))
        if await enter(change, row, body.status):
            row = await find_run(change.connection, user, run_id)
        return RunView.of(row)

    return await changes.once(create, headers=_etag)


@router.get("/runs/{run_id}", dependencies=[rule(VIEWER)])
async def get_run(services: CurrentServices, user: CurrentUser, response: Response, run_id: UUID) -> RunView:
    """One run."""
    async with acquire(services.pool) as connection:
        return _shown(response, await find_run(connection, user, run_id))


@router.patch("/runs/{run_id}", dependencies=[rule(EDITOR)])
async def change_run(
    changes: CurrentChanges,
    user: CurrentUser,
    response: Response,
    run_id: UUID,
    body: RunChange,
    if_match: IfMatch = None,
) -> RunView:
    """Describe a run otherwise, or give it another status."""
    async with changes.begin() as change:
        row = await lock_run(change.connection, user, run_id)
        require_match(if_match, row["version"])
        require_same("run_id", body.run_id, run_id)
        require_same("experiment_id", body.experiment_id, row["experiment_id"])
        require_same("project_id", body.project_id, row["project_id"])
        await _describe(change, row, body)
        if body.status is not None:
            row = await find_run(change.connection, user, run_id)
            await enter(change, row, body.status)
        return _shown(response, await find_run(change.connection, user, run_id))


@router.delete("/runs/{run_id}", status_code=204, dependencies=[rule(EDITOR)])
async def delete_run(changes: CurrentChanges, user: CurrentUser, run_id: UUID, if_match: IfMatch = None) -> None:
    """Remove a run with its sessions, metrics, artifacts and annotations; readings stay with their sensors."""
    async with changes.begin() as change:
        row = await lock_run(change.connection, user, run_id)
        require_match(if_match, row["version"])
        await _require_no_recording(change.connection, run_id)
        await store.delete(change.connection, run_id)
        record_run(change, "run.deleted", row, {"run": RunView.of(row).model_dump(mode="json")})


@router.get("/runs/{run_id}/events", dependencies=[rule(VIEWER)])
async def list_events(
    services: CurrentServices, user: CurrentUser, run_id: UUID, paging: Annotated[Paging, Depends()]
) -> RunEvents:
    """What was done to a run, its sessions and its artifacts, newest first."""
    async with acquire(services.pool) as connection:
        await find_run(connection, user, run_id)
        rows, total = await store.events(connection, run_id, paging.page_size, paging.offset)
    return RunEvents(
        events=[RunEvent.model_validate(dict(row)) for row in rows],
        total=total,
        page=paging.page,
        page_size=paging.page_size,
    )


async def _describe(change: Change, row: Row, body: RunChange) -> None:
    """Write and tell what is another thing than before, the status left aside."""
    differing = body.changes(row)
    tags = list(row["tags"]) if body.tags is None else body.tags
    if not differing and tags == row["tags"]:
        return
    said = {name: row[name] for name in RunFields.__slots__} | differing | {"tags": tags}
    await store.change(change.connection, row["id"], RunFields(**said), change.now)
    if differing:
        before = {name: row[name] for name in differing}
        record_run(change, "run.updated", row, {"run_id": str(row["id"]), "before": before, "after": differing})
    if tags != row["tags"]:
        record_tags(change, row, tags)


async def _require_no_recording(connection: Connection, run_id: UUID) -> None:
    """See that no session of a run to be removed records or is backfilled. Raises: Problem 409."""
    active = await store.active_sessions(connection, [run_id])
    recording = [session for session in active if session["status"] != "draft"]
    if recording:
        raise active_sessions_conflict(recording, "be removed")


def _shown(response: Response, row: Row) -> RunView:
    response.headers["ETag"] = etag(row["version"])
    return RunView.of(row)


def _etag(view: BaseModel) -> dict[str, str]:
    assert isinstance(view, RunView)
    return {"ETag": etag(view.version)}
