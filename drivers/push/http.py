"""`POST /` or `/push` over HTTP/1.1: strict, bounded, and nothing else of HTTP.

A body is JSON lines, one object or an array of objects, and is taken whole or not at all: 200 after the spool's commit,
400 for what cannot be understood, 413 for too much, 503 with Retry-After while acquisition is blocked. A page in a
browser must not feed a laboratory: requests with an Origin are refused, and on the loopback those for another Host.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from http import HTTPStatus

import msgspec

from drivers.push.connections import Connections, send
from drivers.push.device import Limits
from drivers.push.message import parse_body
from drivers.push.reception import Answer, Outcome, Reception
from shared.errors import LabrelayError

HEAD_BYTES_MAX = 16_384
HEADERS_MAX = 100
IDLE_TIMEOUT_S = 75.0
BODY_TIMEOUT_S = 30.0
RETRY_AFTER_S = 5
LOCAL_HOST = re.compile(r"(localhost|127\.[0-9.]+|\[::1\])(:[0-9]+)?", re.IGNORECASE)
_REQUEST_LINE = re.compile(r"([A-Z]+) (/[^ ]*) HTTP/1\.([01])")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")


class _Refused(Exception):
    """A request that is answered with an error; after most, nobody knows where the next one would begin."""

    def __init__(self, status: HTTPStatus, error: str, hint: str = "", *, close: bool = True) -> None:
        super().__init__(error)
        self.status = status
        self.answer = Answer(False, error, hint)
        self.close = close


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request; header names are in lower case."""

    method: str
    path: str
    keep_alive: bool
    headers: dict[str, str]


class _Taken(msgspec.Struct, frozen=True):
    ok: bool
    accepted: int


class HttpServer:
    """The HTTP side of a `push` device.

    Args:
        loopback: whether it is bound to the loopback alone.
    """

    def __init__(self, reception: Reception, limits: Limits, *, loopback: bool) -> None:
        self._reception = reception
        self._limits = limits
        self._loopback = loopback

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connections: Connections) -> None:
        """One connection, to its end."""
        while not connections.stopping:
            async with asyncio.timeout(IDLE_TIMEOUT_S):
                head = await _head(reader)
            if not head:
                return
            with connections.answering():
                keep_alive = await self._exchange(head, reader, writer)
                if not keep_alive:
                    return

    async def _exchange(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            request = parse_head(head)
            length = self._checked_length(request)
            if request.headers.get("expect", "").lower() == "100-continue":
                await send(writer, b"HTTP/1.1 100 Continue\r\n\r\n")
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await reader.readexactly(length)
            status, answer = await self._take(body)
            keep_alive = request.keep_alive
        except _Refused as refusal:
            status, answer, keep_alive = refusal.status, msgspec.json.encode(refusal.answer), not refusal.close
        await send(writer, response(status, answer, keep_alive=keep_alive))
        return keep_alive

    def _checked_length(self, request: Request) -> int:
        headers = request.headers
        if "origin" in headers:
            raise _Refused(HTTPStatus.FORBIDDEN, "pages in a browser may not push")
        if self._loopback and not LOCAL_HOST.fullmatch(headers.get("host", "localhost")):
            raise _Refused(HTTPStatus.FORBIDDEN, "this is not the host that was asked for", "use 127.0.0.1")
        if request.path.partition("?")[0] not in ("/", "/push"):
            raise _Refused(HTTPStatus.NOT_FOUND, "nothing here", "POST to / or /push")
        if request.method != "POST":
            raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED, "only POST is understood")
        if "transfer-encoding" in headers or not headers.get("content-length", "").isdecimal():
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "no Content-Length", "send the body whole, not in chunks")
        length = int(headers["content-length"][:20])
        if length > self._limits.body_bytes_max:
            text = f"a body of {length} bytes, at most {self._limits.body_bytes_max} are taken"
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text, "body_bytes_max; send it in parts")
        return length

    async def _take(self, body: bytes) -> tuple[HTTPStatus, bytes]:
        try:
            said = [self._reception.known(entries) for entries in parse_body(body)]
        except LabrelayError as error:
            return HTTPStatus.BAD_REQUEST, msgspec.json.encode(self._reception.refuse(error))
        entries = [entry for some in said for entry in some]
        outcome, answer = await self._reception.store(entries)
        if outcome is Outcome.STORED:
            return HTTPStatus.OK, msgspec.json.encode(_Taken(True, len(entries)))
        return HTTPStatus.SERVICE_UNAVAILABLE, msgspec.json.encode(answer)


async def _head(reader: asyncio.StreamReader) -> bytes:
    """The next request's head, empty when there is none; a limit's worth of it when it is too long."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        return error.partial.strip()
    except asyncio.LimitOverrunError:
        return await reader.read(HEAD_BYTES_MAX + 1)


def parse_head(head: bytes) -> Request:
    """The request that these bytes are the head of. Raises: _Refused."""
    if len(head) > HEAD_BYTES_MAX:
        raise _Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too long a head")
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    found = _REQUEST_LINE.fullmatch(first)
    if found is None or len(lines) > HEADERS_MAX:
        raise _Refused(HTTPStatus.BAD_REQUEST, "this is no HTTP/1.1 request")
    headers: dict[str, str] = {}
    for line in lines:
        field = _HEADER.fullmatch(line)
        if field is None:
            raise _Refused(HTTPStatus.BAD_REQUEST, "a header that is none")
        name = field.group(1).lower()
        if name in headers and name in ("content-length", "host", "transfer-encoding"):
            raise _Refused(HTTPStatus.BAD_REQUEST, f"{name} twice")
        headers[name] = field.group(2)
    connection = headers.get("connection", "").lower()
    newest = found.group(3) == "1"
    keep_alive = "close" not in connection if newest else "keep-alive" in connection
    return Request(found.group(1), found.group(2), keep_alive, headers)


def response(status: HTTPStatus, body: bytes, *, keep_alive: bool) -> bytes:
    """A whole response."""
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Content-Type: application/json",
        f"Content-Length: {len(body) + 1}",
        f"Connection: {'keep-alive' if keep_alive else 'close'}",
    ]
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        lines.append(f"Retry-After: {RETRY_AFTER_S}")
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: POST")
    return "\r\n".join([*lines, "", ""]).encode() + body + b"\n"


BUSY = response(
    HTTPStatus.SERVICE_UNAVAILABLE,
    msgspec.json.encode(Answer(False, "too many connections", "close some, or raise connections_max")),
    keep_alive=False,
)
