"""HTTP of projects. An administrator of the hub is not by that a member."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Response
from pydantic import BaseModel

from hub.access.identity import CurrentUser, Role, require_role
from hub.access.rules import OWNER, SIGNED_IN, VIEWER, rule
from hub.database.ids import uuid7
from hub.database.pool import Connection, acquire
from hub.errors import conflict, not_found, require_same
from hub.etags import IfMatch, etag, require_match
from hub.events.change import Change, CurrentChanges
from hub.events.event import NewEvent, SubjectType
from hub.projects import member_routes, policy_routes, store
from hub.projects.views import NewProject, ProjectChange, Projects, ProjectView
from hub.services import CurrentServices

router = APIRouter(prefix="/projects", tags=["projects"])
router.include_router(member_routes.router)
router.include_router(policy_routes.router)


@router.get("", dependencies=[rule(SIGNED_IN)])
async def list_projects(services: CurrentServices, user: CurrentUser) -> Projects:
    """All projects that the caller is a member of."""
    async with acquire(services.pool) as connection:
        rows = await store.of_user(connection, user.id)
    return Projects(projects=[ProjectView(**dict(row)) for row in rows])


@router.post("", status_code=201, response_model=ProjectView, dependencies=[rule(SIGNED_IN)])
async def add_project(changes: CurrentChanges, user: CurrentUser, body: NewProject) -> Response:
    """Make a project and own it."""
    project_id = uuid7()

    async def create(change: Change) -> ProjectView:
        await store.add(change.connection, project_id, user.id, body.name, body.description, change.now)
        view = await _project(change.connection, project_id, user.id)
        _record(change, "project.created", view)
        return view

    with _unique_name():
        return await changes.once(create, headers=_headers)


@router.get("/{project_id}", dependencies=[rule(VIEWER)])
async def get_project(
    services: CurrentServices, user: CurrentUser, response: Response, project_id: UUID
) -> ProjectView:
    """One project."""
    async with acquire(services.pool) as connection:
        view = await _project(connection, project_id, user.id)
    response.headers.update(_headers(view))
    return view


@router.put("/{project_id}", dependencies=[rule(OWNER)])
async def change_project(
    changes: CurrentChanges,
    user: CurrentUser,
    response: Response,
    project_id: UUID,
    body: ProjectChange,
    if_match: IfMatch = None,
) -> ProjectView:
    """Rename or describe a project."""
    require_same("project_id", body.project_id, project_id)
    with _unique_name():
        async with changes.begin() as change:
            await store.lock(change.connection, project_id)
            before = await _project(change.connection, project_id, user.id, Role.OWNER)
            require_match(if_match, before.version)
            await store.change(change.connection, project_id, body.name, body.description, change.now)
            view = await _project(change.connection, project_id, user.id)
            _record(change, "project.changed", view)
    response.headers.update(_headers(view))
    return view


@router.delete("/{project_id}", status_code=204, dependencies=[rule(OWNER)])
async def delete_project(
    changes: CurrentChanges, user: CurrentUser, project_id: UUID, if_match: IfMatch = None
) -> None:
    """Remove a project that nothing belongs to any more."""
    try:
        async with changes.begin() as change:
            await store.lock(change.connection, project_id)
            view = await _project(change.connection, project_id, user.id, Role.OWNER)
            require_match(if_match, view.version)
            await store.delete(change.connection, project_id)
            _record(change, "project.deleted", view)
    except asyncpg.ForeignKeyViolationError as error:
        raise conflict(f"the project still has {error.table_name}; remove them first", code="not_empty") from None


async def _project(
    connection: Connection, project_id: UUID, user_id: UUID, at_least: Role = Role.VIEWER
) -> ProjectView:
    """The project, if the user may do so much to it now. Raises: Problem 403, 404."""
    row = await store.one(connection, project_id, user_id)
    if row is None:
        raise not_found("project")
    require_role(row["role"], at_least, "project")
    return ProjectView(**dict(row))


def _record(change: Change, event_type: str, view: ProjectView) -> None:
    payload = view.model_dump(mode="json", exclude={"role"})
    change.record(NewEvent(event_type, SubjectType.PROJECT, view.id, view.id, payload))


def _headers(view: BaseModel) -> Mapping[str, str]:
    assert isinstance(view, ProjectView)
    return {"ETag": etag(view.version)}


@contextmanager
def _unique_name() -> Iterator[None]:
    """Names are unique per owner, as they are written."""
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name != "projects_name":
            raise
        raise conflict("the owner has a project of this name already", code="taken") from None
