"""Which batches can still be read from a spool's damaged files, found out by knowing what was in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PAGE = 4096
FRAME_HEADER, LOG_HEADER = 24, 32
LEAF_MAX, LEAF_MIN = PAGE - 35, (PAGE - 12) * 32 // 255 - 23


@dataclass(frozen=True)
class Copy:
    """A piece of a batch on some page of some file.

    Attributes:
        page: the page's number.
        leads_to: the number of the page with the next piece.
        whole: whether the piece, and those numbers where they are written, are as they were.
    """

    page: int
    leads_to: int
    whole: bool


class Files:
    """A spool's file and its log, before and after damage."""

    def __init__(self, before: Path, after: Path) -> None:
        self._pairs = [
            ((before / name).read_bytes(), (after / name).read_bytes(), name.endswith("-wal"))
            for name in ("spool.db", "spool.db-wal")
        ]

    def readable(self, content: bytes) -> bool:
        """Whether each piece of a batch is whole in some copy to which a whole copy of the piece before leads."""
        first, *rest = pieces(content)
        reached = {copy.leads_to for copy in self._copies(first, lambda at: at + len(first)) if copy.whole}
        if not rest:
            return bool(reached)
        for piece in rest:
            copies = list(self._copies(piece, lambda at: at - 4))
            reached = {copy.leads_to for copy in copies if copy.whole and copy.page in reached}
        return bool(reached)

    def _copies(self, piece: bytes, pointer: Callable[[int], int]) -> Iterator[Copy]:
        for before, after, is_log in self._pairs:
            at = before.find(piece)
            while at >= 0:
                number = _number(before, at) if is_log else at // PAGE + 1
                spans = [(at, at + len(piece)), (pointer(at), pointer(at) + 4)]
                if is_log:
                    begin = (at - LOG_HEADER) // (PAGE + FRAME_HEADER) * (PAGE + FRAME_HEADER) + LOG_HEADER
                    spans.append((begin, begin + 4))
                whole = all(before[first:last] == after[first:last] for first, last in spans)
                yield Copy(number, int.from_bytes(before[pointer(at) : pointer(at) + 4], "big"), whole)
                at = before.find(piece, at + 1)


def pieces(content: bytes) -> list[bytes]:
    """As SQLite lays a row of `contents` out: on a leaf, and on overflow pages."""
    serial_type = 12 + 2 * len(content)
    record_header = 2 + next(size for size in (1, 2, 3, 4) if serial_type < 1 << 7 * size)
    payload = record_header + len(content)
    kept = payload
    if payload > LEAF_MAX:
        kept = LEAF_MIN + (payload - LEAF_MIN) % (PAGE - 4)
        kept = kept if kept <= LEAF_MAX else LEAF_MIN
    local = kept - record_header
    return [content[:local], *(content[at : at + PAGE - 4] for at in range(local, len(content), PAGE - 4))]


def _number(log: bytes, at: int) -> int:
    begin = (at - LOG_HEADER) // (PAGE + FRAME_HEADER) * (PAGE + FRAME_HEADER) + LOG_HEADER
    return int.from_bytes(log[begin : begin + 4], "big")
