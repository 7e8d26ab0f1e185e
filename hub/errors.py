"""Errors as answers: `application/problem+json` (RFC 9457), the same shape whoever raised them.

`Problem` is what routes raise. Errors of the product's own tree, of validation and of the framework are turned into one
here. `error` repeats `detail`; `errors` lists fields; `code` is a word for programs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from uuid import UUID

import asyncpg
import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from hub.database.pool import UnstorableValue, translate
from shared.errors import CredentialsRefused, LabrelayError, ProfileError

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field that is wrong: its path in the body or its name in the query, and why."""

    field: str
    message: str


class Problem(Exception):
    """An answer that is an error.

    Args:
        status: the HTTP status.
        detail: what is wrong, for people.
        code: what is wrong, for programs; by default the status' name.
        fields: which fields are wrong.
        headers: to send along.
        extensions: further members of the problem object.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        code: str = "",
        fields: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        extensions: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.code = code or HTTPStatus(status).name.lower()
        self.fields = tuple(fields)
        self.headers = dict(headers or {})
        self.extensions = dict(extensions or {})


def not_found(what: str) -> Problem:
    """404: not there, or not the caller's to see."""
    return Problem(404, f"{what} not found")


def invalid(field: str, message: str) -> Problem:
    """422 for one field."""
    return Problem(422, f"{field}: {message}", code="invalid_field", fields=[FieldError(field, message)])


def conflict(detail: str, code: str = "conflict") -> Problem:
    """409."""
    return Problem(409, detail, code=code)


def unauthorized(detail: str = "sign in or send a bearer token") -> Problem:
    """401 with the challenge that HTTP asks for."""
    return Problem(401, detail, headers={"WWW-Authenticate": "Bearer"})


def forbidden(detail: str, code: str = "forbidden") -> Problem:
    """403."""
    return Problem(403, detail, code=code)


def too_many(detail: str, retry_after_s: int) -> Problem:
    """429 with the time to wait."""
    return Problem(429, detail, headers={"Retry-After": str(max(1, retry_after_s))})


def problem_response(problem: Problem, request_id: str) -> Response:
    """The answer on the wire."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "error": problem.detail,
        "code": problem.code,
        "request_id": request_id,
    }
    if problem.fields:
        body["errors"] = [{"field": field.field, "message": field.message} for field in problem.fields]
    content = orjson.dumps(body | problem.extensions, default=str)
    return Response(content, status_code=problem.status, headers=problem.headers, media_type=MEDIA_TYPE)


def problem_of(error: BaseException) -> Problem | None:
    """The answer that an error stands for, None for one that nobody foresaw."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, RequestValidationError):
        return _of_validation(error)
    if isinstance(error, HTTPException):
        return Problem(error.status_code, _sentence(error), headers=error.headers)
    if isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError | asyncpg.InternalClientError):
        ours = translate(error)
        return _of_ours(ours) if ours else _of_constraint(error)
    return _of_ours(error) if isinstance(error, LabrelayError) else None


def install_error_handlers(app: FastAPI) -> None:
    """Answer every foreseen error as a problem. The unforeseen are answered by `hub.requests.RequestContext`."""

    async def answer(request: Request, error: Exception) -> Response:
        problem = problem_of(error)
        if problem is None:
            raise error
        if problem.status == HTTPStatus.METHOD_NOT_ALLOWED:
            problem.headers["Allow"] = ", ".join(sorted(_methods(app, request)))
        return problem_response(problem, getattr(request.state, "request_id", ""))

    kinds = (
        Problem,
        RequestValidationError,
        HTTPException,
        LabrelayError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
    )
    for kind in kinds:
        app.add_exception_handler(kind, answer)


def _methods(app: FastAPI, request: Request) -> set[str]:
    """What may be done to the path; the framework itself names the methods of the first route that has it."""
    found: set[str] = set()
    for context in iter_route_contexts(app.routes):
        if context.path_regex.fullmatch(request.scope["path"]):
            found |= context.methods or set()
    return found


def _of_constraint(error: Exception) -> Problem | None:
    """A constraint that no route foresaw: what was asked for does not fit what is stored (any more)."""
    if not isinstance(error, asyncpg.IntegrityConstraintViolationError):
        return None
    log.warning("event=constraint_unforeseen constraint=%s", error.constraint_name, exc_info=error)
    if isinstance(error, asyncpg.CheckViolationError | asyncpg.NotNullViolationError):
        return Problem(422, f"a value that {error.table_name} cannot hold", code="invalid_field")
    return conflict(f"this does not fit what {error.table_name} holds now")


def _of_ours(error: LabrelayError) -> Problem | None:
    if isinstance(error, UnstorableValue | ProfileError):
        return Problem(422, error.message, code="invalid_field")
    if isinstance(error, CredentialsRefused):
        return unauthorized(error.message)
    if error.retryable:
        return Problem(503, error.message, headers={"Retry-After": str(RETRY_AFTER_S)})
    return None


def _of_validation(error: RequestValidationError) -> Problem:
    fields: list[FieldError] = []
    for item in error.errors()[:50]:
        if item["type"] == "json_invalid":
            return Problem(400, "the body is not JSON")
        fields.append(FieldError(_path(item["loc"]), _scalar_text(item["msg"])))
    detail = "; ".join(f"{field.field}: {field.message}" if field.field else field.message for field in fields[:5])
    return Problem(422, detail, code="invalid_field", fields=fields)


def _path(location: Sequence[Any]) -> str:
    return ".".join(_scalar_text(str(part)) for part in location[1:])


def _scalar_text(text: str) -> str:
    """The text without what UTF-8 cannot carry (a lone surrogate that a client sent in a name)."""
    return text.removeprefix("Value error, ").encode("utf-8", "replace").decode()


def _sentence(error: HTTPException) -> str:
    return str(error.detail) or HTTPStatus(error.status_code).phrase


def require_same(field: str, given: UUID | None, actual: UUID) -> None:
    """See that an id in a body is the one that the path leads to. Raises: Problem 422."""
    if given not in (None, actual):
        raise invalid(field, "is not that of the path")
