"""HTTP of members.

A project has an owner at any time: whoever demotes or removes one holds the project's row until he has committed, and
sees that another one is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Response

from hub.access import store as people
from hub.access.identity import CurrentUser, Role, TokenScope, require_role, require_scope
from hub.access.rules import OWNER, VIEWER, rule
from hub.database.pool import Connection, acquire
from hub.errors import conflict, invalid, not_found, require_same
from hub.events.change import Change, CurrentChanges
from hub.events.event import NewEvent, SubjectType
from hub.projects import store
from hub.projects.views import Members, MemberView, NewMember, RoleChange
from hub.services import CurrentServices

router = APIRouter(prefix="/{project_id}/members")


@router.get("", dependencies=[rule(VIEWER)])
async def list_members(services: CurrentServices, project_id: UUID) -> Members:
    """All members."""
    async with acquire(services.pool) as connection:
        rows = await store.members(connection, project_id)
    return Members(members=[MemberView(**dict(row)) for row in rows])


@router.post("", status_code=201, response_model=MemberView, dependencies=[rule(OWNER)])
async def add_member(changes: CurrentChanges, user: CurrentUser, project_id: UUID, body: NewMember) -> Response:
    """Let someone join."""
    require_same("project_id", body.project_id, project_id)

    async def create(change: Change) -> MemberView:
        await _lock(change.connection, project_id, user.id, Role.OWNER)
        user_id = await _find_user(change.connection, body)
        await store.add_member(change.connection, project_id, user_id, body.role, change.now)
        view = await _member(change.connection, project_id, user_id)
        _record(change, "member.added", project_id, view)
        return view

    try:
        return await changes.once(create)
    except asyncpg.UniqueViolationError as error:
        if error.table_name != "project_members":
            raise
        raise conflict("this user is a member already", code="taken") from None


@router.delete("/{user_id}", status_code=204, dependencies=[rule(VIEWER)])
async def remove_member(changes: CurrentChanges, user: CurrentUser, project_id: UUID, user_id: UUID) -> None:
    """Remove a member (an owner may), or leave (anyone may). The last owner stays."""
    leaves = user_id == user.id
    if not leaves:
        require_scope(user, TokenScope.MANAGE)
    with _heirs_name():
        async with changes.begin() as change:
            owner_id = await _lock(change.connection, project_id, user.id, Role.VIEWER if leaves else Role.OWNER)
            member = await _member(change.connection, project_id, user_id)
            await _keep_an_owner(change, project_id, owner_id, member)
            await store.remove_member(change.connection, project_id, user_id)
            _record(change, "member.left" if leaves else "member.removed", project_id, member)


@router.put("/{user_id}/role", dependencies=[rule(OWNER)])
async def set_role(
    changes: CurrentChanges, user: CurrentUser, project_id: UUID, user_id: UUID, body: RoleChange
) -> MemberView:
    """Give a member another role. The last owner stays one."""
    require_same("project_id", body.project_id, project_id)
    with _heirs_name():
        async with changes.begin() as change:
            owner_id = await _lock(change.connection, project_id, user.id, Role.OWNER)
            member = await _member(change.connection, project_id, user_id)
            if body.role is member.role:
                return member
            if body.role is not Role.OWNER:
                await _keep_an_owner(change, project_id, owner_id, member)
            await store.set_role(change.connection, project_id, user_id, body.role)
            view = await _member(change.connection, project_id, user_id)
            _record(change, "member.role_changed", project_id, view, role_before=member.role)
            return view


async def _lock(connection: Connection, project_id: UUID, user_id: UUID, at_least: Role) -> UUID:
    """Hold the project and see that the user may do so much to it now. Returns: its owner. Raises: Problem 403, 404."""
    owner_id = await store.lock(connection, project_id)
    require_role(await people.role(connection, user_id, project_id), at_least, "project")
    if owner_id is None:
        raise not_found("project")
    return owner_id


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


async def _keep_an_owner(change: Change, project_id: UUID, owner_id: UUID, leaving: MemberView) -> None:
    """See that the project has an owner when this member is none any more. Raises: Problem 409."""
    if leaving.role is not Role.OWNER:
        return
    heir = await store.other_owner(change.connection, project_id, leaving.user_id)
    if heir is None:
        raise conflict("the last owner stays: make someone else an owner first", code="last_owner")
    if owner_id == leaving.user_id:
        await store.set_owner(change.connection, project_id, heir, change.now)


def _record(
    change: Change, event_type: str, project_id: UUID, view: MemberView, role_before: Role | None = None
) -> None:
    payload = view.model_dump(mode="json", exclude={"created_at"})
    if role_before is not None:
        payload["role_before"] = role_before
    change.record(NewEvent(event_type, SubjectType.MEMBER, view.user_id, project_id, payload))


@contextmanager
def _heirs_name() -> Iterator[None]:
    """A project that is passed on keeps its name, which its new owner may have given to another one."""
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name != "projects_name":
            raise
        detail = "the owner to come has a project of this name already; rename one first"
        raise conflict(detail, code="taken") from None
