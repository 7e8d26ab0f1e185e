"""What is done to every request: ids, limits, security headers, a log line, and an answer whatever happens.

`X-Request-Id` and `X-Trace-Id` are taken over where they are harmless, else drawn; `traceparent` (W3C) gives the trace
id where `X-Trace-Id` does not. Both are echoed and stand in every log line of the request.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub import logs
from hub.database.ids import uuid7
from hub.errors import Problem, problem_of, problem_response
from hub.metrics import Counter, Histogram, Metrics

log = logging.getLogger(__name__)

_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_QUIET = ("/health", "/metrics")

_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
}


class RequestContext:
    """Outermost of our middleware.

    Args:
        secure: whether the hub's public address is HTTPS, which browsers are then told to keep to.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics, secure: bool) -> None:
        self._app = app
        self._headers = dict(_SECURITY_HEADERS)
        if secure:
            self._headers["Strict-Transport-Security"] = "max-age=31536000"
        self._answers: Counter = metrics.counter(
            "labrelay_http_requests_total", "Requests answered, by class of status."
        )
        self._seconds: Histogram = metrics.histogram("labrelay_http_request_seconds", "Time until an answer began.")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send, self._headers)
        tokens = logs.request_id.set(exchange.request_id), logs.trace_id.set(exchange.trace_id)
        try:
            await self._app(scope, receive, exchange.send)
        except Exception as error:  # noqa: BLE001 - the edge: whatever happened is answered and logged here
            await self._answer(exchange, error, Request(scope), receive)
        finally:
            self._note(exchange)
            logs.request_id.reset(tokens[0])
            logs.trace_id.reset(tokens[1])

    async def _answer(self, exchange: _Exchange, error: Exception, request: Request, receive: Receive) -> None:
        problem = problem_of(error)
        if problem is None:
            log.error("event=request_failed method=%s path=%s", *exchange.named, exc_info=error)
            problem = Problem(500, "the hub made a mistake; its log has the details under this request id")
        if exchange.status:
            raise error
        await problem_response(problem, exchange.request_id)(request.scope, receive, exchange.send)

    def _note(self, exchange: _Exchange) -> None:
        began_s = exchange.began_s or time.monotonic()
        self._answers.add(status=f"{exchange.status // 100}xx")
        self._seconds.observe(began_s - exchange.started_s)
        quiet = exchange.path.startswith(_QUIET) and exchange.status < 500
        log.log(
            logging.DEBUG if quiet else logging.INFO,
            "event=request method=%s path=%s status=%d duration_ms=%.1f client=%s",
            *exchange.named,
            exchange.status,
            1000 * (time.monotonic() - exchange.started_s),
            exchange.client,
        )


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, send: Send, headers: dict[str, str]) -> None:
        given = Headers(scope=scope)
        self.request_id = _accepted(given.get("x-request-id")) or str(uuid7())
        self.trace_id = _accepted(given.get("x-trace-id")) or _of_traceparent(given.get("traceparent")) or uuid7().hex
        self.path: str = scope["path"]
        self.method: str = scope["method"]
        self.client: str = scope["client"][0] if scope.get("client") else "-"
        self.started_s = time.monotonic()
        self.began_s = 0.0
        self.status = 0
        self._send = send
        self._headers = headers
        scope.setdefault("state", {}).update(request_id=self.request_id, trace_id=self.trace_id)

    @property
    def named(self) -> tuple[str, str]:
        """Method and path for a log line."""
        return logs.quoted(self.method), logs.quoted(self.path[:500])

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.began_s = time.monotonic()
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self.request_id
            headers["X-Trace-Id"] = self.trace_id
            for name, value in self._headers.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
        await self._send(message)


@dataclass(frozen=True, slots=True)
class Uploads:
    """Requests whose bodies are read as they come, and may be larger than others.

    Attributes:
        path: of requests with this method.
    """

    path: re.Pattern[str]
    bytes_max: int
    method: str = "PUT"

    def take(self, scope: Scope) -> bool:
        """Whether a request is one of these."""
        return scope["method"] == self.method and self.path.fullmatch(scope["path"]) is not None


class BodyLimit:
    """Refuses bodies above the limit: by their declared length before reading, else as soon as they exceed it.

    Args:
        timeout_s: how long a client may pause within its body.
        uploads: which requests have another limit.
    """

    def __init__(self, app: ASGIApp, *, bytes_max: int, timeout_s: float, uploads: Sequence[Uploads] = ()) -> None:
        self._app = app
        self._bytes_max = bytes_max
        self._timeout_s = timeout_s
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        bytes_max = next((one.bytes_max for one in self._uploads if one.take(scope)), self._bytes_max)
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdigit() and (len(declared) > 18 or int(declared) > bytes_max):
            raise _too_large(bytes_max)
        received, complete = 0, False

        async def receive_bounded() -> Message:
            nonlocal received, complete
            message = await (receive() if complete else self._in_time(receive))
            received += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if received > bytes_max:
                raise _too_large(bytes_max)
            return message

        await self._app(scope, receive_bounded, send)

    async def _in_time(self, receive: Receive) -> Message:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await receive()
        except TimeoutError:
            detail = f"nothing of the body came for {self._timeout_s:g} s"
            raise HTTPException(408, detail, headers={"Connection": "close"}) from None


def _too_large(bytes_max: int) -> HTTPException:
    """The framework passes its own exception through the parsing of bodies, so it is used here."""
    detail = f"the body is larger than {bytes_max} bytes"
    return HTTPException(413, detail, headers={"Connection": "close"})


def _accepted(given: str | None) -> str:
    return given if given is not None and _ID.fullmatch(given) else ""


def _of_traceparent(given: str | None) -> str:
    found = _TRACEPARENT.fullmatch(given or "")
    return found.group(1) if found and set(found.group(1)) != {"0"} else ""
