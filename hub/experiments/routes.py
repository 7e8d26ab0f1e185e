"""HTTP of experiments."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel

from hub.access.identity import CurrentUser, Role, User, member_of
from hub.access.named_project import project_to_be
from hub.access.rules import EDITOR, SIGNED_IN, VIEWER, rule
from hub.database.ids import uuid7
from hub.database.pool import acquire, transaction
from hub.errors import Problem, invalid
from hub.etags import IfMatch, etag, require_match
from hub.events.change import Change, CurrentChanges
from hub.experiments import comparison_store, edit, search, store
from hub.experiments.access import find_experiment, unique_names
from hub.experiments.comparison import Comparison, RunsToCompare, compare
from hub.experiments.filters import Filters
from hub.experiments.rules import Status, require_transition
from hub.experiments.store import ExperimentFields
from hub.experiments.views import ExperimentChange, Experiments, ExperimentView, NewExperiment
from hub.export.download import Download
from hub.export.download import Query as ExportQuery
from hub.export.formats import ExportFormat, Sheet
from hub.fields import QueryText
from hub.paging import Paging
from hub.services import CurrentServices, Services

router = APIRouter(prefix="/api/v1/experiments", tags=["experiments"])

SHEET = Sheet("experiments", store.COLUMNS)
CurrentFilters = Annotated[Filters, Depends()]
CurrentPaging = Annotated[Paging, Depends()]


@router.get("", dependencies=[rule(SIGNED_IN)])
async def list_experiments(
    services: CurrentServices, user: CurrentUser, filters: CurrentFilters, paging: CurrentPaging
) -> Experiments:
    """Experiments, newest first; without `project_id`, those of all projects of the caller."""
    await _require_member(services, user, filters.project_id)
    async with acquire(services.pool) as connection:
        rows, total = await store.page(connection, user.id, filters, paging.page_size, paging.offset)
    return _page(rows, total, paging)


@router.post("", status_code=201, response_model=ExperimentView, dependencies=[rule(EDITOR)])
async def add_experiment(
    services: CurrentServices,
    changes: CurrentChanges,
    user: CurrentUser,
    body: NewExperiment,
    project_id: UUID | None = None,
) -> Response:
    """Make an experiment: a draft, unless the body says otherwise."""
    project = project_to_be("experiment", body.project_id, project_id)
    await member_of(services, user, project, Role.EDITOR)
    require_transition("experiment", Status.DRAFT, body.status)
    experiment_id = uuid7()

    async def create(change: Change) -> ExperimentView:
        await store.add(change.connection, experiment_id, project, user.id, body.fields(), change.now)
        view = await _view(change, user, experiment_id)
        edit.tell_created(change, view)
        return view

    with unique_names():
        return await changes.once(create, headers=_with_etag)


@router.get("/search", dependencies=[rule(SIGNED_IN)])
async def search_experiments(
    services: CurrentServices,
    user: CurrentUser,
    paging: CurrentPaging,
    q: Annotated[QueryText, Query(description="Words, or their beginnings; best matches come first.")],
    project_id: UUID | None = None,
) -> Experiments:
    """Find experiments by words of their name, description, type and tags; small typing errors are forgiven."""
    words = search.words_of(q)
    await _require_member(services, user, project_id)
    async with transaction(services.pool, isolation="repeatable_read", readonly=True) as connection:
        rows, total = await search.find(connection, user.id, project_id, words, paging.page_size, paging.offset)
    return _page(rows, total, paging)


@router.get(
    "/export",
    response_class=Response,
    responses={200: {"content": {"text/csv": {}, "application/json": {}}, "description": "A file."}},
    dependencies=[rule(SIGNED_IN)],
)
async def export_experiments(
    services: CurrentServices,
    user: CurrentUser,
    filters: CurrentFilters,
    format: ExportFormat = ExportFormat.CSV,  # noqa: A002 - the contract's name
) -> Download:
    """The whole list as a file, however long. A file that breaks off ends in an error, never as a shorter one."""
    await _require_member(services, user, filters.project_id)
    query = ExportQuery(store.EXPORT, (user.id, *filters.arguments()))
    return Download(services.exports, services.pool, query, SHEET, format, services.now())


@router.get("/{experiment_id}", dependencies=[rule(VIEWER)])
async def get_experiment(
    services: CurrentServices, user: CurrentUser, response: Response, experiment_id: UUID
) -> ExperimentView:
    """One experiment."""
    async with acquire(services.pool) as connection:
        view = ExperimentView.of(await find_experiment(connection, user, experiment_id))
    response.headers["ETag"] = etag(view.version)
    return view


@router.patch("/{experiment_id}", dependencies=[rule(EDITOR)])
async def change_experiment(
    changes: CurrentChanges,
    user: CurrentUser,
    response: Response,
    experiment_id: UUID,
    body: ExperimentChange,
    if_match: IfMatch = None,
) -> ExperimentView:
    """Rename or describe an experiment, or give it another status."""
    with unique_names():
        async with changes.begin() as change:
            before = await _locked(change, user, experiment_id, if_match)
            if body.project_id not in (None, before.project_id):
                raise invalid("project_id", "the project of an experiment does not change")
            view = await _changed(change, user, before, body.fields())
    response.headers["ETag"] = etag(view.version)
    return view


@router.delete("/{experiment_id}", status_code=204, dependencies=[rule(EDITOR)])
async def delete_experiment(
    changes: CurrentChanges, user: CurrentUser, experiment_id: UUID, if_match: IfMatch = None
) -> None:
    """Remove an experiment with its runs. Refused while a run, or a session of one, is under way."""
    async with changes.begin() as change:
        view = await _locked(change, user, experiment_id, if_match)
        await _require_idle_runs(change, experiment_id)
        edit.tell_deleted(change, view, await store.delete(change.connection, experiment_id))


@router.post("/{experiment_id}/archive", dependencies=[rule(EDITOR)])
async def archive_experiment(
    changes: CurrentChanges, user: CurrentUser, response: Response, experiment_id: UUID, if_match: IfMatch = None
) -> ExperimentView:
    """Put an experiment away. Once more does nothing."""
    async with changes.begin() as change:
        before = await _locked(change, user, experiment_id, if_match)
        view = await _changed(change, user, before, ExperimentFields(status=Status.ARCHIVED))
    response.headers["ETag"] = etag(view.version)
    return view


@router.post("/{experiment_id}/compare", dependencies=[rule(VIEWER, only_reads=True)])
async def compare_runs(
    services: CurrentServices, user: CurrentUser, experiment_id: UUID, body: RunsToCompare
) -> Comparison:
    """Runs of an experiment side by side: params, status, tags, duration and metrics, and what of it differs."""
    async with transaction(services.pool, isolation="repeatable_read", readonly=True) as connection:
        row = await find_experiment(connection, user, experiment_id)
        if body.project_id not in (None, row["project_id"]):
            raise invalid("project_id", "is not the experiment's")
        runs = await comparison_store.runs(connection, experiment_id, body.run_ids)
        missing = set(body.run_ids) - {run.id for run in runs}
        if missing:
            raise invalid("run_ids", f"not runs of this experiment: {', '.join(map(str, sorted(missing)))}")
        metrics, metrics_total = await comparison_store.metrics(connection, body.run_ids)
    return compare(experiment_id, runs, metrics, metrics_total)


async def _require_member(services: Services, user: User, project_id: UUID | None) -> None:
    """Raises: Problem 404 for a project that the caller is no member of."""
    if project_id is not None:
        await member_of(services, user, project_id, Role.VIEWER)


async def _view(change: Change, user: User, experiment_id: UUID) -> ExperimentView:
    return ExperimentView.of(await find_experiment(change.connection, user, experiment_id))


async def _locked(change: Change, user: User, experiment_id: UUID, if_match: str | None) -> ExperimentView:
    """The experiment, which nobody else changes until the transaction ends. Raises: Problem 403, 404, 412."""
    row = await find_experiment(change.connection, user, experiment_id, Role.EDITOR, lock=True)
    require_match(if_match, row["version"])
    return ExperimentView.of(row)


async def _changed(change: Change, user: User, before: ExperimentView, wanted: ExperimentFields) -> ExperimentView:
    if not await edit.apply(change, before, wanted):
        return before
    return await _view(change, user, before.id)


async def _require_idle_runs(change: Change, experiment_id: UUID) -> None:
    """Raises: Problem 409."""
    busy = await store.busy_run(change.connection, experiment_id)
    if busy is None:
        return
    if busy["status"] == Status.RUNNING:
        detail = f"its run {busy['name']!r} ({busy['id']}) is running"
    else:
        detail = f"session {busy['ordinal_number']} of its run {busy['name']!r} is {busy['session_status']}"
    raise Problem(409, f"the experiment stays: {detail}", code="run_active", extensions={"run_id": busy["id"]})


def _with_etag(view: BaseModel) -> dict[str, str]:
    assert isinstance(view, ExperimentView)
    return {"ETag": etag(view.version)}


def _page(rows: list[store.Row], total: int, paging: Paging) -> Experiments:
    views = [ExperimentView.of(row) for row in rows]
    return Experiments(experiments=views, total=total, page=paging.page, page_size=paging.page_size)
