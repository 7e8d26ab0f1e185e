"""The hub's own description over HTTP: OpenAPI as JSON and YAML, AsyncAPI. Each is made at its first request, once.

Making one takes seconds of computing, which happens on a thread, so that nothing else waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import yaml
from fastapi import APIRouter, FastAPI
from starlette.responses import Response

from hub.access.rules import ANYONE, rule
from hub.asyncapi import asyncapi_document
from hub.openapi import openapi_document

_YAML = "application/yaml"


class _Document:
    """A document that never changes."""

    def __init__(self, make: Callable[[], bytes], media_type: str) -> None:
        self._make = make
        self._media_type = media_type
        self._making = asyncio.Lock()
        self._content: bytes | None = None

    async def answer(self) -> Response:
        """The document; who asks while it is made waits for it."""
        async with self._making:
            if self._content is None:
                self._content = await asyncio.to_thread(self._make)
        return Response(self._content, media_type=self._media_type)


def documents_router(app: FastAPI) -> APIRouter:
    """Routes of the documents of this application."""
    as_json = _Document(lambda: orjson.dumps(openapi_document(app)), "application/json")
    as_yaml = _Document(lambda: _yaml(openapi_document(app)), _YAML)
    asynchronous = _Document(lambda: _yaml(asyncapi_document(app.version)), _YAML)
    router = APIRouter(include_in_schema=False, dependencies=[rule(ANYONE)])
    for path, document in (
        ("/openapi.json", as_json),
        ("/openapi.yaml", as_yaml),
        ("/asyncapi.yaml", asynchronous),
    ):
        router.add_api_route(path, document.answer, methods=["GET"], response_class=Response)
    return router


def _yaml(document: dict[str, Any]) -> bytes:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, encoding="utf-8")
