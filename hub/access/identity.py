"""Who is asking: a person with a session, an access token or a personal token, or a sensor with its token.

    from hub.access.identity import CurrentUser, member_of, Role

    @router.get("/things/{id}", dependencies=[rule(SIGNED_IN)])
    async def thing(services: CurrentServices, user: CurrentUser, id: UUID) -> Thing:
        ...
        await member_of(services, user, thing.project_id, Role.VIEWER)

An `Authorization` header wins over cookies. Who is not a member of a project is told that it is not there.
"""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Depends
from starlette.requests import HTTPConnection

from hub.access import store
from hub.access.cookies import ACCESS_COOKIE
from hub.access.credentials import sensor_of_token, user_of_token
from hub.access.principals import Principal, Role, SensorPrincipal, TokenScope, User
from hub.database.pool import acquire
from hub.errors import forbidden, not_found, unauthorized
from hub.services import Services, ready_services

__all__ = [
    "CurrentSensor",
    "CurrentUser",
    "Principal",
    "Role",
    "SensorOrUser",
    "SensorPrincipal",
    "SignedInUser",
    "TokenScope",
    "User",
    "UserByQuery",
    "bearer_token",
    "caller_of",
    "current_user",
    "member_of",
    "projects_of",
    "require_person",
    "require_role",
    "require_scope",
    "role_in",
    "sensor_or_user",
    "sensor_principal",
    "signed_in_user",
    "user_by_query",
]


async def current_user(connection: HTTPConnection) -> User:
    """The person who asks; a dependency. Raises: Problem 401, 403 while a password change is due."""
    user = await signed_in_user(connection)
    _require_no_password_change(user)
    return user


async def user_by_query(connection: HTTPConnection) -> User:
    """The same, where `access_token` in the query is taken too: no header can be set on a browser's event stream."""
    user = await _user(connection, _header_or_query(connection) or _cookie(connection))
    _require_no_password_change(user)
    return user


async def signed_in_user(connection: HTTPConnection) -> User:
    """The person who asks, even one who must change the password first. Raises: Problem 401."""
    return await _user(connection, _user_token(connection))


async def sensor_principal(connection: HTTPConnection) -> SensorPrincipal:
    """The sensor whose token the request brings; a dependency. Raises: Problem 401."""
    known: SensorPrincipal | None = getattr(connection.state, "sensor", None)
    sensor = known or await sensor_of_token(ready_services(connection), bearer_token(connection))
    if sensor is None:
        raise unauthorized("send the sensor's token as a bearer token")
    connection.state.sensor = sensor
    return sensor


async def sensor_or_user(connection: HTTPConnection) -> Principal:
    """Either; a dependency. `access_token` in the query is taken where no header can be set. Raises: Problem 401."""
    token = _header_or_query(connection)
    found: Principal | None = getattr(connection.state, "principal", None)
    if found is None:
        found = await user_of_token(ready_services(connection), token or _cookie(connection))
    if found is None and token:
        found = await sensor_of_token(ready_services(connection), token)
    if found is None:
        raise unauthorized()
    if isinstance(found, User):
        _require_no_password_change(found)
    connection.state.principal = found
    return found


def caller_of(connection: HTTPConnection) -> Principal | None:
    """Whoever the rule of the route has found to ask, None where anyone may."""
    for name in ("principal", "user", "sensor"):
        found: Principal | None = getattr(connection.state, name, None)
        if found is not None:
            return found
    return None


async def member_of(
    services: Services, principal: Principal, project_id: UUID, at_least: Role, *, what: str = "project"
) -> Role:
    """The principal's role in the project. Raises: Problem 404 (no such `what`) for outsiders, 403 for a lower role."""
    role = await role_in(services, principal, project_id)
    return require_role(role, at_least, what)


def require_role(role: Role | str | None, at_least: Role, what: str) -> Role:
    """The role, if it suffices to do something to a thing. Raises: Problem 404 without any, 403 for a lower one."""
    if role is None:
        raise not_found(what)
    if not Role(role).includes(at_least):
        raise forbidden(f"this needs the role {at_least}, yours is {role}")
    return Role(role)


def require_scope(principal: Principal, scope: TokenScope) -> None:
    """See that a personal token, if one was used, reaches so far. Raises: Problem 403."""
    token = principal.token if isinstance(principal, User) else None
    if token is not None and not scope.is_granted_by(token.scopes):
        raise forbidden(f"this needs a token with the scope {scope}", code="insufficient_scope")


def require_person(principal: Principal) -> None:
    """See that no personal token was used. Raises: Problem 403."""
    if isinstance(principal, User) and principal.token is not None:
        raise forbidden("no token may do this: sign in", code="insufficient_scope")


async def role_in(services: Services, principal: Principal, project_id: UUID) -> Role | None:
    """The principal's role in the project, None for outsiders. A sensor reads its own projects."""
    if isinstance(principal, SensorPrincipal):
        return Role.VIEWER if project_id in principal.project_ids else None
    async with acquire(services.pool, timeout_s=services.settings.database_acquire_timeout_s) as connection:
        role = await store.role(connection, principal.id, project_id)
    return Role(role) if role else None


async def projects_of(services: Services, principal: Principal) -> dict[UUID, Role]:
    """All projects that the principal may see, with the role in each."""
    if isinstance(principal, SensorPrincipal):
        return dict.fromkeys(principal.project_ids, Role.VIEWER)
    async with acquire(services.pool, timeout_s=services.settings.database_acquire_timeout_s) as connection:
        return {row["project_id"]: Role(row["role"]) for row in await store.roles(connection, principal.id)}


def bearer_token(connection: HTTPConnection) -> str:
    """The token in the Authorization header, empty if there is none."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


async def _user(connection: HTTPConnection, token: str) -> User:
    """The person whose token it is, looked up once a request. Raises: Problem 401."""
    known: User | None = getattr(connection.state, "user", None)
    user = known or await user_of_token(ready_services(connection), token)
    if user is None:
        raise unauthorized()
    connection.state.user = user
    return user


def _require_no_password_change(user: User) -> None:
    if user.password_change_required:
        raise forbidden("change your password first", code="password_change_required")


def _header_or_query(connection: HTTPConnection) -> str:
    return bearer_token(connection) or connection.query_params.get("access_token", "")


def _user_token(connection: HTTPConnection) -> str:
    return bearer_token(connection) if "authorization" in connection.headers else _cookie(connection)


def _cookie(connection: HTTPConnection) -> str:
    return "" if "authorization" in connection.headers else connection.cookies.get(ACCESS_COOKIE, "")


CurrentUser = Annotated[User, Depends(current_user)]
SignedInUser = Annotated[User, Depends(signed_in_user)]
CurrentSensor = Annotated[SensorPrincipal, Depends(sensor_principal)]
UserByQuery = Annotated[User, Depends(user_by_query)]
SensorOrUser = Annotated[Principal, Depends(sensor_or_user)]
