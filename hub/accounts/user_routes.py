"""HTTP of users: whom members find, and what administrators do about accounts."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, model_validator

from hub.access import store as people
from hub.access.credentials import user_of
from hub.access.identity import CurrentUser
from hub.access.rules import ADMIN, SIGNED_IN, rule
from hub.accounts import store
from hub.accounts.views import UserView
from hub.database.pool import Connection, acquire
from hub.errors import conflict, not_found
from hub.etags import IfMatch, etag, require_match
from hub.events.change import Change, CurrentChanges
from hub.events.event import NewEvent, SubjectType
from hub.fields import Body, Flag, QueryText
from hub.paging import Paging
from hub.services import CurrentServices, Services

router = APIRouter()


class FoundUser(BaseModel):
    """A user, as others see one."""

    id: UUID
    username: str


class FoundUsers(BaseModel):
    """A page of users that were found."""

    users: list[FoundUser]
    total: int
    page: int
    page_size: int


class ManagedUser(UserView):
    """A user, as administrators see one."""

    version: int

    @classmethod
    def of_row(cls, row: store.Row) -> ManagedUser:
        """What is shown of a row."""
        return cls(**UserView.of(user_of(row)).model_dump(), version=row["version"])


class Users(BaseModel):
    """Users by name."""

    users: list[ManagedUser]
    total: int
    page: int
    page_size: int


class UserChange(Body):
    """What is to change; what is left out stays."""

    is_active: Flag | None = None
    is_admin: Flag | None = None
    password_change_required: Flag | None = None

    @model_validator(mode="after")
    def _no_null(self) -> UserChange:
        if any(getattr(self, name) is None for name in self.model_fields_set):
            raise ValueError("must be true or false")
        return self


@router.get("/api/v1/users/search", dependencies=[rule(SIGNED_IN)])
async def search_users(services: CurrentServices, paging: Annotated[Paging, Depends()], q: QueryText) -> FoundUsers:
    """Users by part of their name or by their whole e-mail address; nobody where neither is given."""
    rows, total = await _found(services, q.strip(), paging)
    views = [FoundUser(id=row["id"], username=row["username"]) for row in rows]
    return FoundUsers(users=views, total=total, page=paging.page, page_size=paging.page_size)


@router.get("/auth/users", dependencies=[rule(ADMIN)])
async def list_users(
    services: CurrentServices,
    paging: Annotated[Paging, Depends()],
    q: Annotated[QueryText, Query(description="Part of the name or of the e-mail address.")] = "",
    is_active: bool | None = None,
) -> Users:
    """All accounts."""
    async with acquire(services.pool) as connection:
        rows, total = await store.page(connection, q.strip(), is_active, paging.page_size, paging.offset)
    views = [ManagedUser.of_row(row) for row in rows]
    return Users(users=views, total=total, page=paging.page, page_size=paging.page_size)


@router.get("/auth/users/{user_id}", dependencies=[rule(ADMIN)])
async def get_user(services: CurrentServices, response: Response, user_id: UUID) -> ManagedUser:
    """One account."""
    async with acquire(services.pool) as connection:
        view = await _user(connection, user_id)
    response.headers["ETag"] = etag(view.version)
    return view


@router.patch("/auth/users/{user_id}", dependencies=[rule(ADMIN)])
async def change_user(
    changes: CurrentChanges,
    user: CurrentUser,
    response: Response,
    user_id: UUID,
    body: UserChange,
    if_match: IfMatch = None,
) -> ManagedUser:
    """Let an account in or not, make it an administrator's, or have its password changed. One administrator stays.

    Who is deactivated is signed out at once, and his tokens are refused.
    """
    async with changes.begin() as change:
        await store.lock_admins(change.connection)
        before = await _user(change.connection, user_id)
        require_match(if_match, before.version)
        wanted = before.model_copy(update=body.model_dump(exclude_unset=True))
        if wanted != before:
            await _apply(change, before, wanted)
        view = await _user(change.connection, user_id)
    response.headers["ETag"] = etag(view.version)
    return view


async def _apply(change: Change, before: ManagedUser, wanted: ManagedUser) -> None:
    was_admin, stays_admin = before.is_active and before.is_admin, wanted.is_active and wanted.is_admin
    if was_admin and not stays_admin and not await store.has_other_admin(change.connection, before.id):
        raise conflict("the last administrator stays one", code="last_admin")
    await store.change_user(
        change.connection, before.id, wanted.is_active, wanted.is_admin, wanted.password_change_required
    )
    if before.is_active and not wanted.is_active:
        await store.revoke_user(change.connection, before.id, change.now)
    names = ("is_active", "is_admin", "password_change_required")
    payload = {name: getattr(wanted, name) for name in names if getattr(wanted, name) != getattr(before, name)}
    change.record(NewEvent("user.changed", SubjectType.USER, before.id, payload=payload))


async def _found(services: Services, text: str, paging: Paging) -> tuple[list[store.Row], int]:
    if not text:
        return [], 0
    async with acquire(services.pool) as connection:
        return await people.search(connection, text, paging.page_size, paging.offset)


async def _user(connection: Connection, user_id: UUID) -> ManagedUser:
    row = await people.user(connection, user_id)
    if row is None:
        raise not_found("user")
    return ManagedUser.of_row(row)
