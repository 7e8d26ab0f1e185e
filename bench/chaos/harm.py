"""Which batches of a damaged spool nobody could read any more: those with a piece that is nowhere in its files.

SQLite cuts a row that is too long for its leaf into a local part and a chain of overflow pages, each of which begins
with the number of the next (https://www.sqlite.org/fileformat2.html#payload). A batch is beyond reading when one of
these pieces is neither in the file nor in the log as it was. No other may be given up as corrupt.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.chaos.damage import MAGIC
from bench.chaos.evidence import Evidence, Identity, copy_of
from shared.wire import Kind

_IDENTITY = struct.Struct("<16sQ")
_IDENTITY_AT = 28
_POINTER_BYTES = 4
_SAMPLE_BYTES = 24
_LOG_HEADER_BYTES, _FRAME_HEADER_BYTES = 32, 24
_ALL = """
SELECT e.epoch, b.seq, c.content FROM batches b JOIN epochs e ON e.ref = b.epoch JOIN contents c ON c.id = b.id
WHERE b.kind = ? AND b.id = ?
"""
_LAST_ID = "SELECT seq FROM sqlite_sequence WHERE name = 'batches'"


@contextlib.contextmanager
def noted(evidence: Evidence, spool: Path) -> Iterator[None]:
    """Around damage to a spool whose agent is down: what it harms is no loss of the product's."""
    evidence.look(spool, down=True)
    with copy_of(spool) as copied, contextlib.closing(sqlite3.connect(copied)) as db:
        whole = dict(_readable(db))
        page_bytes = db.execute("PRAGMA page_size").fetchone()[0]
    yield
    evidence.harmed |= beyond_reading(whole, pages_of(spool, page_bytes), page_bytes)
    evidence.reread(spool)


def _readable(db: sqlite3.Connection) -> Iterator[tuple[Identity, bytes]]:
    """The batches of readings, one by one: there may be damage from before that the agent has not come across."""
    last = db.execute(_LAST_ID).fetchone()
    for batch_id in range(1, (last[0] if last else 0) + 1):
        with contextlib.suppress(sqlite3.DatabaseError):
            for epoch, seq, content in db.execute(_ALL, (int(Kind.DATA), batch_id)):
                yield (bytes(epoch), seq), bytes(content)


def pages_of(spool: Path, page_bytes: int) -> list[bytes]:
    """All pages that the file and its log hold, whatever is said about them."""
    file = spool.read_bytes()
    pages = [file[at : at + page_bytes] for at in range(0, len(file), page_bytes)]
    log = spool.with_name(f"{spool.name}-wal")
    frames = log.read_bytes() if log.exists() else b""
    stride = _FRAME_HEADER_BYTES + page_bytes
    starts = range(_LOG_HEADER_BYTES + _FRAME_HEADER_BYTES, len(frames), stride)
    return pages + [frames[at : at + page_bytes] for at in starts]


def beyond_reading(whole: Mapping[Identity, bytes], pages: list[bytes], page_bytes: int) -> set[Identity]:
    """The batches that the pages do not hold any more.

    Args:
        whole: what they were.
    """
    heads: dict[Identity, list[bytes]] = {}
    chained: dict[bytes, list[bytes]] = {}
    for page in pages:
        chained.setdefault(page[_POINTER_BYTES : _POINTER_BYTES + _SAMPLE_BYTES], []).append(page)
        for found in re.finditer(re.escape(MAGIC), page):
            at = found.start() + _IDENTITY_AT
            if at + _IDENTITY.size <= len(page):
                epoch, seq = _IDENTITY.unpack_from(page, at)
                heads.setdefault((epoch, seq), []).append(page[found.start() :])
    return {
        identity
        for identity, content in whole.items()
        if not _is_there(*pieces(content, page_bytes), heads.get(identity, []), chained)
    }


def pieces(content: bytes, page_bytes: int) -> tuple[bytes, list[bytes]]:
    """How a row of `contents` lies in the file: the part of the blob in the leaf, and those in overflow pages."""
    head_bytes = 2 + len(_varint(2 * len(content) + 12))  # header's length, a NULL for the id, the blob's type
    payload = head_bytes + len(content)
    if payload <= page_bytes - 35:
        return content, []
    least = (page_bytes - 12) * 32 // 255 - 23
    local = least + (payload - least) % (page_bytes - _POINTER_BYTES)
    local = (local if local <= page_bytes - 35 else least) - head_bytes
    size = page_bytes - _POINTER_BYTES
    return content[:local], [content[at : at + size] for at in range(local, len(content), size)]


def _varint(number: int) -> bytes:
    parts = [number & 0x7F]
    while number := number >> 7:
        parts.append(number & 0x7F | 0x80)
    return bytes(reversed(parts))


def _is_there(local: bytes, chain: list[bytes], heads: list[bytes], chained: Mapping[bytes, list[bytes]]) -> bool:
    return any(page.startswith(local) for page in heads) and all(
        any(page.startswith(piece, _POINTER_BYTES) for page in _beginning(piece, chained)) for piece in chain
    )


def _beginning(piece: bytes, chained: Mapping[bytes, list[bytes]]) -> Iterator[bytes]:
    """Pages that begin as an overflow page with this piece would."""
    if len(piece) >= _SAMPLE_BYTES:
        yield from chained.get(piece[:_SAMPLE_BYTES], ())
        return
    for pages in chained.values():
        yield from pages
