"""The answer that carries a content, or a part of it: streamed; a whole one is checked while it goes out."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from urllib.parse import quote

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hub.errors import Problem
from hub.runs.artifacts.byte_range import Part
from hub.runs.artifacts.contents import ContentMissing, Contents
from hub.runs.artifacts.transfer import ContentDamaged, digest_of_checksum, verified
from hub.runs.store import Row
from shared.errors import ContentsUnavailable

SEND_TIMEOUT_S = 60.0
"""A client that takes nothing for this long is given up."""
MEDIA_TYPE = "application/octet-stream"
"""Of every content, whatever its uploader says that it is: no browser is to take it for a page of ours."""
_NOT_PLAIN = re.compile(r"[^ !#$&\'()+,.0-9;=@A-Z\[\]^_`a-z{}~-]")
"""What some client might not take in a file name between quotes."""

log = logging.getLogger(__name__)


class ContentResponse(Response):
    """Answers with a content, whose first chunk is read before the answer begins; a `HEAD` with its headers alone.

    Args:
        part: None for the whole.
    """

    def __init__(self, contents: Contents, row: Row, part: Part | None = None) -> None:
        self._contents = contents
        self._row = row
        self._part = part
        length = part.end - part.start if part is not None else row["size"]
        headers = {
            "Accept-Ranges": "bytes",
            "Content-Length": str(length),
            "Content-Disposition": disposition(row["name"] or str(row["id"])),
            "Content-Security-Policy": "sandbox; default-src 'none'",
            "ETag": content_etag(row),
            "Repr-Digest": digest_of_checksum(row["checksum"]),
        }
        if part is not None:
            headers["Content-Range"] = part.header
        super().__init__(status_code=200 if part is None else 206, headers=headers, media_type=MEDIA_TYPE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the content. Raises, before the answer has begun: Problem 404, 500, 503; ContentsUnavailable."""
        if scope["method"] == "HEAD":
            await self._begin(send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        with self._contents.transfer():
            chunks = self._chunks()
            first = await self._first(chunks)
            try:
                await self._begin(send)
                await _send(send, first)
                async for chunk in chunks:
                    await _send(send, chunk)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            except (ContentDamaged, ContentsUnavailable, TimeoutError) as error:
                # Returning without the last part makes the server cut the connection.
                reason = str(error) or type(error).__name__
                log.error("event=download_broken artifact=%s error=%r", self._row["id"], reason)

    def _chunks(self) -> AsyncIterator[bytes]:
        """What is sent. Only the whole can be compared with what was uploaded."""
        row, part = self._row, self._part
        if part is not None:
            return self._contents.read(row["content_key"], part.end, start=part.start)
        return verified(self._contents.read(row["content_key"], row["size"]), row["checksum"])

    async def _begin(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})

    async def _first(self, chunks: AsyncIterator[bytes]) -> bytes:
        """Raises: Problem 404, 500; ContentsUnavailable."""
        try:
            return await anext(chunks, b"")
        except (ContentMissing, ContentDamaged) as error:
            log.error("event=content_lost artifact=%s error=%r", self._row["id"], str(error))
            if isinstance(error, ContentMissing):
                raise Problem(404, "the store lacks the content of this artifact", code="content_missing") from None
            raise Problem(500, error.message, code="content_damaged") from None


def content_etag(row: Row) -> str:
    """What stands for the content of an artifact that has one."""
    return f'"{row["checksum"]}"'


def disposition(name: str) -> str:
    """The header that names the file, for clients that know RFC 8187 and, in plain letters, for those that do not."""
    plain = _NOT_PLAIN.sub("_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


async def _send(send: Send, chunk: bytes) -> None:
    async with asyncio.timeout(SEND_TIMEOUT_S):
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
