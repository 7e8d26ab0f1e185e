"""Who is asking: a person with a session or bearer token, or a sensor with its token.

    from hub.access.identity import CurrentUser, member_of, Role

    @router.get("/things/{id}", dependencies=[rule(SIGNED_IN)])
    async def thing(services: CurrentServices, user: CurrentUser, id: UUID) -> Thing:
        ...
        await member_of(services, user, thing.project_id, Role.VIEWER)

An `Authorization` header wins over cookies. Who is not a member of a project is told that it is not there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, TypeAlias
from uuid import UUID

from fastapi import Depends
from starlette.requests import HTTPConnection

from hub.access import store
from hub.access.cookies import ACCESS_COOKIE
from hub.access.tokens import TOKEN_LENGTH_MAX, token_hash
from hub.database.pool import acquire
from hub.errors import forbidden, not_found, unauthorized
from hub.services import Services, ready_services


class Role(StrEnum):
    """What a member may do in a project; each includes those before it."""

    VIEWER = "viewer"
    EDITOR = "editor"
    OWNER = "owner"

    def includes(self, other: Role) -> bool:
        """Whether someone with this role may do what `other` may."""
        order = list(Role)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, slots=True)
class User:
    """A person who is signed in."""

    id: UUID
    username: str
    email: str
    is_active: bool
    is_admin: bool
    password_change_required: bool
    created_at: datetime
    family: UUID | None = None
    """The sign-in that this request belongs to."""


@dataclass(frozen=True, slots=True)
class SensorPrincipal:
    """A sensor that sends, or someone who holds its token.

    Attributes:
        project_ids: all projects of the sensor.
    """

    id: UUID
    name: str
    status: str
    project_id: UUID
    project_ids: frozenset[UUID]


Principal: TypeAlias = User | SensorPrincipal


async def current_user(connection: HTTPConnection) -> User:
    """The person who asks; a dependency. Raises: Problem 401, 403 while a password change is due."""
    user = await signed_in_user(connection)
    if user.password_change_required:
        raise forbidden("change your password first", code="password_change_required")
    return user


async def signed_in_user(connection: HTTPConnection) -> User:
    """The person who asks, even one who must change the password first. Raises: Problem 401."""
    known: User | None = getattr(connection.state, "user", None)
    user = known or await _user_of_token(connection, _user_token(connection))
    if user is None:
        raise unauthorized()
    connection.state.user = user
    return user


async def sensor_principal(connection: HTTPConnection) -> SensorPrincipal:
    """The sensor whose token the request brings; a dependency. Raises: Problem 401."""
    known: SensorPrincipal | None = getattr(connection.state, "sensor", None)
    sensor = known or await _sensor_of_token(connection, bearer_token(connection))
    if sensor is None:
        raise unauthorized("send the sensor's token as a bearer token")
    connection.state.sensor = sensor
    return sensor


async def sensor_or_user(connection: HTTPConnection) -> Principal:
    """Either; a dependency. `access_token` in the query is taken where no header can be set. Raises: Problem 401."""
    header = bearer_token(connection) or connection.query_params.get("access_token", "")
    found: Principal | None = getattr(connection.state, "principal", None)
    if found is None:
        found = await _user_of_token(connection, header or _cookie(connection))
    if found is None and header:
        found = await _sensor_of_token(connection, header)
    if found is None:
        raise unauthorized()
    if isinstance(found, User) and found.password_change_required:
        raise forbidden("change your password first", code="password_change_required")
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


def _user_token(connection: HTTPConnection) -> str:
    return bearer_token(connection) if "authorization" in connection.headers else _cookie(connection)


def _cookie(connection: HTTPConnection) -> str:
    return "" if "authorization" in connection.headers else connection.cookies.get(ACCESS_COOKIE, "")


async def _user_of_token(connection: HTTPConnection, token: str) -> User | None:
    if not token:
        return None
    services = ready_services(connection)
    claims = services.signer.read(token, services.clock.now_us() / 1e6)
    if claims is None:
        return None
    async with acquire(services.pool, timeout_s=services.settings.database_acquire_timeout_s) as database:
        row = await store.user_of_family(database, claims.user_id, claims.family)
    return user_of(row, claims.family) if row else None


async def _sensor_of_token(connection: HTTPConnection, token: str) -> SensorPrincipal | None:
    if not token or len(token) > TOKEN_LENGTH_MAX:
        return None
    services = ready_services(connection)
    async with acquire(services.pool, timeout_s=services.settings.database_acquire_timeout_s) as database:
        row = await store.sensor_of_token(database, token_hash(token))
    if row is None:
        return None
    projects = frozenset((row["project_id"], *row["project_ids"]))
    return SensorPrincipal(row["id"], row["name"], row["status"], row["project_id"], projects)


def user_of(row: store.Row, family: UUID | None = None) -> User:
    """The user in a row of the table `users`."""
    return User(
        id=row["id"],
        username=row["username"],
        email=row["email"],
        is_active=row["is_active"],
        is_admin=row["is_admin"],
        password_change_required=row["password_change_required"],
        created_at=row["created_at"],
        family=family,
    )


CurrentUser = Annotated[User, Depends(current_user)]
SignedInUser = Annotated[User, Depends(signed_in_user)]
CurrentSensor = Annotated[SensorPrincipal, Depends(sensor_principal)]
SensorOrUser = Annotated[Principal, Depends(sensor_or_user)]
