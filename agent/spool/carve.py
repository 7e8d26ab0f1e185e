"""Batches straight from the bytes of a spool's files, for when their trees cannot be walked any more.

A batch is found by its magic and proven by its checksum. What does not fit a page SQLite continues on overflow pages
(https://www.sqlite.org/fileformat2.html, "Cell Payload Overflow Pages"): with U usable bytes a page and P bytes of
payload, a leaf keeps K = M + (P - M) mod (U - 4) of them, or M where K > U - 35, with M = (U - 12) * 32 / 255 - 23;
then follows the number of the first overflow page, which begins with the number of the next.

Of each of these pages there may be several copies (agent.spool.copies), of which one or the other has rotted or is of
another time. They are tried until the checksum fits: first the likeliest of each page, then with one of another place,
then with two. So a batch is found when of each of its pages one copy is left that is whole.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Container, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from agent.spool.copies import Copies, Source
from shared.errors import WireError
from shared.wire import BATCH_BYTES_MAX, CHECKSUM_BYTES, HEADER, MAGIC, VERSIONS, read_header

TRIED_MAX = 20_000
"""Overflow pages that are tried for one beginning of a batch."""
TRIED_IN_ALL_MAX = 2_000_000
"""For all together, some ten seconds; then only the likeliest copy of each page is."""

_MAGIC = re.compile(rb"|".join(re.escape(MAGIC + bytes((version,))) for version in VERSIONS))
_IDENTITY = struct.Struct("<28x16sQ")


def carve(database: Path, known: Container[tuple[bytes, int]]) -> Iterator[bytes]:
    """Every sound batch in a spool's file, in its log and among what merging has overwritten, also those that had been
    deleted; perhaps more than once.

    Args:
        known: epoch and seq of those that are not looked for; may grow on the way.

    Raises: OSError.
    """
    with ExitStack() as stack:
        copies = Copies(database, stack)
        search = _Search(copies)
        for source in (copies.database, copies.before, copies.log):
            for found in _MAGIC.finditer(source.data):
                beginning = _beginning(source, found.start())
                if beginning is not None and _IDENTITY.unpack_from(beginning.local) not in known:
                    batch = search.batch(beginning)
                    if batch is not None:
                        yield batch


@dataclass(frozen=True, slots=True)
class _Beginning:
    """Where a batch begins.

    Attributes:
        local: its bytes on that page.
        left: how many are on overflow pages.
        number: of the first of these; of no account where nothing is left.
    """

    source: Source
    place: int
    local: bytes
    left: int
    number: int


def _beginning(source: Source, start: int) -> _Beginning | None:
    """None where no batch can begin."""
    length = int.from_bytes(source.data[start + 4 : start + 8], "little")
    place = source.place(start)
    room = source.begin(place) + source.page_size - start
    if not HEADER.size + CHECKSUM_BYTES <= length <= BATCH_BYTES_MAX or room > source.page_size:
        return None
    local = _local_bytes(length, source.page_size)
    if local + 4 * (local < length) > room or local < HEADER.size:
        return None
    number = int.from_bytes(source.data[start + local : start + local + 4], "big")
    return _Beginning(source, place, source.data[start : start + local], length - local, number)


def _local_bytes(length: int, page_size: int) -> int:
    """How much of a batch is on its leaf: the record's header goes before it."""
    record_header = 2 + _varint_bytes(12 + 2 * length)
    payload = record_header + length
    if payload <= page_size - 35:
        return length
    least = (page_size - 12) * 32 // 255 - 23
    local = least + (payload - least) % (page_size - 4)
    return (local if local <= page_size - 35 else least) - record_header


def _varint_bytes(value: int) -> int:
    return max((value.bit_length() + 6) // 7, 1)


class _Search:
    """Puts batches together."""

    def __init__(self, copies: Copies) -> None:
        self._copies = copies
        self._tried_in_all = 0
        self._tried = 0
        self._more = False  # there are copies beyond the slips that were allowed

    def batch(self, beginning: _Beginning) -> bytes | None:
        """The whole of it, if one is proven by its checksum."""
        self._tried = 0
        slips, self._more = 0, True
        while self._more and (slips == 0 or not self._exhausted):
            self._more = False
            for rest in self._rests(beginning, beginning.number, beginning.left, slips):
                if _is_sound(beginning.local + rest):
                    return beginning.local + rest
            slips += 1
        return None

    @property
    def _exhausted(self) -> bool:
        return self._tried > TRIED_MAX or self._tried_in_all > TRIED_IN_ALL_MAX

    def _rests(self, beginning: _Beginning, number: int, left: int, slips: int) -> Iterator[bytes]:
        """What may be on the overflow pages from `number` on, with exactly so many that are not the likeliest."""
        if left <= 0:
            if slips == 0:
                yield b""
            return
        for slip, page in self._pages(beginning, number):
            if slip > slips:
                self._more = True
                return
            if slips and self._exhausted:
                return
            self._tried += 1
            self._tried_in_all += 1
            follows = int.from_bytes(page[:4], "big")
            for rest in self._rests(beginning, follows, left - len(page) + 4, slips - slip):
                yield page[4 : left + 4] + rest

    def _pages(self, beginning: _Beginning, number: int) -> Iterator[tuple[int, bytes]]:
        """Whether it is a slip to take it, and a page; none twice."""
        seen: set[bytes] = set()
        for page in self._copies.of(number, beginning.source, beginning.place):
            if page not in seen:
                yield int(bool(seen)), page
                seen.add(page)
        for page in self._copies.beside(beginning.source, beginning.place):
            if page not in seen:
                yield 1, page
                seen.add(page)


def _is_sound(candidate: bytes) -> bool:
    try:
        read_header(candidate)
    except WireError:
        return False
    return True
