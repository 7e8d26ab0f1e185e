"""HTTP of artifacts: what is said of them, and their approval. Their contents: `hub.runs.artifacts.content_routes`."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel
from starlette.responses import Response

from hub.access.identity import CurrentUser, Role, User
from hub.access.rules import EDITOR, OWNER, VIEWER, rule
from hub.database.ids import uuid7
from hub.database.pool import acquire
from hub.errors import conflict, require_same
from hub.etags import IfMatch, etag, require_match
from hub.events.change import Change, CurrentChanges
from hub.fields import QueryText
from hub.paging import Paging
from hub.runs.access import find_run, hold_run
from hub.runs.artifacts import store
from hub.runs.artifacts.access import find_artifact, lock_artifact, record_artifact, require_unapproved
from hub.runs.artifacts.transfer import discard
from hub.runs.artifacts.views import (
    ArtifactChange,
    Artifacts,
    ArtifactView,
    NewArtifact,
    content_uri,
    is_kept_here,
)
from hub.services import CurrentServices

router = APIRouter(prefix="/api/v1/runs/{run_id}/artifacts", tags=["runs"])


@router.get("", dependencies=[rule(VIEWER)])
async def list_artifacts(
    services: CurrentServices,
    user: CurrentUser,
    run_id: UUID,
    paging: Annotated[Paging, Depends()],
    type: Annotated[QueryText | None, Query(description="Only of this type.")] = None,  # noqa: A002 - the contract's
    approved: Annotated[bool | None, Query(description="Only those that are, or are not.")] = None,
) -> Artifacts:
    """Artifacts of a run, newest first."""
    async with acquire(services.pool) as connection:
        await find_run(connection, user, run_id)
        rows, total = await store.page(
            connection, run_id, type_=type, approved=approved, limit=paging.page_size, offset=paging.offset
        )
    views = [ArtifactView.of(row) for row in rows]
    return Artifacts(artifacts=views, total=total, page=paging.page, page_size=paging.page_size)


@router.post("", status_code=201, response_model=ArtifactView, dependencies=[rule(EDITOR)])
async def add_artifact(changes: CurrentChanges, user: CurrentUser, run_id: UUID, body: NewArtifact) -> Response:
    """Add an artifact: one that is kept elsewhere, or one whose content is uploaded to `uri` next."""

    async def create(change: Change) -> ArtifactView:
        run = await hold_run(change.connection, user, run_id, Role.EDITOR)
        require_same("run_id", body.run_id, run_id)
        require_same("project_id", body.project_id, run["project_id"])
        artifact_id = uuid7()
        await store.add(
            change.connection,
            artifact_id,
            run_id=run_id,
            project_id=run["project_id"],
            created_by=user.id,
            fields=body.fields(content_uri(run_id, artifact_id)),
            now=change.now,
        )
        view = ArtifactView.of(await find_artifact(change.connection, user, run_id, artifact_id))
        record_artifact(change, "artifact.created", view)
        return view

    return await changes.once(create, headers=_etag)


@router.get("/{artifact_id}", dependencies=[rule(VIEWER)])
async def get_artifact(
    services: CurrentServices, user: CurrentUser, response: Response, run_id: UUID, artifact_id: UUID
) -> ArtifactView:
    """One artifact."""
    async with acquire(services.pool) as connection:
        view = ArtifactView.of(await find_artifact(connection, user, run_id, artifact_id))
    response.headers["ETag"] = etag(view.version)
    return view


@router.patch("/{artifact_id}", dependencies=[rule(EDITOR)])
async def change_artifact(
    changes: CurrentChanges,
    user: CurrentUser,
    response: Response,
    run_id: UUID,
    artifact_id: UUID,
    body: ArtifactChange,
    if_match: IfMatch = None,
) -> ArtifactView:
    """Describe an artifact otherwise, unless it is approved."""
    async with changes.begin() as change:
        row = await lock_artifact(change.connection, user, run_id, artifact_id)
        require_match(if_match, row["version"])
        require_same("run_id", body.run_id, run_id)
        require_same("project_id", body.project_id, row["project_id"])
        require_unapproved(row)
        view = ArtifactView.of(await store.change(change.connection, artifact_id, body.fields(row), change.now))
        record_artifact(change, "artifact.updated", view)
    response.headers["ETag"] = etag(view.version)
    return view


@router.delete("/{artifact_id}", status_code=204, dependencies=[rule(EDITOR)])
async def delete_artifact(
    services: CurrentServices,
    changes: CurrentChanges,
    user: CurrentUser,
    run_id: UUID,
    artifact_id: UUID,
    if_match: IfMatch = None,
) -> None:
    """Remove an artifact with its content, unless it is approved."""
    async with changes.begin() as change:
        row = await lock_artifact(change.connection, user, run_id, artifact_id)
        require_match(if_match, row["version"])
        require_unapproved(row)
        await store.delete(change.connection, artifact_id)
        record_artifact(change, "artifact.deleted", ArtifactView.of(row))
    await discard(services.contents, row["content_key"])


@router.post("/{artifact_id}/approve", dependencies=[rule(OWNER)])
async def approve_artifact(
    changes: CurrentChanges,
    user: CurrentUser,
    response: Response,
    run_id: UUID,
    artifact_id: UUID,
    if_match: IfMatch = None,
) -> ArtifactView:
    """Approve an artifact: from then on it stays as it is."""
    return await _approve(changes, user, response, run_id, artifact_id, if_match, approve=True)


@router.delete("/{artifact_id}/approve", dependencies=[rule(OWNER)])
async def withdraw_approval(
    changes: CurrentChanges,
    user: CurrentUser,
    response: Response,
    run_id: UUID,
    artifact_id: UUID,
    if_match: IfMatch = None,
) -> ArtifactView:
    """Withdraw the approval, whoever gave it."""
    return await _approve(changes, user, response, run_id, artifact_id, if_match, approve=False)


async def _approve(
    changes: CurrentChanges,
    user: User,
    response: Response,
    run_id: UUID,
    artifact_id: UUID,
    if_match: str | None,
    *,
    approve: bool,
) -> ArtifactView:
    """Approve or not; where that is so already, nothing happens. Raises: Problem 404, 403, 409, 412."""
    async with changes.begin() as change:
        row = await lock_artifact(change.connection, user, run_id, artifact_id, Role.OWNER)
        require_match(if_match, row["version"])
        if approve and is_kept_here(row) and not row["stored"]:
            raise conflict("the content of the artifact was not uploaded yet", code="no_content")
        if approve is not (row["approved_by"] is not None):
            row = await store.set_approval(change.connection, artifact_id, user.id if approve else None, change.now)
            event_type = "artifact.approved" if approve else "artifact.approval_withdrawn"
            record_artifact(change, event_type, ArtifactView.of(row))
    response.headers["ETag"] = etag(row["version"])
    return ArtifactView.of(row)


def _etag(view: BaseModel) -> dict[str, str]:
    assert isinstance(view, ArtifactView)
    return {"ETag": etag(view.version)}
