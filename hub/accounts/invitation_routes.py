"""HTTP of invitations: owners invite to their projects, administrators to the hub."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, Field, model_validator

from hub.access import store as people
from hub.access.identity import CurrentUser, Role, User, require_role
from hub.access.rules import OWNER, rule
from hub.access.tokens import new_token, token_hash
from hub.accounts import invitations
from hub.accounts.views import Email
from hub.database.ids import uuid7
from hub.database.pool import Connection, acquire
from hub.errors import conflict, forbidden, not_found
from hub.events.change import Change, CurrentChanges
from hub.events.event import NewEvent, SubjectType
from hub.fields import Body
from hub.paging import Paging
from hub.services import CurrentServices

router = APIRouter(prefix="/auth/invitations")


class InvitationStatus(StrEnum):
    """Whether an invitation can still be used."""

    OPEN = "open"
    USED = "used"
    REVOKED = "revoked"
    EXPIRED = "expired"


class NewInvitation(Body):
    """Whom to let in: to a project with a role, or, without one, to the hub."""

    email: Email | None = Field(default=None, description="Who may use it; without it, whoever has the token.")
    project_id: UUID | None = None
    role: Role | None = None
    expires_in_days: Annotated[int, Field(ge=1, le=90)] = 7

    @model_validator(mode="after")
    def _role_with_project(self) -> NewInvitation:
        if self.project_id is None and self.role is not None:
            raise ValueError("a role goes with a project_id")
        return self


class InvitationView(BaseModel):
    """An invitation, as those who made it see it."""

    id: UUID
    email: str
    project_id: UUID | None
    project_name: str | None
    role: Role | None
    status: InvitationStatus
    created_by: UUID
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None
    used_by: UUID | None

    @classmethod
    def of(cls, row: invitations.Row, now: datetime) -> InvitationView:
        """What is shown of a row."""
        status = InvitationStatus.OPEN
        if row["used_at"] is not None:
            status = InvitationStatus.USED
        elif row["revoked_at"] is not None:
            status = InvitationStatus.REVOKED
        elif row["expires_at"] <= now:
            status = InvitationStatus.EXPIRED
        return cls(**dict(row), status=status)


class InvitationWithToken(BaseModel):
    """A new invitation. Its token is shown once: a repeat of the request has none."""

    invitation: InvitationView
    token: str | None
    url: str | None = Field(description="Where the invited one registers.")


class Invitations(BaseModel):
    """Invitations, newest first."""

    invitations: list[InvitationView]
    total: int
    page: int
    page_size: int


@router.post("", status_code=201, response_model=InvitationWithToken, dependencies=[rule(OWNER)])
async def add_invitation(changes: CurrentChanges, user: CurrentUser, body: NewInvitation) -> Response:
    """Invite someone; an owner to the project, an administrator to the hub."""
    settings = changes.services.settings
    if settings.registration == "closed":
        raise conflict("registration is closed: nobody could use an invitation", code="registration_closed")
    token, invitation_id = new_token(), uuid7()

    async def create(change: Change) -> InvitationWithToken:
        await _require_right(change.connection, user, body.project_id)
        await invitations.add(
            change.connection,
            invitation_id=invitation_id,
            token_hash=token_hash(token),
            email=body.email or "",
            project_id=body.project_id,
            role=None if body.project_id is None else body.role or Role.VIEWER,
            created_by=user.id,
            now=change.now,
            expires_at=change.now + timedelta(days=body.expires_in_days),
        )
        view = await _one(change, user, invitation_id)
        _record(change, "invitation.made", view)
        return InvitationWithToken(invitation=view, token=token, url=f"{settings.base_url}/register?invitation={token}")

    return await changes.once(create, stored=_without_token)


@router.get("", dependencies=[rule(OWNER)])
async def list_invitations(
    services: CurrentServices,
    user: CurrentUser,
    paging: Annotated[Paging, Depends()],
    project_id: Annotated[UUID | None, Query(description="Only those to this project.")] = None,
) -> Invitations:
    """Invitations to the caller's projects, for an administrator also those to the hub."""
    async with acquire(services.pool) as connection:
        if project_id is not None:
            require_role(await people.role(connection, user.id, project_id), Role.OWNER, "project")
        rows, total = await invitations.page(
            connection, user.id, user.is_admin, project_id, paging.page_size, paging.offset
        )
    now = services.now()
    views = [InvitationView.of(row, now) for row in rows]
    return Invitations(invitations=views, total=total, page=paging.page, page_size=paging.page_size)


@router.delete("/{invitation_id}", status_code=204, dependencies=[rule(OWNER)])
async def revoke_invitation(changes: CurrentChanges, user: CurrentUser, invitation_id: UUID) -> None:
    """Withdraw an invitation that nobody has used."""
    async with changes.begin() as change:
        view = await _one(change, user, invitation_id)
        if await invitations.revoke(change.connection, invitation_id, change.now):
            _record(change, "invitation.revoked", view)
        elif view.status is InvitationStatus.USED:
            raise conflict("this invitation was used already", code="used")


async def _require_right(connection: Connection, user: User, project_id: UUID | None) -> None:
    if project_id is not None:
        require_role(await people.role(connection, user.id, project_id), Role.OWNER, "project")
    elif not user.is_admin:
        raise forbidden("only an administrator invites without a project")


async def _one(change: Change, user: User, invitation_id: UUID) -> InvitationView:
    row = await invitations.one(change.connection, user.id, user.is_admin, invitation_id)
    if row is None:
        raise not_found("invitation")
    return InvitationView.of(row, change.now)


def _record(change: Change, event_type: str, view: InvitationView) -> None:
    payload = view.model_dump(mode="json", include={"email", "role", "expires_at"})
    change.record(NewEvent(event_type, SubjectType.INVITATION, view.id, view.project_id, payload))


def _without_token(view: BaseModel) -> BaseModel:
    return view.model_copy(update={"token": None, "url": None})
