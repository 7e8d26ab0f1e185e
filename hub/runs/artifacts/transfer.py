"""A content on its way: measured and checked as it comes in, and again as it goes out.

What comes in is checked before its last byte is kept, so that a content which is not what the client meant never is in
the store. What goes out is checked before its last bytes are sent: the client of a damaged one finds it short.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.requests import ClientDisconnect

from hub.errors import Problem, invalid
from hub.runs.artifacts.contents import Contents, new_key
from shared.errors import ContentsUnavailable, StorageError

log = logging.getLogger(__name__)


class ContentDamaged(StorageError):
    """A content is not the one that was kept."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a content should be, as far as the client has said.

    Attributes:
        checksums: SHA-256 in hexadecimal digits, by the name of the field that says so.
        size: in bytes.
    """

    checksums: dict[str, str]
    size: int | None


@dataclass(frozen=True, slots=True)
class Received:
    """A content that is in the store.

    Attributes:
        checksum: SHA-256 in hexadecimal digits.
        size: in bytes.
    """

    key: str
    checksum: str
    size: int


async def receive(contents: Contents, body: AsyncIterator[bytes], expected: Expected) -> Received:
    """Keep what a client sends, if it is what the client says; else nothing of it.

    Raises: Problem 422 that names the field, 400 when the client leaves, 503; ContentsUnavailable.
    """
    key, digest, size = new_key(), hashlib.sha256(), 0

    async def checked() -> AsyncIterator[bytes]:
        nonlocal size
        try:
            async for chunk in body:
                digest.update(chunk)
                size += len(chunk)
                if chunk:
                    yield chunk
        except ClientDisconnect:
            raise Problem(400, "the body ended early") from None
        _check(expected, digest.hexdigest(), size)

    with contents.transfer():
        await contents.write(key, checked())
    return Received(key, digest.hexdigest(), size)


async def verified(chunks: AsyncIterator[bytes], checksum: str) -> AsyncIterator[bytes]:
    """The same chunks, the last one only if all together have this SHA-256. Raises: ContentDamaged."""
    digest, last = hashlib.sha256(), b""
    async for chunk in chunks:
        if last:
            yield last
        digest.update(chunk)
        last = chunk
    if digest.hexdigest() != checksum:
        raise ContentDamaged("the content is not the one that was uploaded", hint="upload it again")
    if last:
        yield last


async def discard(contents: Contents | None, key: str | None) -> None:
    """Forget a content that no artifact names any more; if the store is away, upkeep does it later."""
    if contents is None or key is None:
        return
    try:
        await contents.remove([key])
    except ContentsUnavailable as error:
        log.warning("event=content_left key=%s error=%r", key, str(error))


def checksum_of_digest(header: str) -> str | None:
    """The SHA-256 that a `Content-Digest` header gives (RFC 9530), in hexadecimal digits; None if it gives none.

    Raises: Problem 422.
    """
    for part in header.split(","):
        algorithm, _, value = part.strip().partition("=")
        if algorithm.strip().lower() != "sha-256":
            continue
        try:
            digest = base64.b64decode(value.strip().removeprefix(":").removesuffix(":"), validate=True)
        except (binascii.Error, ValueError):
            digest = b""
        if len(digest) != hashlib.sha256().digest_size:
            raise invalid("Content-Digest", "sha-256 must be 32 bytes in base64 between colons")
        return digest.hex()
    return None


def digest_of_checksum(checksum: str) -> str:
    """The header's value that says a SHA-256 (RFC 9530)."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(checksum)).decode()}:"


def _check(expected: Expected, checksum: str, size: int) -> None:
    if expected.size is not None and size != expected.size:
        raise invalid("size", f"the content has {size} bytes, not {expected.size}")
    for field, wanted in expected.checksums.items():
        if wanted != checksum:
            raise invalid(field, f"the content's SHA-256 is {checksum}, not {wanted}")
