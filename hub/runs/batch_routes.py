"""HTTP of what is done to many runs at once: to all of them, or to none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import Response

from hub.access.identity import CurrentUser, Role, User, require_role
from hub.access.rules import EDITOR, rule
from hub.errors import FieldError, Problem, not_found
from hub.events.change import Change, CurrentChanges
from hub.runs import store
from hub.runs.lifecycle import enter, record_tags
from hub.runs.rules import changed_tags
from hub.runs.store import Row
from hub.runs.views import BatchStatus, BulkTags, ChangedRuns, RunView

router = APIRouter(prefix="/api/v1", tags=["runs"])

_NAMED_MAX = 20

ProjectId = Annotated[UUID | None, Query(description="The project of all of the runs, if given.")]


@dataclass(frozen=True, slots=True)
class Offender:
    """A run that keeps all others from being changed, and why."""

    run_id: UUID
    problem: Problem


@router.post("/runs:batch-status", response_model=ChangedRuns, dependencies=[rule(EDITOR)])
async def set_statuses(
    changes: CurrentChanges, user: CurrentUser, body: BatchStatus, project_id: ProjectId = None
) -> Response:
    """Give many runs one status; those that have it already stay as they are."""

    async def set_status(change: Change, row: Row) -> None:
        await enter(change, row, body.status)

    return await changes.once(lambda change: _each(change, user, body.run_ids, project_id, set_status), status=200)


@router.post("/runs:bulk-tags", response_model=ChangedRuns, dependencies=[rule(EDITOR)])
async def set_tags(
    changes: CurrentChanges, user: CurrentUser, body: BulkTags, project_id: ProjectId = None
) -> Response:
    """Give many runs other tags, or add some and take some away."""

    async def tag(change: Change, row: Row) -> None:
        tags = _tags(body, row)
        if tags != row["tags"]:
            await store.set_tags(change.connection, row["id"], tags, change.now)
            record_tags(change, row, tags)

    return await changes.once(lambda change: _each(change, user, body.run_ids, project_id, tag), status=200)


async def _each(
    change: Change,
    user: User,
    named: Sequence[UUID],
    project_id: UUID | None,
    work: Callable[[Change, Row], Awaitable[None]],
) -> ChangedRuns:
    """Do something to each run, locked in order of id. Raises: Problem that lists all runs that refuse."""
    run_ids = list(dict.fromkeys(named))
    locked = await store.lock(change.connection, run_ids, user.id)
    rows = {row["id"]: row for row in locked if project_id in (None, row["project_id"])}
    offenders: list[Offender] = []
    for run_id in run_ids:
        try:
            await work(change, _permitted(rows.get(run_id)))
        except Problem as problem:
            offenders.append(Offender(run_id, problem))
    if offenders:
        raise _refusal(offenders, named)
    changed = {row["id"]: row for row in await store.many(change.connection, run_ids)}
    return ChangedRuns(runs=[RunView.of(changed[run_id]) for run_id in run_ids])


def _permitted(row: Row | None) -> Row:
    """The run, if the caller may change it. Raises: Problem 404, 403."""
    if row is None:
        raise not_found("run")
    require_role(row["role"], Role.EDITOR, "run")
    return row


def _tags(body: BulkTags, row: Row) -> list[str]:
    """The tags that a run is to have. Raises: Problem 422."""
    if body.set_tags is not None:
        return body.set_tags
    try:
        return changed_tags(list(row["tags"]), add=body.add_tags or (), remove=body.remove_tags or ())
    except ValueError as error:
        raise Problem(422, str(error), code="too_many_tags") from None


def _refusal(offenders: Sequence[Offender], named: Sequence[UUID]) -> Problem:
    """One answer for all of them; its status is theirs where they agree, else 409."""
    statuses = {offender.problem.status for offender in offenders}
    codes = {offender.problem.code for offender in offenders}
    listed = "; ".join(f"{offender.run_id}: {offender.problem.detail}" for offender in offenders[:_NAMED_MAX])
    more = f"; and {len(offenders) - _NAMED_MAX} more" if len(offenders) > _NAMED_MAX else ""
    return Problem(
        statuses.pop() if len(statuses) == 1 else 409,
        f"nothing was changed: {listed}{more}",
        code=codes.pop() if len(codes) == 1 else "conflict",
        fields=[
            FieldError(f"run_ids.{named.index(offender.run_id)}", offender.problem.detail) for offender in offenders
        ],
        extensions={
            "offenders": [
                {
                    "run_id": offender.run_id,
                    "reason": offender.problem.detail,
                    "code": offender.problem.code,
                    "status": offender.problem.status,
                }
                for offender in offenders
            ]
        },
    )
