"""The portal's files, served from the package: one route a file, so that all other paths stay 404."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources.abc import Traversable
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from hub.access.rules import ANYONE, rule

SUFFIXES = frozenset({".html", ".css", ".js", ".svg", ".png", ".ico", ".woff2", ".webmanifest"})
INDEX = "index.html"


def portal_router(folder: Traversable) -> APIRouter:
    """Routes for all files of the portal, `index.html` at `/`. Browsers ask each time whether a file has changed."""
    router = APIRouter(include_in_schema=False, dependencies=[rule(ANYONE)])
    files = StaticFiles(directory=str(folder))

    def serve(name: str) -> None:
        async def file(request: Request) -> Response:
            response = await files.get_response(name, request.scope)
            response.headers["Cache-Control"] = "no-cache"
            return response

        for path in (f"/{name}", "/") if name == INDEX else (f"/{name}",):
            router.add_api_route(path, file, methods=["GET", "HEAD"], name=f"portal:{path}")

    for name in _names(Path(str(folder))):
        serve(name)
    return router


def _names(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in SUFFIXES:
            yield path.relative_to(folder).as_posix()
