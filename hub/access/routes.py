"""HTTP of accounts and sign-in."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import AfterValidator, AliasChoices, BaseModel, Field, StringConstraints, model_validator

from hub.access import signin, store
from hub.access.cookies import REFRESH_COOKIE, clear_session, set_session
from hub.access.identity import CurrentUser, SignedInUser, User, signed_in_user
from hub.access.passwords import LENGTH_MAX, weakness
from hub.access.rules import ANYONE, SIGNED_IN, SIGNED_IN_BEFORE_PASSWORD_CHANGE, rule
from hub.access.signin import Session
from hub.access.tokens import new_token, token_hash
from hub.database.pool import acquire, transaction
from hub.errors import Problem, forbidden, not_found
from hub.fields import Body, QueryText, storable
from hub.services import CurrentServices, Services

router = APIRouter(tags=["auth"])


def _strong(password: str) -> str:
    if lacking := weakness(password):
        raise ValueError(lacking)
    return storable(password)


Username = Annotated[
    str, StringConstraints(min_length=3, max_length=50, pattern=r"^[\w.-]+$"), AfterValidator(storable)
]
Email = Annotated[str, StringConstraints(max_length=254, pattern=r"^[^@\s]+@[^@\s]+$"), AfterValidator(storable)]
NewPassword = Annotated[str, AfterValidator(_strong), Field(repr=False)]
GivenPassword = Annotated[
    str, StringConstraints(max_length=LENGTH_MAX * 4), AfterValidator(storable), Field(repr=False)
]


class Registration(Body):
    """A new account."""

    username: Username
    email: Email
    password: NewPassword


class Credentials(Body):
    """Who signs in: by user name (or e-mail address in the same field) or by `email`."""

    username: QueryText = ""
    email: QueryText = ""
    password: GivenPassword

    @model_validator(mode="after")
    def _one_login(self) -> Credentials:
        if bool(self.username) == bool(self.email):
            raise ValueError("give username or email")
        return self


class RefreshRequest(Body):
    """A refresh token, where it does not come as a cookie."""

    refresh_token: QueryText = ""


class PasswordChange(Body):
    """The password that was, and the one that is to be."""

    current_password: GivenPassword = Field(validation_alias=AliasChoices("current_password", "old_password"))
    new_password: NewPassword


class LinkRequest(Body):
    """Whom the link is for; oneself if left out."""

    username: QueryText = ""


class UserView(BaseModel):
    """A user, as the API shows one."""

    id: UUID
    username: str
    email: str
    is_active: bool
    is_admin: bool
    password_change_required: bool
    created_at: datetime


class SessionView(BaseModel):
    """A sign-in. The tokens are in the body only where the caller is no browser (sends no Origin)."""

    user: UserView
    expires_in: int = Field(description="Seconds that the access token is good for.")
    refresh_expires_in: int = Field(description="Seconds that the refresh token is good for.")
    token_type: str = "bearer"
    access_token: str | None = None
    refresh_token: str | None = None


class LinkView(BaseModel):
    """A one-time sign-in link."""

    url: str
    expires_at: datetime


class FoundUser(BaseModel):
    """A user, as others see one."""

    id: UUID
    username: str


class FoundUsers(BaseModel):
    """Users that were found."""

    users: list[FoundUser]


@router.post("/auth/register", status_code=201, response_model_exclude_none=True, dependencies=[rule(ANYONE)])
async def register(services: CurrentServices, request: Request, response: Response, body: Registration) -> SessionView:
    """Make an account, if this hub lets anyone."""
    if services.settings.registration != "open":
        raise forbidden("registration is closed; ask an administrator", code="registration_closed")
    session = await signin.register(services, username=body.username, email=body.email, password=body.password)
    return _present(services, request, response, session)


@router.post("/auth/login", response_model_exclude_none=True, dependencies=[rule(ANYONE)])
async def login(services: CurrentServices, request: Request, response: Response, body: Credentials) -> SessionView:
    """Sign in with a password."""
    session = await signin.sign_in(services, body.username or body.email, body.password, _address(request))
    return _present(services, request, response, session)


@router.post("/auth/refresh", response_model_exclude_none=True, dependencies=[rule(ANYONE)])
async def refresh(
    services: CurrentServices, request: Request, response: Response, body: RefreshRequest | None = None
) -> SessionView:
    """Trade a refresh token for new tokens; each is good once."""
    token = (body.refresh_token if body else "") or request.cookies.get(REFRESH_COOKIE, "")
    session = await signin.refresh(services, token)
    return _present(services, request, response, session)


@router.post("/auth/logout", status_code=204, dependencies=[rule(ANYONE)])
async def logout(
    services: CurrentServices, request: Request, response: Response, body: RefreshRequest | None = None
) -> None:
    """End this sign-in."""
    try:
        user = await signed_in_user(request)
    except Problem:
        user = None
    token = (body.refresh_token if body else "") or request.cookies.get(REFRESH_COOKIE, "")
    await signin.sign_out(services, user, token)
    clear_session(response, services.settings)


@router.post("/auth/change-password", dependencies=[rule(SIGNED_IN_BEFORE_PASSWORD_CHANGE)])
async def change_password(
    services: CurrentServices, request: Request, user: SignedInUser, body: PasswordChange
) -> UserView:
    """Set another password; all other sign-ins end."""
    changed = await signin.change_password(services, user, body.current_password, body.new_password, _address(request))
    return _view(changed)


@router.get("/auth/me", dependencies=[rule(SIGNED_IN_BEFORE_PASSWORD_CHANGE)])
async def me(user: SignedInUser) -> UserView:
    """Who is signed in."""
    return _view(user)


@router.post("/auth/sign-in-links", status_code=201, dependencies=[rule(SIGNED_IN)])
async def add_sign_in_link(services: CurrentServices, user: CurrentUser, body: LinkRequest | None = None) -> LinkView:
    """A link that signs in once: for oneself, or for anyone if an administrator asks."""
    username = body.username if body else ""
    expires_at = services.now() + timedelta(minutes=services.settings.sign_in_link_minutes)
    token = new_token()
    async with transaction(services.pool) as connection:
        target = user.id
        if username and username.lower() not in (user.username.lower(), user.email.lower()):
            if not user.is_admin:
                raise forbidden("only an administrator may make links for others")
            row = await store.user_by_login(connection, username)
            if row is None or not row["is_active"]:
                raise not_found("user")
            target = row["id"]
        await store.add_link(connection, token_hash(token), target, expires_at)
    return LinkView(url=f"{services.settings.base_url}/sign-in?token={token}", expires_at=expires_at)


@router.get("/sign-in", include_in_schema=False, dependencies=[rule(ANYONE)])
async def follow_sign_in_link(services: CurrentServices, token: QueryText = "") -> Response:
    """Sign the browser in and show the portal."""
    session = await signin.sign_in_by_link(services, token)
    if session is None:
        return HTMLResponse(_LINK_SPENT, status_code=401)
    response = RedirectResponse("/", status_code=303)
    set_session(response, services.settings, session.access_token, session.refresh_token)
    return response


@router.get("/api/v1/users/search", dependencies=[rule(SIGNED_IN)])
async def search_users(
    services: CurrentServices, q: QueryText, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> FoundUsers:
    """Users by part of their name or by their whole e-mail address."""
    if not q.strip():
        return FoundUsers(users=[])
    async with acquire(services.pool) as connection:
        rows = await store.search(connection, q.strip(), limit)
    return FoundUsers(users=[FoundUser(id=row["id"], username=row["username"]) for row in rows])


def _present(services: Services, request: Request, response: Response, session: Session) -> SessionView:
    set_session(response, services.settings, session.access_token, session.refresh_token)
    is_browser = "origin" in request.headers
    return SessionView(
        user=_view(session.user),
        expires_in=services.settings.access_token_s,
        refresh_expires_in=services.settings.refresh_token_days * 86_400,
        access_token=None if is_browser else session.access_token,
        refresh_token=None if is_browser else session.refresh_token,
    )


def _view(user: User) -> UserView:
    return UserView.model_validate(user, from_attributes=True)


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


_LINK_SPENT = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Labrelay</title>
<p>This sign-in link was used already or has expired. <a href="/">Go to the portal</a>.</p></html>
"""
