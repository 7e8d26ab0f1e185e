"""HTTP of sign-in: getting in, staying in, getting out."""

from __future__ import annotations

from datetime import timedelta

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from hub.access import store as people
from hub.access.cookies import REFRESH_COOKIE, clear_session, set_session
from hub.access.identity import CurrentUser, SignedInUser, signed_in_user
from hub.access.rules import ANYONE, IN_PERSON, IN_PERSON_BEFORE_PASSWORD_CHANGE, SIGNED_IN_BEFORE_PASSWORD_CHANGE, rule
from hub.access.tokens import new_token, token_hash
from hub.accounts import (
    broker_credential_routes,
    invitation_routes,
    personal_token_routes,
    registration,
    signin,
    store,
    user_routes,
)
from hub.accounts.signin import Session
from hub.accounts.views import (
    Credentials,
    LinkRequest,
    LinkView,
    PasswordChange,
    RefreshRequest,
    Registration,
    SessionView,
    UserView,
)
from hub.errors import Problem, forbidden, not_found
from hub.events.change import Change, CurrentChanges
from hub.events.event import NewEvent, SubjectType
from hub.fields import QueryText
from hub.services import Services

router = APIRouter(tags=["auth"])
router.include_router(invitation_routes.router)
router.include_router(personal_token_routes.router)
router.include_router(broker_credential_routes.router)
router.include_router(user_routes.router)


@router.post("/auth/register", status_code=201, response_model_exclude_none=True, dependencies=[rule(ANYONE)])
async def register(changes: CurrentChanges, request: Request, response: Response, body: Registration) -> SessionView:
    """Make an account, if this hub lets anyone, or with an invitation; one to a project lets it join that."""
    session = await registration.register(changes, body)
    return _present(changes.services, request, response, session)


@router.post("/auth/login", response_model_exclude_none=True, dependencies=[rule(ANYONE)])
async def login(changes: CurrentChanges, request: Request, response: Response, body: Credentials) -> SessionView:
    """Sign in with a password."""
    session = await signin.sign_in(changes, body.username or body.email, body.password)
    return _present(changes.services, request, response, session)


@router.post("/auth/refresh", response_model_exclude_none=True, dependencies=[rule(ANYONE)])
async def refresh(
    changes: CurrentChanges, request: Request, response: Response, body: RefreshRequest | None = None
) -> SessionView:
    """Trade a refresh token for new tokens; each is good once, and using one again ends the sign-in."""
    token = (body.refresh_token if body else "") or request.cookies.get(REFRESH_COOKIE, "")
    session = await signin.refresh(changes, token)
    return _present(changes.services, request, response, session)


@router.post("/auth/logout", status_code=204, dependencies=[rule(ANYONE)])
async def logout(
    changes: CurrentChanges, request: Request, response: Response, body: RefreshRequest | None = None
) -> None:
    """End this sign-in."""
    try:
        user = await signed_in_user(request)
    except Problem:
        user = None
    token = (body.refresh_token if body else "") or request.cookies.get(REFRESH_COOKIE, "")
    await signin.sign_out(changes, user, token)
    clear_session(response, changes.services.settings)


@router.post("/auth/change-password", dependencies=[rule(IN_PERSON_BEFORE_PASSWORD_CHANGE)])
async def change_password(changes: CurrentChanges, user: SignedInUser, body: PasswordChange) -> UserView:
    """Set another password; all other sign-ins end."""
    return UserView.of(await signin.change_password(changes, user, body.current_password, body.new_password))


@router.get("/auth/me", dependencies=[rule(SIGNED_IN_BEFORE_PASSWORD_CHANGE)])
async def me(user: SignedInUser) -> UserView:
    """Who is signed in."""
    return UserView.of(user)


@router.post("/auth/sign-in-links", status_code=201, response_model=LinkView, dependencies=[rule(IN_PERSON)])
async def add_sign_in_link(changes: CurrentChanges, user: CurrentUser, body: LinkRequest | None = None) -> Response:
    """A link that signs in once: for oneself, or for anyone if an administrator asks."""
    username = body.username if body else ""
    settings = changes.services.settings
    token = new_token()

    async def create(change: Change) -> LinkView:
        expires_at = change.now + timedelta(minutes=settings.sign_in_link_minutes)
        target = user.id
        if username and username.lower() not in (user.username.lower(), user.email.lower()):
            if not user.is_admin:
                raise forbidden("only an administrator may make links for others")
            row = await people.user_by_login(change.connection, username)
            if row is None or not row["is_active"]:
                raise not_found("user")
            target = row["id"]
        await store.add_link(change.connection, token_hash(token), target, expires_at)
        change.record(NewEvent("user.sign_in_link_made", SubjectType.USER, target))
        return LinkView(url=f"{settings.base_url}/sign-in?token={token}", expires_at=expires_at)

    return await changes.once(create, stored=lambda view: view.model_copy(update={"url": None}))


@router.get("/sign-in", include_in_schema=False, dependencies=[rule(ANYONE)])
async def follow_sign_in_link(changes: CurrentChanges, token: QueryText = "") -> Response:
    """Sign the browser in and show the portal."""
    session = await signin.sign_in_by_link(changes, token)
    if session is None:
        return HTMLResponse(_LINK_SPENT, status_code=401)
    response = RedirectResponse("/", status_code=303)
    set_session(response, changes.services.settings, session.access_token, session.refresh_token)
    return response


def _present(services: Services, request: Request, response: Response, session: Session) -> SessionView:
    set_session(response, services.settings, session.access_token, session.refresh_token)
    is_browser = "origin" in request.headers
    return SessionView(
        user=UserView.of(session.user),
        expires_in=services.settings.access_token_s,
        refresh_expires_in=services.settings.refresh_token_days * 86_400,
        access_token=None if is_browser else session.access_token,
        refresh_token=None if is_browser else session.refresh_token,
    )


_LINK_SPENT = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Labrelay</title>
<p>This sign-in link was used already or has expired. <a href="/">Go to the portal</a>.</p></html>
"""
