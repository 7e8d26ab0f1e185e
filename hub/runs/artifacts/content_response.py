"""The answer that carries a content: streamed, and checked while it goes out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from urllib.parse import quote

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hub.errors import Problem
from hub.runs.artifacts.contents import ContentMissing, Contents
from hub.runs.artifacts.transfer import ContentDamaged, digest_of_checksum, verified
from hub.runs.store import Row
from shared.errors import ContentsUnavailable

SEND_TIMEOUT_S = 60.0
"""A client that takes nothing for this long is given up."""
MEDIA_TYPE = "application/octet-stream"
"""Of every content, whatever its uploader says that it is: no browser is to take it for a page of ours."""

log = logging.getLogger(__name__)


class ContentResponse(Response):
    """Answers with a content, whose first chunk is read before the answer begins."""

    def __init__(self, contents: Contents, row: Row) -> None:
        self._contents = contents
        self._row = row
        name = row["name"] or str(row["id"])
        headers = {
            "Content-Length": str(row["size"]),
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
            "Content-Security-Policy": "sandbox; default-src 'none'",
            "ETag": f'"{row["checksum"]}"',
            "Repr-Digest": digest_of_checksum(row["checksum"]),
        }
        super().__init__(headers=headers, media_type=MEDIA_TYPE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the content. Raises, before the answer has begun: Problem 404, 500, 503; ContentsUnavailable."""
        row = self._row
        with self._contents.transfer():
            chunks = verified(self._contents.read(row["content_key"], row["size"]), row["checksum"])
            first = await self._first(chunks)
            try:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await _send(send, first)
                async for chunk in chunks:
                    await _send(send, chunk)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            except (ContentDamaged, ContentsUnavailable, TimeoutError) as error:
                # Returning without the last part makes the server cut the connection.
                log.error("event=download_broken artifact=%s error=%r", row["id"], str(error) or type(error).__name__)

    async def _first(self, chunks: AsyncIterator[bytes]) -> bytes:
        """Raises: Problem 404, 500; ContentsUnavailable."""
        try:
            return await anext(chunks, b"")
        except (ContentMissing, ContentDamaged) as error:
            log.error("event=content_lost artifact=%s error=%r", self._row["id"], str(error))
            if isinstance(error, ContentMissing):
                raise Problem(404, "the store lacks the content of this artifact", code="content_missing") from None
            raise Problem(500, error.message, code="content_damaged") from None


async def _send(send: Send, chunk: bytes) -> None:
    async with asyncio.timeout(SEND_TIMEOUT_S):
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
