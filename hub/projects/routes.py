"""HTTP of projects and members. An administrator of the hub is not by that a member."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Response
from pydantic import BaseModel, model_validator

from hub.access import store as people
from hub.access.identity import CurrentUser, Role, member_of
from hub.access.rules import OWNER, SIGNED_IN, VIEWER, rule
from hub.database.ids import uuid7
from hub.database.pool import Connection, acquire, transaction
from hub.errors import conflict, invalid, not_found
from hub.events.change import Change, CurrentChanges
from hub.events.event import NewEvent, SubjectType
from hub.fields import Body, Name, QueryText, Text
from hub.projects import store
from hub.services import CurrentServices, Services

router = APIRouter(prefix="/projects", tags=["projects"])


class NewProject(Body):
    """A project to be."""

    name: Name
    description: Text = ""


class ProjectChange(Body):
    """What is to change; what is left out stays."""

    name: Name | None = None
    description: Text | None = None


class ProjectView(BaseModel):
    """A project; `role` is the caller's."""

    id: UUID
    name: str
    description: str
    owner_id: UUID
    role: Role
    created_at: datetime
    updated_at: datetime


class Projects(BaseModel):
    """All projects of the caller."""

    projects: list[ProjectView]


class NewMember(Body):
    """Someone to join, by id or by name."""

    user_id: UUID | None = None
    username: QueryText = ""
    role: Role = Role.VIEWER

    @model_validator(mode="after")
    def _one_user(self) -> NewMember:
        if (self.user_id is None) == (not self.username):
            raise ValueError("give user_id or username")
        return self


class RoleChange(Body):
    """The role to be."""

    role: Role


class MemberView(BaseModel):
    """A member."""

    user_id: UUID
    username: str
    role: Role
    created_at: datetime


class Members(BaseModel):
    """All members of a project."""

    members: list[MemberView]


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
        change.record(
            NewEvent("project.created", SubjectType.PROJECT, project_id, project_id, view.model_dump(mode="json"))
        )
        return view

    with _unique_name():
        return await changes.once(create)


@router.get("/{project_id}", dependencies=[rule(VIEWER)])
async def get_project(services: CurrentServices, user: CurrentUser, project_id: UUID) -> ProjectView:
    """One project."""
    async with acquire(services.pool) as connection:
        return await _project(connection, project_id, user.id)


@router.put("/{project_id}", dependencies=[rule(OWNER)])
async def change_project(
    services: CurrentServices, user: CurrentUser, project_id: UUID, body: ProjectChange
) -> ProjectView:
    """Rename or describe a project."""
    with _unique_name():
        async with transaction(services.pool) as connection:
            await store.change(connection, project_id, body.name, body.description, services.now())
            return await _project(connection, project_id, user.id)


@router.delete("/{project_id}", status_code=204, dependencies=[rule(OWNER)])
async def delete_project(services: CurrentServices, project_id: UUID) -> None:
    """Remove a project that nothing belongs to any more."""
    try:
        async with transaction(services.pool) as connection:
            await store.delete(connection, project_id)
    except asyncpg.ForeignKeyViolationError as error:
        raise conflict(f"the project still has {error.table_name}; remove them first", code="not_empty") from None


@router.get("/{project_id}/members", dependencies=[rule(VIEWER)])
async def list_members(services: CurrentServices, project_id: UUID) -> Members:
    """All members."""
    async with acquire(services.pool) as connection:
        rows = await store.members(connection, project_id)
    return Members(members=[MemberView(**dict(row)) for row in rows])


@router.post("/{project_id}/members", status_code=201, dependencies=[rule(OWNER)])
async def add_member(services: CurrentServices, project_id: UUID, body: NewMember) -> MemberView:
    """Let someone join."""
    try:
        async with transaction(services.pool) as connection:
            user_id = await _find_user(connection, body)
            await store.add_member(connection, project_id, user_id, body.role, services.now())
            return await _member(connection, project_id, user_id)
    except asyncpg.UniqueViolationError:
        raise conflict("this user is a member already", code="taken") from None


@router.delete("/{project_id}/members/{user_id}", status_code=204, dependencies=[rule(VIEWER)])
async def remove_member(services: CurrentServices, user: CurrentUser, project_id: UUID, user_id: UUID) -> None:
    """Remove a member (an owner may), or leave (anyone may). The last owner stays."""
    if user_id != user.id:
        await member_of(services, user, project_id, Role.OWNER)
    with _unique_name():
        async with transaction(services.pool) as connection:
            await _keep_an_owner(services, connection, project_id, user_id)
            await store.remove_member(connection, project_id, user_id)


@router.put("/{project_id}/members/{user_id}/role", dependencies=[rule(OWNER)])
async def set_role(services: CurrentServices, project_id: UUID, user_id: UUID, body: RoleChange) -> MemberView:
    """Give a member another role. The last owner stays one."""
    with _unique_name():
        async with transaction(services.pool) as connection:
            if body.role is Role.OWNER:
                await store.lock(connection, project_id)
            else:
                await _keep_an_owner(services, connection, project_id, user_id)
            await store.set_role(connection, project_id, user_id, body.role)
            return await _member(connection, project_id, user_id)


async def _project(connection: Connection, project_id: UUID, user_id: UUID) -> ProjectView:
    row = await store.one(connection, project_id, user_id)
    if row is None:
        raise not_found("project")
    return ProjectView(**dict(row))


async def _member(connection: Connection, project_id: UUID, user_id: UUID) -> MemberView:
    row = await store.member(connection, project_id, user_id)
    if row is None:
        raise not_found("member")
    return MemberView(**dict(row))


async def _find_user(connection: Connection, body: NewMember) -> UUID:
    if body.user_id is not None:
        row = await people.user(connection, body.user_id)
    else:
        row = await people.user_by_login(connection, body.username)
    if row is None or not row["is_active"]:
        raise invalid("user_id" if body.user_id else "username", "no such user")
    found: UUID = row["id"]
    return found


async def _keep_an_owner(services: Services, connection: Connection, project_id: UUID, leaving: UUID) -> None:
    """See that the project has an owner when this member is none any more. Raises: Problem 404, 409."""
    owner_id = await store.lock(connection, project_id)
    member = await _member(connection, project_id, leaving)
    if member.role is not Role.OWNER:
        return
    heir = await store.other_owner(connection, project_id, leaving)
    if heir is None:
        raise conflict("the last owner stays: make someone else an owner first", code="last_owner")
    if owner_id == leaving:
        await store.set_owner(connection, project_id, heir, services.now())


@contextmanager
def _unique_name() -> Iterator[None]:
    """Names are unique per owner, whatever the case."""
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name != "projects_name":
            raise
        raise conflict("the owner has a project of this name already", code="taken") from None
