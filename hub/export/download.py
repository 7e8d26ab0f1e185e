"""A file that is sent while its rows are read: one query, a cursor at the server, a bounded batch at a time.

The file shows one moment, whatever is changed while it is sent. Memory does not depend on its length. The first rows
are read before the answer begins, so that what is wrong by then is answered as any other error. What breaks off later
breaks the connection off: the answer is never ended in good order, so that a client sees that its file is not whole (an
incomplete chunked body; curl: exit code 18) rather than a shorter one. Without its end, JSON is not valid either.

Each download holds a connection to the database and keeps the server from cleaning up, so their number is bounded, and
so is how long a client may take: `SEND_TIMEOUT_S` for a part, `DURATION_S_MAX` for all.
"""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hub.database.pool import Connection, Pool, transaction
from hub.errors import Problem
from hub.export.formats import ExportFormat, Sheet, new_encoder
from shared.errors import LabrelayError

BATCH_ROWS = 100
PART_BYTES = 1 << 16
SEND_TIMEOUT_S = 20.0
DURATION_S_MAX = 3600.0
RETRY_AFTER_S = 10

log = logging.getLogger(__name__)


class Exports:
    """The downloads under way.

    Args:
        at_once_max: how many there may be.
    """

    def __init__(self, at_once_max: int) -> None:
        self.at_once_max = at_once_max
        self._under_way = 0

    @property
    def under_way(self) -> int:
        """How many there are."""
        return self._under_way

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Room for one more. Raises: Problem 503."""
        if self._under_way >= self.at_once_max:
            raise Problem(
                503,
                f"{self._under_way} exports are under way already; try again later",
                code="too_many_exports",
                headers={"Retry-After": str(RETRY_AFTER_S)},
            )
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1


@dataclass(frozen=True, slots=True)
class Query:
    """What a file is read from.

    Attributes:
        text: a `select` that gives the sheet's columns.
    """

    text: str
    arguments: tuple[object, ...]


class ClientStalled(LabrelayError):
    """A client that takes nothing of its file any more."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """A stretch of a file, and how many rows it has."""

    content: bytes
    rows: int = 0


class FileAnswer(Response):
    """Answers with a file that is made while it is sent.

    Args:
        name: of the file, before the moment and the ending.
        now: for the file's name.
    """

    def __init__(
        self, exports: Exports, pool: Pool, *, name: str, media_type: str, kind: ExportFormat, now: datetime
    ) -> None:
        self._exports, self._pool = exports, pool
        self._file_name = f"{name}-{now:%Y%m%dT%H%M%SZ}.{kind}"
        headers = {"Content-Disposition": f'attachment; filename="{self._file_name}"'}
        super().__init__(headers=headers, media_type=media_type)
        del self.headers["content-length"]

    @abstractmethod
    def parts(self, connection: Connection) -> AsyncGenerator[FilePart, None]:
        """The file from its beginning to its end, as an async generator; each part of bounded size.

        What it raises before its first part is answered as any other error.

        Args:
            connection: in a transaction that reads one moment.
        """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file. Raises, before the answer has begun: Problem, StorageUnavailable, UnstorableValue."""
        outlet = _Outlet(send, Request(scope, receive))
        try:
            with self._exports.slot():
                async with asyncio.timeout(DURATION_S_MAX):
                    await self._send(outlet)
        except (LabrelayError, TimeoutError) as error:
            if not outlet.begun:
                raise
            # Returning without the last part makes the server cut the connection.
            log.warning("event=export_broken file=%s rows=%d reason=%r", self._file_name, outlet.rows, str(error))

    async def _send(self, outlet: _Outlet) -> None:
        async with (
            transaction(self._pool, isolation="repeatable_read", readonly=True) as connection,
            aclosing(self.parts(connection)) as parts,
        ):
            async for part in parts:
                if not outlet.begun:
                    await outlet.begin(self.status_code, self.raw_headers)
                await outlet.add(part.content, rows=part.rows)
                if part.rows and await outlet.abandoned():
                    log.info("event=export_abandoned file=%s rows=%d", self._file_name, outlet.rows)
                    return
        await outlet.end()


class Download(FileAnswer):
    """Answers with the rows of one query.

    Args:
        now: for the file's name.
    """

    def __init__(
        self, exports: Exports, pool: Pool, query: Query, sheet: Sheet, kind: ExportFormat, now: datetime
    ) -> None:
        self._query = query
        self._encoder = new_encoder(kind, sheet)
        super().__init__(exports, pool, name=sheet.name, media_type=self._encoder.media_type, kind=kind, now=now)

    async def parts(self, connection: Connection) -> AsyncGenerator[FilePart, None]:
        """All that a cursor at the server gives."""
        cursor = await connection.cursor(self._query.text, *self._query.arguments)
        batch = await cursor.fetch(BATCH_ROWS)
        yield FilePart(self._encoder.head())
        while batch:
            yield FilePart(self._encoder.rows(batch), len(batch))
            batch = await cursor.fetch(BATCH_ROWS)
        yield FilePart(self._encoder.tail())


@dataclass(slots=True)
class _Outlet:
    """Where a file goes out, in parts of `PART_BYTES`."""

    send: Send
    request: Request
    begun: bool = False
    rows: int = 0
    waiting: bytearray = field(default_factory=bytearray)

    async def begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.begun = True
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def add(self, part: bytes, *, rows: int = 0) -> None:
        """Raises: ClientStalled."""
        self.rows += rows
        self.waiting += part
        while len(self.waiting) >= PART_BYTES:
            first = bytes(self.waiting[:PART_BYTES])
            del self.waiting[:PART_BYTES]
            await self._send(first, more=True)

    async def end(self) -> None:
        """Raises: ClientStalled."""
        await self._send(bytes(self.waiting), more=False)

    async def abandoned(self) -> bool:
        """Whether the client has gone."""
        return await self.request.is_disconnected()

    async def _send(self, part: bytes, *, more: bool) -> None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self.send({"type": "http.response.body", "body": part, "more_body": more})
        except TimeoutError:
            raise ClientStalled(f"the client took nothing for {SEND_TIMEOUT_S:g} s") from None
