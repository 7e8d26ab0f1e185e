"""What is done to files: bytes flipped, pages overwritten, disks filled."""

from __future__ import annotations

import contextlib
import mmap
import sqlite3
import struct
from collections.abc import Collection
from pathlib import Path
from random import Random

MAGIC = b"LRB\x01"
_DATA_KIND = 3
_HEADER_BYTES = 80
_KIND_AT, _LENGTH_AT, _IDENTITY_AT = 8, 4, 28
_IDENTITY = struct.Struct("<16sQ")
_FILL_BYTES = 1 << 20
_LOG_HEADER_BYTES, _FRAME_HEADER_BYTES = 32, 24


def flip_batches(spool: Path, random: Random, count: int, wanted: Collection[tuple[bytes, int]]) -> int:
    """Flip one bit inside some of the wanted batches of readings. The log is merged into the file first.

    Returns: how many were hit.
    """
    _merge_log(spool)
    places = [(at, size) for identity, at, size in _batches_in(spool) if identity in wanted]
    chosen = random.sample(places, min(count, len(places)))
    for at, size in chosen:
        with spool.open("r+b") as file:
            file.seek(at + _HEADER_BYTES + random.randrange(size - _HEADER_BYTES))
            byte = file.read(1)
            file.seek(-1, 1)
            file.write(bytes((byte[0] ^ 1 << random.randrange(8),)))
    return len(chosen)


def _batches_in(path: Path) -> list[tuple[tuple[bytes, int], int, int]]:
    """Epoch and seq of the data batches that lie in one piece, where they begin, and how long they are."""
    found: list[tuple[tuple[bytes, int], int, int]] = []
    if path.stat().st_size == 0:  # which cannot be mapped
        return found
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        at = view.find(MAGIC)
        while at >= 0:
            size = int.from_bytes(view[at + _LENGTH_AT : at + _LENGTH_AT + 4], "little")
            if size > _HEADER_BYTES and at + size <= len(view) and view[at + _KIND_AT] == _DATA_KIND:
                epoch, seq = _IDENTITY.unpack_from(view, at + _IDENTITY_AT)
                found.append(((epoch, seq), at, size))
            at = view.find(MAGIC, at + 1)
    return found


def flip_log(spool: Path, random: Random, count: int) -> int:
    """Flip one bit each in some frames of the write-ahead log, in their headers or pages.

    Returns: how many were hit.
    """
    log = spool.with_name(f"{spool.name}-wal")
    stride = _FRAME_HEADER_BYTES + _page_bytes(spool)
    frames = range(_LOG_HEADER_BYTES, log.stat().st_size - stride + 1, stride) if log.exists() else range(0)
    chosen = random.sample(frames, min(count, len(frames)))
    for frame in chosen:
        with log.open("r+b") as file:
            file.seek(frame + random.randrange(stride))
            byte = file.read(1)
            file.seek(-1, 1)
            file.write(bytes((byte[0] ^ 1 << random.randrange(8),)))
    return len(chosen)


def _page_bytes(spool: Path) -> int:
    """By the file's header (https://www.sqlite.org/fileformat2.html#page_size)."""
    with spool.open("rb") as file:
        size = int.from_bytes(file.read(18)[16:], "big")
    return 65536 if size == 1 else size


def overwrite_pages(spool: Path, random: Random) -> int:
    """Put noise on up to an eighth of the pages, the first one excepted: a file without a header is a lost disk, not a
    damaged one. The log is merged into the file first, so that it does not hide them.

    Returns: how many were hit.
    """
    _merge_log(spool)
    with contextlib.closing(sqlite3.connect(spool)) as db:
        size = db.execute("PRAGMA page_size").fetchone()[0]
    pages = spool.stat().st_size // size
    chosen = random.sample(range(1, pages), random.randint(1, max(pages // 8, 1)))
    with spool.open("r+b") as file:
        for page in chosen:
            file.seek(page * size)
            file.write(random.randbytes(size))
    return len(chosen)


def _merge_log(spool: Path) -> None:
    with contextlib.closing(sqlite3.connect(spool)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def fill(ballast: Path) -> None:
    """Take all the room that the disk has left."""
    with ballast.open("wb", buffering=0) as file:
        size = _FILL_BYTES
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2
