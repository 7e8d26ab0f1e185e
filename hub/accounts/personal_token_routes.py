"""HTTP of personal tokens: what a person hands to scripts instead of the password."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, Field

from hub.access.identity import CurrentUser, TokenScope
from hub.access.rules import IN_PERSON, SIGNED_IN, rule
from hub.access.tokens import new_personal_token, token_hash
from hub.accounts import personal_tokens
from hub.database.ids import uuid7
from hub.database.pool import acquire
from hub.errors import conflict, not_found
from hub.events.change import Change, CurrentChanges
from hub.events.event import NewEvent, SubjectType
from hub.fields import Body, Name
from hub.paging import Paging
from hub.services import CurrentServices

router = APIRouter(prefix="/auth/tokens")

TOKENS_MAX = 100
"""Tokens of one person that can be used at the same time."""
PREVIEW_LENGTH = 4


class NewPersonalToken(Body):
    """A token to be: what for, how far it reaches, how long it is good."""

    name: Name
    scopes: Annotated[list[TokenScope], Field(min_length=1, max_length=10)] = [TokenScope.READ]  # noqa: RUF012
    expires_in_days: Annotated[int, Field(ge=1, le=3650)] | None = Field(
        default=None, description="Without it, until it is revoked."
    )


class PersonalTokenView(BaseModel):
    """A personal token, without what it takes to use it."""

    id: UUID
    name: str
    token_preview: str = Field(description="Its last four characters.")
    scopes: list[TokenScope] = Field(description="`manage` includes `write`, `write` includes `read`.")
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None = Field(description="To the minute.")


class PersonalTokenWithSecret(BaseModel):
    """A new token. It is shown once: a repeat of the request has none."""

    personal_token: PersonalTokenView
    token: str | None


class PersonalTokens(BaseModel):
    """The caller's tokens, newest first; revoked ones are gone."""

    tokens: list[PersonalTokenView]
    total: int
    page: int
    page_size: int


@router.post("", status_code=201, response_model=PersonalTokenWithSecret, dependencies=[rule(IN_PERSON)])
async def add_token(changes: CurrentChanges, user: CurrentUser, body: NewPersonalToken) -> Response:
    """Make a token. It is sent as a bearer token and may do what its person may, as far as its scopes reach."""
    token, token_id = new_personal_token(), uuid7()

    async def create(change: Change) -> PersonalTokenWithSecret:
        if await personal_tokens.count_good(change.connection, user.id, change.now) >= TOKENS_MAX:
            raise conflict(f"you have {TOKENS_MAX} tokens; revoke one first", code="too_many_tokens")
        row = await personal_tokens.add(
            change.connection,
            token_id=token_id,
            user_id=user.id,
            name=body.name,
            token_hash=token_hash(token),
            preview=token[-PREVIEW_LENGTH:],
            scopes=[scope for scope in TokenScope if scope in body.scopes],
            now=change.now,
            expires_at=change.now + timedelta(days=body.expires_in_days) if body.expires_in_days else None,
        )
        view = PersonalTokenView(**dict(row))
        _record(change, "token.made", view)
        return PersonalTokenWithSecret(personal_token=view, token=token)

    return await changes.once(create, stored=_without_secret)


@router.get("", dependencies=[rule(SIGNED_IN)])
async def list_tokens(
    services: CurrentServices, user: CurrentUser, paging: Annotated[Paging, Depends()]
) -> PersonalTokens:
    """The caller's own tokens."""
    async with acquire(services.pool) as connection:
        rows, total = await personal_tokens.page(connection, user.id, paging.page_size, paging.offset)
    views = [PersonalTokenView(**dict(row)) for row in rows]
    return PersonalTokens(tokens=views, total=total, page=paging.page, page_size=paging.page_size)


@router.delete("/{token_id}", status_code=204, dependencies=[rule(IN_PERSON)])
async def revoke_token(changes: CurrentChanges, user: CurrentUser, token_id: UUID) -> None:
    """Make one of the caller's tokens worthless, at once."""
    async with changes.begin() as change:
        row = await personal_tokens.revoke(change.connection, token_id, user.id, change.now)
        if row is None:
            raise not_found("token")
        _record(change, "token.revoked", PersonalTokenView(**dict(row)))


def _record(change: Change, event_type: str, view: PersonalTokenView) -> None:
    payload = view.model_dump(mode="json", include={"name", "token_preview", "scopes", "expires_at"})
    change.record(NewEvent(event_type, SubjectType.TOKEN, view.id, payload=payload))


def _without_secret(view: BaseModel) -> BaseModel:
    return view.model_copy(update={"token": None})
