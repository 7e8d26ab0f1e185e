"""Who may call a route, declared where the route is.

    @router.post("/things", dependencies=[rule(EDITOR)])

Every route declares exactly one rule, and a test walks all routes to see that. The rule checks who asks; where the path
names the project (`{project_id}`), also the role in it. Elsewhere the handler finds the project through the thing that
is asked for and calls `member_of` with the rule's role. A `project_id` in the query must be that thing's
(`hub.access.named_project`).

A personal token does what its person may, as far as its scopes reach: reading takes `read`, writing `write`, and what
is for owners or administrators `manage`. A post that only reads says so: `rule(VIEWER, only_reads=True)`. What takes
the person, such as another password, is out of reach of any token.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any
from uuid import UUID

from fastapi import Depends
from starlette.requests import HTTPConnection

from hub.access.identity import (
    Principal,
    Role,
    TokenScope,
    User,
    current_user,
    member_of,
    require_person,
    require_scope,
    sensor_or_user,
    sensor_principal,
    signed_in_user,
    user_by_query,
)
from hub.access.named_project import require_named_project
from hub.errors import forbidden, not_found
from hub.services import ready_services


class Caller(StrEnum):
    """Who may ask at all."""

    ANYONE = "anyone"
    USER = "user"
    SENSOR = "sensor"
    SENSOR_OR_USER = "sensor or user"


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may call a route.

    Attributes:
        role: the least role in the project concerned, None where no project is.
        admin: whether only administrators of the hub may.
        before_password_change: whether someone who must change the password first may.
        in_person: whether no personal token may.
        only_reads: whether nothing is changed although the method says so.
        token_in_query: whether a user's token may stand in the query, as `access_token`.
    """

    caller: Caller
    role: Role | None = None
    admin: bool = False
    before_password_change: bool = False
    in_person: bool = False
    only_reads: bool = False
    token_in_query: bool = False

    @property
    def takes_token_in_query(self) -> bool:
        """Whether the query may have `access_token`."""
        return self.token_in_query or self.caller is Caller.SENSOR_OR_USER

    @property
    def name(self) -> str:
        """The rule in a few words, e.g. `user, owner`."""
        return ", ".join(filter(None, (self.caller, self.role, "administrator" if self.admin else "")))

    def scope(self, method: str) -> TokenScope:
        """What a personal token must be for."""
        if self.admin or self.role is Role.OWNER:
            return TokenScope.MANAGE
        return TokenScope.READ if self.only_reads or method in _SAFE_METHODS else TokenScope.WRITE

    async def __call__(self, connection: HTTPConnection) -> None:
        """Raises: Problem 401, 403, 404."""
        if self.caller is Caller.ANYONE:
            return
        principal = await self._identify(connection)
        if self.in_person:
            require_person(principal)
        require_scope(principal, self.scope(connection.scope.get("method", "GET")))
        if self.admin and not (isinstance(principal, User) and principal.is_admin):
            raise forbidden("this needs an administrator of the hub")
        project_id = connection.path_params.get("project_id")
        if self.role is not None and project_id is not None:
            await member_of(ready_services(connection), principal, _uuid(project_id), self.role)
        await require_named_project(connection, principal)

    async def _identify(self, connection: HTTPConnection) -> Principal:
        if self.before_password_change:
            return await signed_in_user(connection)
        if self.token_in_query:
            return await user_by_query(connection)
        return await _IDENTIFY[self.caller](connection)


_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_IDENTIFY: dict[Caller, Callable[[HTTPConnection], Awaitable[Principal]]] = {
    Caller.USER: current_user,
    Caller.SENSOR: sensor_principal,
    Caller.SENSOR_OR_USER: sensor_or_user,
}

ANYONE = Rule(Caller.ANYONE)
SIGNED_IN = Rule(Caller.USER)
SIGNED_IN_BEFORE_PASSWORD_CHANGE = Rule(Caller.USER, before_password_change=True)
IN_PERSON = Rule(Caller.USER, in_person=True)
IN_PERSON_BEFORE_PASSWORD_CHANGE = Rule(Caller.USER, before_password_change=True, in_person=True)
VIEWER = Rule(Caller.USER, Role.VIEWER)
EDITOR = Rule(Caller.USER, Role.EDITOR)
OWNER = Rule(Caller.USER, Role.OWNER)
ADMIN = Rule(Caller.USER, admin=True)
SENSOR = Rule(Caller.SENSOR)
SENSOR_OR_VIEWER = Rule(Caller.SENSOR_OR_USER, Role.VIEWER)


def rule(who: Rule, *, only_reads: bool = False, token_in_query: bool = False) -> Any:
    """The dependency that enforces the rule, for a route's `dependencies`.

    Args:
        only_reads: whether the route changes nothing although its method says so.
        token_in_query: whether a user's token may stand in the query, for streams: a browser sets no header on one.
    """
    return Depends(replace(who, only_reads=only_reads, token_in_query=token_in_query))


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise not_found("project") from None
