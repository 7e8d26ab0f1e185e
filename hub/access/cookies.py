"""Session cookies, and the guard against other sites using them.

`access_token` and `refresh_token` are HttpOnly; `csrf_token` can be read by our pages' scripts. A request that changes
something and is authenticated by a cookie must come from a known origin and repeat `csrf_token` in `X-CSRF-Token`.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from hub.access.tokens import new_token
from hub.errors import forbidden
from hub.settings import HubSettings

ACCESS_COOKIE = "access_token"
REFRESH_COOKIE = "refresh_token"
CSRF_COOKIE = "csrf_token"
CSRF_HEADER = "x-csrf-token"
REFRESH_PATH = "/auth"
"""The refresh token travels to these paths only."""

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_EXEMPT_PATHS = frozenset({"/auth/login", "/auth/register", "/auth/refresh"})
_DEFAULT_PORTS = {"http": 80, "https": 443}


def set_session(response: Response, settings: HubSettings, access_token: str, refresh_token: str) -> None:
    """Give the browser its session."""
    refresh_s = settings.refresh_token_days * 86_400
    secure = settings.secure_cookies
    for name, value, age_s, path, httponly in (
        (ACCESS_COOKIE, access_token, settings.access_token_s, "/", True),
        (REFRESH_COOKIE, refresh_token, refresh_s, REFRESH_PATH, True),
        (CSRF_COOKIE, new_token(), refresh_s, "/", False),
    ):
        response.set_cookie(name, value, max_age=age_s, path=path, secure=secure, httponly=httponly, samesite="lax")


def clear_session(response: Response, settings: HubSettings) -> None:
    """Take the browser's session away."""
    for name, path in ((ACCESS_COOKIE, "/"), (REFRESH_COOKIE, REFRESH_PATH), (CSRF_COOKIE, "/")):
        response.delete_cookie(name, path=path, secure=settings.secure_cookies, httponly=name != CSRF_COOKIE)


class CsrfGuard:
    """Middleware that refuses what another site may have made a browser send."""

    def __init__(self, app: ASGIApp, *, origins: Iterable[str]) -> None:
        self._app = app
        self._origins = frozenset(filter(None, map(normal_origin, origins)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._check(Request(scope))
        await self._app(scope, receive, send)

    def _check(self, request: Request) -> None:
        """Raises: Problem 403."""
        if request.method in _SAFE_METHODS or "authorization" in request.headers:
            return
        cookies = request.cookies
        if request.url.path in _EXEMPT_PATHS or not (ACCESS_COOKIE in cookies or REFRESH_COOKIE in cookies):
            return
        if not self._is_known(request):
            raise forbidden("this origin may not use the session", code="origin_refused")
        expected, given = cookies.get(CSRF_COOKIE, ""), request.headers.get(CSRF_HEADER, "")
        if not expected or not hmac.compare_digest(expected.encode(), given.encode()):
            raise forbidden("X-CSRF-Token must repeat the cookie csrf_token", code="csrf_failed")

    def _is_known(self, request: Request) -> bool:
        """Whether the page is one of ours: of a configured address, or of the one that the request itself is for.

        A browser sets Origin and Host itself, so that a page elsewhere cannot make them agree.
        """
        origin = normal_origin(request.headers.get("origin", ""))
        if not origin:
            return False
        return origin in self._origins or origin == normal_origin(f"{request.url.scheme}://{request.url.netloc}")


def normal_origin(url: str) -> str:
    """Scheme, host and port of a URL as browsers write an origin; empty if it has none."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        return ""
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        return ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    shown = "" if port is None or port == _DEFAULT_PORTS[parts.scheme] else f":{port}"
    return f"{parts.scheme}://{host}{shown}"
