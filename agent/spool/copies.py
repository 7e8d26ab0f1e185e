"""Every copy of a page that a damaged spool's files hold: the newest is in the database file, where it is sound.

Older ones lie in frames of the write-ahead log, of this and of earlier generations, and among the pages that merging
the log has overwritten (agent.spool.merge). Whether a copy is the right one, and sound, only the batch that continues
on it can tell, by its own checksum; here they are merely put in order, the likeliest first.
"""

from __future__ import annotations

import mmap
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from agent.spool.merge import BEFORE_SUFFIX, LOG_SUFFIX, NUMBER_BYTES
from agent.spool.wal import FRAME_HEADER_BYTES, HEADER_BYTES, page_size_of, survey

Bytes = mmap.mmap | bytes


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A file that consists of pages; the first one is at place 0.

    Attributes:
        ahead: bytes before the first of them.
        apart: bytes before each, of which the first four are the page's number; 0 where that is told by its place.
    """

    data: Bytes
    page_size: int
    ahead: int = 0
    apart: int = 0

    @property
    def places(self) -> int:
        """How many whole pages there are."""
        return max(len(self.data) - self.ahead, 0) // (self.apart + self.page_size)

    def place(self, offset: int) -> int:
        """In which page a byte lies."""
        return (offset - self.ahead) // (self.apart + self.page_size)

    def begin(self, place: int) -> int:
        """Of a page: its first byte."""
        return self.ahead + place * (self.apart + self.page_size) + self.apart

    def page(self, place: int) -> bytes:
        """A page's bytes."""
        begin = self.begin(place)
        return self.data[begin : begin + self.page_size]

    def word(self, place: int, at: int) -> int:
        """A big-endian number of four bytes in what is ahead of a page."""
        begin = self.begin(place) - self.apart + at
        return int.from_bytes(self.data[begin : begin + 4], "big")


class Copies:
    """The files of a spool that nobody writes.

    Args:
        stack: closes them.

    Raises: OSError.
    """

    def __init__(self, database: Path, stack: ExitStack) -> None:
        log, before = (database.with_name(database.name + suffix) for suffix in (LOG_SUFFIX, BEFORE_SUFFIX))
        found = survey(log, database)
        self.page_size = found.header.page_size if found is not None else page_size_of(database)
        self.database = Source(_mapped(database, stack), self.page_size)
        self.before = Source(_mapped(before, stack), self.page_size, apart=NUMBER_BYTES)
        self.log = Source(_mapped(log, stack), self.page_size, HEADER_BYTES, FRAME_HEADER_BYTES)
        self._in_before = {self.before.word(place, 0): place for place in range(self.before.places)}
        self._in_log: dict[int, list[int]] = defaultdict(list)
        self._commits: list[int] = []
        for place in range(self.log.places):
            self._in_log[self.log.word(place, 0)].append(place)
            if self.log.word(place, 4):
                self._commits.append(place)

    def of(self, number: int, source: Source, place: int) -> Iterator[bytes]:
        """The copies of a page, the likeliest first for somebody who was led to it by another page.

        Args:
            source, place: where that other page lies. In the log, what its own commit has left is likelier.
        """
        in_log = self._in_log.get(number, [])
        split = bisect_left(in_log, self._last_of_commit(place) + 1) if source is self.log else 0
        yield from (self.log.page(at) for at in reversed(in_log[:split]))
        if 0 < number <= self.database.places:
            yield self.database.page(number - 1)
        if number in self._in_before:
            yield self.before.page(self._in_before[number])
        yield from (self.log.page(at) for at in reversed(in_log[split:]))

    def beside(self, source: Source, place: int) -> Iterator[bytes]:
        """The pages that one commit has put into the log, for a page of it whose number or whose successor's number has
        rotted."""
        if source is self.log:
            first, last = self._first_of_commit(place), self._last_of_commit(place)
            yield from (self.log.page(at) for at in range(first, min(last + 1, self.log.places)))

    def _first_of_commit(self, place: int) -> int:
        at = bisect_left(self._commits, place)
        return self._commits[at - 1] + 1 if at else 0

    def _last_of_commit(self, place: int) -> int:
        at = bisect_left(self._commits, place)
        return self._commits[at] if at < len(self._commits) else self.log.places


def _mapped(path: Path, stack: ExitStack) -> Bytes:
    if not path.is_file() or path.stat().st_size == 0:  # which cannot be mapped
        return b""
    file = stack.enter_context(path.open("rb"))
    return stack.enter_context(closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
