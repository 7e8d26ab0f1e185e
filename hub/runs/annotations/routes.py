"""HTTP of annotations."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.responses import Response

from hub.access.identity import CurrentUser, Role
from hub.access.rules import EDITOR, VIEWER, rule
from hub.database.ids import uuid7
from hub.database.pool import acquire
from hub.errors import invalid, not_found, require_same
from hub.events.change import Change, CurrentChanges
from hub.fields import Body, QueryText, Text
from hub.paging import Paging
from hub.runs.access import find_run, hold_run
from hub.runs.annotations import store
from hub.runs.annotations.store import Annotation, AnnotationFilter
from hub.runs.lifecycle import record_run
from hub.services import CurrentServices
from hub.telemetry.moments import Moment

router = APIRouter(prefix="/api/v1/runs/{run_id}/annotations", tags=["runs"])

Kind = Annotated[str, StringConstraints(pattern=r"^[\w.-]{1,50}$")]


class NewAnnotation(Body):
    """An annotation to be."""

    text: Annotated[Text, Field(min_length=1)]
    kind: Kind = "note"
    timestamp: Moment | None = Field(None, description="The moment that it is about; now, if left out.")
    capture_session_id: UUID | None = Field(None, description="The session that it is about, one of the run's.")
    run_id: UUID | None = Field(None, description="The path's, if given.")
    project_id: UUID | None = Field(None, description="The run's, if given.")


class AnnotationView(BaseModel):
    """An annotation."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    run_id: UUID
    capture_session_id: UUID | None
    timestamp: datetime
    text: str
    kind: str
    created_by: UUID | None
    created_at: datetime


class Annotations(BaseModel):
    """A page of annotations by time."""

    annotations: list[AnnotationView]
    total: int
    page: int
    page_size: int


def annotation_filter(
    run_id: UUID,
    capture_session_id: Annotated[UUID | None, Query(description="Only about this session.")] = None,
    kind: Annotated[QueryText | None, Query(description="Only of this kind.")] = None,
    time_from: Moment | None = None,
    time_to: Moment | None = None,
) -> AnnotationFilter:
    """A dependency."""
    return AnnotationFilter(run_id, capture_session_id, kind, time_from, time_to)


@router.get("", dependencies=[rule(VIEWER)])
async def list_annotations(
    services: CurrentServices,
    user: CurrentUser,
    wanted: Annotated[AnnotationFilter, Depends(annotation_filter)],
    paging: Annotated[Paging, Depends()],
) -> Annotations:
    """Annotations of a run by time."""
    async with acquire(services.pool) as connection:
        await find_run(connection, user, wanted.run_id)
        rows, total = await store.page(connection, wanted, paging.page_size, paging.offset)
    views = [AnnotationView(**dict(row)) for row in rows]
    return Annotations(annotations=views, total=total, page=paging.page, page_size=paging.page_size)


@router.post("", status_code=201, response_model=AnnotationView, dependencies=[rule(EDITOR)])
async def add_annotation(changes: CurrentChanges, user: CurrentUser, run_id: UUID, body: NewAnnotation) -> Response:
    """Note something at a moment of a run; archived runs take notes too."""

    async def create(change: Change) -> AnnotationView:
        run = await hold_run(change.connection, user, run_id, Role.EDITOR)
        require_same("run_id", body.run_id, run_id)
        require_same("project_id", body.project_id, run["project_id"])
        session_id = body.capture_session_id
        if session_id is not None and not await store.has_session(change.connection, run_id, session_id):
            raise invalid("capture_session_id", "is no session of this run")
        noted = Annotation(
            id=uuid7(),
            run_id=run_id,
            capture_session_id=session_id,
            timestamp=body.timestamp or change.now,
            text=body.text,
            kind=body.kind,
            created_by=user.id,
            created_at=change.now,
        )
        await store.add(change.connection, noted)
        view = AnnotationView.model_validate(noted)
        record_run(change, "annotation.created", run, _told(view))
        return view

    return await changes.once(create)


@router.delete("/{annotation_id}", status_code=204, dependencies=[rule(EDITOR)])
async def delete_annotation(changes: CurrentChanges, user: CurrentUser, run_id: UUID, annotation_id: UUID) -> None:
    """Remove an annotation; the audit keeps what it said."""
    async with changes.begin() as change:
        run = await hold_run(change.connection, user, run_id, Role.EDITOR)
        row = await store.delete(change.connection, run_id, annotation_id)
        if row is None:
            raise not_found("annotation")
        record_run(change, "annotation.deleted", run, _told(AnnotationView(**dict(row))))


def _told(view: AnnotationView) -> dict[str, Any]:
    return {"run_id": str(view.run_id), "annotation": view.model_dump(mode="json")}
