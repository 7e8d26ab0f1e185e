"""Requests keep to what their route declares; whatever else they bring is refused by name rather than ignored.

A query parameter that the route does not know, or of which it takes one and is given two values, a key that stands
twice in one JSON object, a field for a route that takes no body, a change that changes nothing: each is a mistake of
the caller's that would otherwise go unnoticed. Every `/api/` call may carry `project_id`, and `access_token` may stand
in the query where a token is taken from there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args, get_origin

from fastapi.dependencies.models import Dependant
from pydantic import BaseModel
from starlette.requests import HTTPConnection, Request

from hub.access.rules import Caller, Rule
from hub.errors import FieldError, Problem, invalid

_NAMES_SHOWN_MAX = 20
_NAME_LENGTH_MAX = 100
_CHANGES = frozenset({"PATCH", "PUT"})
_WITH_BODY = _CHANGES | {"POST"}


async def only_declared(connection: HTTPConnection) -> None:
    """See that the request has nothing that its route does not know; a dependency. Raises: Problem 422."""
    route: Any = connection.scope.get("route")
    dependant: Dependant | None = getattr(route, "dependant", None)
    if dependant is None:
        return
    if connection.query_params:
        _check_query(connection, dependant)
    if not isinstance(connection, Request) or connection.method not in _WITH_BODY or not _is_json(connection):
        return
    body_field = getattr(route, "body_field", None)
    if body_field is None:
        if "requestBody" not in (getattr(route, "openapi_extra", None) or {}):
            _check_no_body(await connection.body(), connection.path_params)
        return
    content = await connection.body()  # read already, to be parsed
    found = json.loads(content, object_pairs_hook=distinct_keys) if content else None
    if found == {} and connection.method in _CHANGES and takes_any_part(body_field.field_info.annotation):
        raise Problem(422, "the body is empty: give at least one field to change", code="invalid_field")


def known_parameters(dependant: Dependant, path: str) -> frozenset[str]:
    """The query parameters that a route takes."""
    known = {name for one in _walk(dependant) for name, _ in _parameters(one.query_params)}
    if path.startswith("/api/"):
        known.add("project_id")
    callers = {one.call.caller for one in _walk(dependant) if isinstance(one.call, Rule)}
    if Caller.SENSOR_OR_USER in callers:
        known.add("access_token")
    return frozenset(known)


def takes_any_part(model: Any) -> bool:
    """Whether a body of this type may leave out every single field."""
    return (
        isinstance(model, type)
        and issubclass(model, BaseModel)
        and not any(field.is_required() for field in model.model_fields.values())
    )


def _check_query(connection: HTTPConnection, dependant: Dependant) -> None:
    known = known_parameters(dependant, connection.scope["path"])
    unknown = [name for name in dict.fromkeys(connection.query_params) if name not in known]
    if unknown:
        names = [_shown(name) for name in unknown[:_NAMES_SHOWN_MAX]]
        fields = [FieldError(name, "there is no such query parameter here") for name in names]
        detail = f"unknown query parameters: {', '.join(names)}; known are: {', '.join(sorted(known)) or 'none'}"
        raise Problem(422, detail, code="unknown_parameter", fields=fields)
    given = connection.query_params
    doubled = {name for name in given if len(set(given.getlist(name))) > 1}
    for name in sorted(doubled - _repeatable(dependant)):
        raise invalid(name, "stands twice, with different values")


def _check_no_body(content: bytes, of_path: Mapping[str, Any]) -> None:
    """See that a body has nothing but ids of the path: the route takes none. Raises: Problem 400, 422."""
    if not content.strip():
        return
    try:
        found = json.loads(content, object_pairs_hook=distinct_keys)
    except (ValueError, RecursionError):
        raise Problem(400, "the body is not JSON") from None
    if not isinstance(found, dict | None):
        raise invalid("body", "this call takes none")
    for name, value in (found or {}).items():
        if str(of_path.get(name)) != value:
            raise invalid(_shown(name), "is not that of the path" if name in of_path else "there is no such field here")


def distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, if no key stands in it twice. Raises: Problem 422."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise invalid(_shown(next(key for key in keys if keys.count(key) > 1)), "stands twice in one object")
    return found


def _walk(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for one in dependant.dependencies:
        yield from _walk(one)


def _repeatable(dependant: Dependant) -> set[str]:
    """The query parameters of which a route takes several."""
    found = (pair for one in _walk(dependant) for pair in _parameters(one.query_params))
    return {name for name, kind in found if any(get_origin(one) is list for one in (kind, *get_args(kind)))}


def _parameters(fields: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Names and types of parameters, and those of a model that stands for several parameters."""
    for field in fields:
        kind = field.field_info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from ((one.alias or name, one.annotation) for name, one in kind.model_fields.items())
        else:
            yield field.alias, kind


def _is_json(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _shown(name: str) -> str:
    """A name that a client sent, fit to be sent back."""
    return name[:_NAME_LENGTH_MAX].encode("utf-8", "replace").decode()
