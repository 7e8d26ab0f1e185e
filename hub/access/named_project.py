"""The project that a request names in its query, as every `/api/` call may.

A list is of that project alone, which its route sees to. What is to be made belongs to it, whether the body repeats it
or not. What the path leads to, or the query's `run_id` and `capture_session_id`, must be in it; else it is not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from starlette.requests import HTTPConnection

from hub.access.principals import Principal, SensorPrincipal
from hub.database.pool import acquire
from hub.errors import invalid, not_found
from hub.services import ready_services

PARAMETER = "project_id"
_ID_DIGITS_MAX = 16


@dataclass(frozen=True, slots=True)
class Thing:
    """What a parameter leads to.

    Attributes:
        name: for people.
        within: SQL that counts those of the things with the ids $1 that are in the project $2.
        has_uuid: else the id is a whole number.
    """

    name: str
    within: str
    has_uuid: bool = True


def _of_table(name: str, table: str, *, has_uuid: bool = True) -> Thing:
    kind = "uuid" if has_uuid else "bigint"
    within = f"select count(*) from {table} where id = any($1::{kind}[]) and project_id = $2"
    return Thing(name, within, has_uuid)


_SENSOR = "select count(*) from sensor_projects where sensor_id = any($1::uuid[]) and project_id = $2"
_TASK = """
    select count(*) from backfill_tasks t join sensor_projects p on p.sensor_id = t.sensor_id
    where t.id = any($1::uuid[]) and p.project_id = $2
"""
BY_PATH: Mapping[str, Thing] = {
    "agent_id": _of_table("agent", "agents"),
    "aside_id": _of_table("set aside", "set_aside", has_uuid=False),
    "delivery_id": _of_table("delivery", "webhook_deliveries"),
    "experiment_id": _of_table("experiment", "experiments"),
    "run_id": _of_table("run", "runs"),
    "sensor_id": Thing("sensor", _SENSOR),
    "task_id": Thing("backfill task", _TASK),
    "webhook_id": _of_table("webhook", "webhook_subscriptions"),
}
"""By the path's first parameter; what further ones lead to belongs to the first one's thing."""
BY_QUERY: Mapping[str, Thing] = {
    "run_id": BY_PATH["run_id"],
    "capture_session_id": _of_table("capture session", "capture_sessions"),
}


async def require_named_project(connection: HTTPConnection, principal: Principal) -> None:
    """See that what is asked for is in the project that the query names, if it names one. Raises: Problem 404, 422."""
    if PARAMETER not in connection.query_params:
        return
    try:
        project_id = UUID(connection.query_params[PARAMETER])
    except ValueError:
        raise invalid(PARAMETER, "must be a UUID") from None
    if isinstance(principal, SensorPrincipal) and project_id not in principal.project_ids:
        raise not_found("project")
    services = ready_services(connection)
    for thing, ids in _asked_for(connection):
        async with acquire(services.pool, timeout_s=services.settings.database_acquire_timeout_s) as database:
            if await database.fetchval(thing.within, list(ids), project_id) != len(ids):
                raise not_found(thing.name)


def project_to_be(what: str, in_body: UUID | None, in_query: UUID | None) -> UUID:
    """The project of something that is to be made, named in the body, the query or both. Raises: Problem 422."""
    named = {project for project in (in_body, in_query) if project is not None}
    if not named:
        raise invalid(PARAMETER, f"say which project the {what} belongs to")
    if len(named) > 1:
        raise invalid(PARAMETER, "differs between query and body")
    return named.pop()


def _asked_for(connection: HTTPConnection) -> Iterator[tuple[Thing, frozenset[UUID | int]]]:
    """What the request is about. An id that is none is left to the route, which says so."""
    first = next(iter(connection.path_params), "")
    named = [(BY_PATH[first], [str(connection.path_params[first])])] if first in BY_PATH else []
    named += [(thing, connection.query_params.getlist(name)) for name, thing in BY_QUERY.items()]
    for thing, texts in named:
        with suppress(ValueError):
            if ids := frozenset(UUID(text) if thing.has_uuid else _whole(text) for text in texts):
                yield thing, ids


def _whole(text: str) -> int:
    """Raises: ValueError."""
    if not (text.isascii() and text.isdigit() and len(text) <= _ID_DIGITS_MAX):
        raise ValueError(text)
    return int(text)
