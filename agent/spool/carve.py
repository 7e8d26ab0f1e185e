"""Batches straight from the bytes of a database file, for when its trees cannot be walked any more.

A batch is found by its magic and proven by its checksum. What does not fit a page SQLite continues on overflow pages
(https://www.sqlite.org/fileformat2.html, "Cell Payload Overflow Pages"): with U usable bytes a page and P bytes of
payload, a leaf keeps K = M + (P - M) mod (U - 4) of them, or M where K > U - 35, with M = (U - 12) * 32 / 255 - 23;
then follows the number of the first overflow page, which begins with the number of the next.
"""

from __future__ import annotations

import contextlib
import mmap
import re
from collections.abc import Iterator
from pathlib import Path

from shared.errors import WireError
from shared.wire import BATCH_BYTES_MAX, CHECKSUM_BYTES, HEADER, MAGIC, VERSIONS, read_header

_MAGIC = re.compile(rb"|".join(re.escape(MAGIC + bytes((version,))) for version in VERSIONS))
_PAGE_SIZE_DEFAULT = 4096

Bytes = mmap.mmap | bytes


def carve(path: Path) -> Iterator[bytes]:
    """Every sound batch in a file, also those that had been deleted; each as often as it is found."""
    yield from carve_log(path, path)


def carve_log(log: Path, database: Path) -> Iterator[bytes]:
    """The same for a write-ahead log whose pages, as far as they are sound, have been merged into the file: batches on
    its other pages, continued on pages of the file."""
    if not (log.is_file() and database.is_file()):
        return
    with _mapped(log) as data, _mapped(database) as pages:
        page_size = _page_size(pages)
        for found in _MAGIC.finditer(data):
            batch = _at(data, found.start(), pages, page_size)
            if batch is not None:
                yield batch


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[Bytes]:
    if path.stat().st_size == 0:  # which cannot be mapped
        yield b""
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


def _page_size(data: Bytes) -> int:
    size = int.from_bytes(data[16:18], "big")
    size = 65536 if size == 1 else size
    return size if 512 <= size <= 65536 and size & (size - 1) == 0 else _PAGE_SIZE_DEFAULT


def _at(data: Bytes, start: int, pages: Bytes, page_size: int) -> bytes | None:
    length = int.from_bytes(data[start + 4 : start + 8], "little")
    if not HEADER.size + CHECKSUM_BYTES <= length <= BATCH_BYTES_MAX:
        return None
    for candidate in (data[start : start + length], _with_overflow(data, start, length, pages, page_size)):
        try:
            read_header(candidate)
        except WireError:
            continue
        return candidate
    return None


def _with_overflow(data: Bytes, start: int, length: int, pages: Bytes, page_size: int) -> bytes:
    """The beginning at `start` and the overflow pages behind it, as far as they lead."""
    record_header = 2 + _varint_bytes(12 + 2 * length)
    payload = record_header + length
    least = (page_size - 12) * 32 // 255 - 23
    local = least + (payload - least) % (page_size - 4)
    local = (local if local <= page_size - 35 else least) - record_header
    if local <= 0:
        return b""
    parts = [data[start : start + local]]
    left = length - local
    page = int.from_bytes(data[start + local : start + local + 4], "big")
    while left > 0 and 0 < page <= len(pages) // page_size:
        begin = (page - 1) * page_size
        parts.append(pages[begin + 4 : begin + min(page_size, left + 4)])
        left -= page_size - 4
        page = int.from_bytes(pages[begin : begin + 4], "big")
    return b"".join(parts)


def _varint_bytes(value: int) -> int:
    return max((value.bit_length() + 6) // 7, 1)
