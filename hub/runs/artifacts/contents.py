"""Contents of artifacts, in a folder or in a bucket of an S3-compatible store.

- Each upload is written under a key of its own, drawn at random, and never changed: `xy/<32 hex digits>`, where `xy`
  are the last two.
- A content is there whole or not at all. A folder holds it as `<key>#1` until it is complete; a bucket takes it as a
  multipart upload.
- A content in a folder is on the disk before `write` returns.
- What no artifact names (an upload that a crash cut off from its row, what belonged to a run that was deleted) is
  removed by `hub.runs.artifacts.orphans`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from hub.database.ids import uuid7
from hub.errors import Problem
from hub.settings import HubSettings, read_secret
from shared.errors import ConfigurationError, ContentsUnavailable

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Config

PART_BYTES = 8 * 1024 * 1024
"""What a store is sent at a time; a bucket takes 10,000 parts at most."""
READ_BYTES = 4 * 1024 * 1024
_PARTS_CONCURRENT = 2
_KEYS_AT_ONCE = 1000
_RETRIES_MAX = 4

log = logging.getLogger(__name__)


class ContentMissing(ContentsUnavailable):
    """The store does not have what an artifact says it has."""

    retryable = False


class Contents:
    """The store.

    Args:
        folder: where it is, if it is a folder.
        timeout_s: for each request to it.
        transfers_max: contents on their way at the same time.
    """

    def __init__(
        self, store: LocalStore | S3Store, *, folder: Path | None, timeout_s: float, transfers_max: int
    ) -> None:
        self._store = store
        self._folder = folder
        self._timeout_s = timeout_s
        self._transfers_max = transfers_max
        self._transfers = 0

    @contextmanager
    def transfer(self) -> Iterator[None]:
        """Around one upload or download. Raises: Problem 503 when too many are on their way."""
        if self._transfers >= self._transfers_max:
            raise Problem(503, "too many contents on their way at once", headers={"Retry-After": "2"})
        self._transfers += 1
        try:
            yield
        finally:
            self._transfers -= 1

    async def write(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        """Keep a content. Nothing of it stays if the chunks end with an error, which is passed on.

        Raises: ContentsUnavailable.
        """
        with _translated():
            await obstore.put_async(self._store, key, chunks, chunk_size=PART_BYTES, max_concurrency=_PARTS_CONCURRENT)
            if self._folder is not None:
                await asyncio.to_thread(_sync, self._folder, key)

    async def read(self, key: str, end: int, *, start: int = 0) -> AsyncIterator[bytes]:
        """A content's bytes from `start` up to, but not with, `end`, in chunks of `READ_BYTES` at most.

        Raises: ContentMissing, ContentsUnavailable.
        """
        for at in range(start, end, READ_BYTES):
            length = min(READ_BYTES, end - at)
            with _translated():
                async with asyncio.timeout(self._timeout_s):
                    chunk = await obstore.get_range_async(self._store, key, start=at, length=length)
            yield chunk.to_bytes()

    async def remove(self, keys: Sequence[str]) -> None:
        """Forget contents; those that are not there, too. Raises: ContentsUnavailable."""
        for key in keys:
            with _translated():
                try:
                    async with asyncio.timeout(self._timeout_s):
                        await obstore.delete_async(self._store, key)
                except FileNotFoundError:
                    continue

    async def older_than(self, moment: datetime) -> AsyncIterator[list[str]]:
        """All keys of contents from before this moment, some at a time. Raises: ContentsUnavailable."""
        listing = aiter(obstore.list(self._store, chunk_size=_KEYS_AT_ONCE))
        while True:
            with _translated():
                try:
                    async with asyncio.timeout(self._timeout_s):
                        batch = await anext(listing)
                except StopAsyncIteration:
                    return
            yield [meta["path"] for meta in batch if meta["last_modified"] < moment]

    async def remove_unfinished(self, before: datetime) -> int:
        """Remove what crashes have left in a folder half written before this moment; a bucket does that by a rule.

        Returns: how many files.
        """
        if self._folder is None:
            return 0
        with _translated():
            return await asyncio.to_thread(_remove_unfinished, self._folder, before)


def new_key() -> str:
    """A key for a new content."""
    digits = uuid7().hex
    return f"{digits[-2:]}/{digits}"


def open_contents(settings: HubSettings) -> Contents | None:
    """The store that the settings name, if they name one. Raises: ConfigurationError."""
    if settings.artifacts_bucket:
        store: LocalStore | S3Store = _bucket(settings)
    elif settings.artifacts_dir is not None:
        store = _local(settings.artifacts_dir)
    else:
        return None
    return Contents(
        store,
        folder=settings.artifacts_dir,
        timeout_s=settings.artifacts_timeout_s,
        transfers_max=settings.artifact_transfers_max,
    )


def _local(folder: Path) -> LocalStore:
    try:
        return LocalStore(folder, mkdir=True)
    except (BaseError, OSError, ValueError) as error:
        message = f"cannot keep artifacts in {folder}: {_first_line(error)}"
        raise ConfigurationError(message, key=("artifacts_dir",)) from None


def _bucket(settings: HubSettings) -> S3Store:
    timeout = timedelta(seconds=settings.artifacts_timeout_s)
    endpoint = settings.artifacts_endpoint.rstrip("/")
    config: S3Config = {"bucket": settings.artifacts_bucket, "region": settings.artifacts_region}
    if endpoint:
        config |= {"endpoint": endpoint, "virtual_hosted_style_request": False}
    if settings.artifacts_access_key_file is not None and settings.artifacts_secret_key_file is not None:
        config |= {
            "access_key_id": read_secret(settings.artifacts_access_key_file).get_secret_value(),
            "secret_access_key": read_secret(settings.artifacts_secret_key_file).get_secret_value(),
        }
    client: ClientConfig = {"timeout": timeout, "connect_timeout": timeout, "allow_http": endpoint.startswith("http:")}
    try:
        if settings.artifacts_ca_file is not None:
            client |= {"root_certificate": settings.artifacts_ca_file.read_bytes()}
        return S3Store(
            prefix=settings.artifacts_prefix or None,
            config=config,
            client_options=client,
            retry_config={"max_retries": _RETRIES_MAX, "retry_timeout": timeout},
        )
    except (BaseError, OSError, ValueError) as error:
        raise ConfigurationError(f"cannot use the bucket: {_first_line(error)}", key=("artifacts_bucket",)) from None


@contextmanager
def _translated() -> Iterator[None]:
    """Turn errors of the store into ours. What its caller's chunks raise passes as it is."""
    try:
        yield
    except FileNotFoundError as error:
        raise ContentMissing(f"the store of artifacts lacks a content: {_first_line(error)}") from None
    except (BaseError, OSError) as error:  # TimeoutError is one
        raise ContentsUnavailable(f"the store of artifacts is not available: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    """What the store says, without the debugging output below."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _sync(folder: Path, key: str) -> None:
    """See that the file and its names are on the disk."""
    file = folder / key
    for path in (file, file.parent, folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_unfinished(folder: Path, before: datetime) -> int:
    removed = 0
    for file in _unfinished(folder):
        try:
            if datetime.fromtimestamp(file.stat().st_mtime, UTC) < before:
                file.unlink()
                removed += 1
        except FileNotFoundError:
            continue
        except OSError as error:  # another's, or no file: the others can go all the same
            log.warning("event=unfinished_left file=%s error=%r", file, str(error))
    return removed


def _unfinished(folder: Path) -> Iterable[Path]:
    return folder.glob("*/*#*")
