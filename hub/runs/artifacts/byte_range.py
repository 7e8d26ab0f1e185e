"""The part of a content that `Range` (RFC 9110, 14) asks for, so that a download which broke off can go on.

One range of bytes is served. Several at once, other units and what is no range are ignored, as the standard allows:
the answer is the whole content.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hub.errors import Problem

_RANGE = re.compile(r"bytes[ \t]*=[ \t]*([0-9]*)[ \t]*-[ \t]*([0-9]*)[ \t]*", re.IGNORECASE)
_DIGITS_MAX = 18


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes `start` (counted from 0) up to, but not with, `end` of a content of `size` bytes."""

    start: int
    end: int
    size: int

    @property
    def header(self) -> str:
        """As `Content-Range` has it."""
        return f"bytes {self.start}-{self.end - 1}/{self.size}"


def part_of(wanted: str | None, only_if: str | None, etag: str, size: int) -> Part | None:
    """What is asked for of a content, None for the whole.

    Args:
        wanted: the header `Range`.
        only_if: the header `If-Range`: for another content than that, the whole is sent.
    Raises: Problem 416 where the content has nothing of what is asked for.
    """
    found = _RANGE.fullmatch(wanted or "")
    if found is None or only_if not in (None, etag) or max(map(len, found.groups())) > _DIGITS_MAX:
        return None
    first, last = found.groups()
    if first and (not last or int(first) <= int(last)):
        start, end = int(first), min(int(last) + 1, size) if last else size
    elif last and not first:
        start, end = max(size - int(last), 0), size
    else:
        return None
    if start >= end:
        detail = f"the content has {size} bytes"
        raise Problem(416, detail, code="no_such_part", headers={"Content-Range": f"bytes */{size}"})
    return Part(start, end, size)
