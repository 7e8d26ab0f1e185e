"""The OpenAPI document: what FastAPI knows, with our errors and with who may call what."""

from __future__ import annotations

import threading
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, iter_route_contexts

from hub.access.cookies import ACCESS_COOKIE
from hub.access.rules import Caller, Rule
from hub.errors import MEDIA_TYPE

_PROBLEM = {
    "type": "object",
    "description": "What went wrong (RFC 9457).",
    "required": ["type", "title", "status", "detail", "error", "code", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "For people."},
        "error": {"type": "string", "description": "The same as `detail`."},
        "code": {"type": "string", "description": "For programs."},
        "request_id": {"type": "string", "description": "Stands in the hub's log."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}
_ERROR = {
    "description": "An error",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_SECURITY_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A user's access token or personal token, or a sensor's token where the operation says so.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": ACCESS_COOKIE,
        "description": "What changes something needs a known Origin and X-CSRF-Token equal to the cookie csrf_token.",
    },
}
_SECURITY: dict[Caller, list[dict[str, list[str]]]] = {
    Caller.ANYONE: [],
    Caller.USER: [{"bearer": []}, {"session": []}],
    Caller.SENSOR: [{"bearer": []}],
    Caller.SENSOR_OR_USER: [{"bearer": []}, {"session": []}],
}


_making = threading.Lock()


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """The document of all routes; the same object each time, on whatever thread. The first call takes seconds."""
    with _making:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            _describe_errors(document)
            _describe_changes(document)
            _describe_rules(document, app)
            app.openapi_schema = document
    return app.openapi_schema


def rules_of(app: FastAPI) -> dict[tuple[str, str], list[Rule]]:
    """The rules that each (method, path) declares; there should be one."""
    found: dict[tuple[str, str], list[Rule]] = {}
    for context in iter_route_contexts(app.routes):
        dependencies = context.dependant.dependencies if isinstance(context.original_route, APIRoute) else []
        rules = [dependency.call for dependency in dependencies if isinstance(dependency.call, Rule)]
        for method in context.methods or ():
            found[method, context.path or ""] = rules
    return found


def _describe_errors(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    schemas["Problem"] = _PROBLEM
    for operations in document["paths"].values():
        for operation in operations.values():
            responses = operation["responses"]
            if "422" in responses:
                responses["422"] = _ERROR | {"description": "A field is wrong"}
            responses["default"] = _ERROR


def _describe_changes(document: dict[str, Any]) -> None:
    """A change that may leave out every field must give one (`hub.declared`)."""
    schemas = document["components"]["schemas"]
    for operations in document["paths"].values():
        for method in operations.keys() & {"patch", "put"}:
            content = operations[method].get("requestBody", {}).get("content", {}).get("application/json", {})
            schema = schemas.get(content.get("schema", {}).get("$ref", "").rpartition("/")[2], {})
            if schema.get("properties") and not schema.get("required"):
                schema["minProperties"] = 1


def _describe_rules(document: dict[str, Any], app: FastAPI) -> None:
    document["components"]["securitySchemes"] = _SECURITY_SCHEMES
    rules = rules_of(app)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            (one,) = rules[method.upper(), path]
            operation["security"] = _SECURITY[one.caller]
            operation["x-rule"] = one.name
            if one.caller in (Caller.USER, Caller.SENSOR_OR_USER):
                operation["x-token-scope"] = "none" if one.in_person else one.scope(method.upper()).value
