"""Requests keep to what their route declares; whatever else they bring is refused by name rather than ignored.

A query parameter that the route does not know, or of which it takes one and is given two values, a body of another
type than JSON, a key that stands twice in one JSON object, a field for a route that takes no body, a change that
changes nothing: each is a mistake of the caller's that would otherwise go unnoticed. Every `/api/` call may carry
`project_id`, and `access_token` may stand in the query where a token is taken from there. A body whose type is not
said is JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args, get_origin

from fastapi.dependencies.models import Dependant
from pydantic import BaseModel
from starlette.requests import HTTPConnection, Request

from hub.access.rules import Rule
from hub.errors import FieldError, Problem, invalid

_NAMES_SHOWN_MAX = 20
_NAME_LENGTH_MAX = 100
_CHANGES = frozenset({"PATCH", "PUT"})
_WITH_BODY = _CHANGES | {"POST"}


async def only_declared(connection: HTTPConnection) -> None:
    """See that the request has nothing that its route does not know; a dependency. Raises: Problem 400, 415, 422."""
    route: Any = connection.scope.get("route")
    dependant: Dependant | None = getattr(route, "dependant", None)
    if dependant is None:
        return
    if connection.query_params:
        _check_query(connection, dependant)
    reads_itself = "requestBody" in (getattr(route, "openapi_extra", None) or {})
    if isinstance(connection, Request) and connection.method in _WITH_BODY and not reads_itself:
        await _check_body(connection, getattr(route, "body_field", None))


def known_parameters(dependant: Dependant, path: str) -> frozenset[str]:
    """The query parameters that a route takes."""
    known = {name for one in _walk(dependant) for name, _ in _parameters(one.query_params)}
    if path.startswith("/api/"):
        known.add("project_id")
    if any(one.call.takes_token_in_query for one in _walk(dependant) if isinstance(one.call, Rule)):
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


async def _check_body(request: Request, field: Any) -> None:
    """See that a body is JSON, and has nothing that would go unnoticed.

    Args:
        field: what the framework makes of it; None where the route takes none.
    """
    content = await request.body()  # read already, to be parsed, if there is a field
    if not content.strip():
        return
    _require_json(request)
    if field is None:
        _check_no_body(content, request.path_params)
        return
    found = json.loads(content, object_pairs_hook=distinct_keys)
    if found == {} and request.method in _CHANGES and takes_any_part(field.field_info.annotation):
        raise Problem(422, "the body is empty: give at least one field to change", code="invalid_field")


def _require_json(request: Request) -> None:
    """See that a body is said to be JSON, or not said to be anything by who is no browser. Raises: Problem 415.

    A page elsewhere can have a browser send a body without a type and unasked; one of type JSON only if we let it.
    """
    said = request.headers.get("content-type", "")
    kind = said.partition(";")[0].strip().lower()
    is_json = kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
    if is_json or (not said and "origin" not in request.headers):
        return
    detail = f"Content-Type {f'is {_shown(kind)}' if kind else 'is missing'}: send JSON as application/json"
    fields = [FieldError("Content-Type", "must be application/json")]
    raise Problem(415, detail, code="unsupported_media_type", fields=fields)


def _check_no_body(content: bytes, of_path: Mapping[str, Any]) -> None:
    """See that a body has nothing but ids of the path: the route takes none. Raises: Problem 400, 422."""
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


def _shown(name: str) -> str:
    """A name that a client sent, fit to be sent back."""
    return name[:_NAME_LENGTH_MAX].encode("utf-8", "replace").decode()
