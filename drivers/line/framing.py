"""Lines out of a stream of bytes, by pure functions on bytes.

::

    ┌──────────────┬────────────┬─────────────────────────┐
    │ content      │ terminator │ trailer (0 … 4 bytes)   │
    └──────────────┴────────────┴─────────────────────────┘

The trailer is a block check that follows the terminator (`STX … ETX BCC`). A line is given out as content + trailer
only when it is whole. Invariants: never more than `line_bytes_max` + one chunk are held; after a line that is too long
nothing is given out until the next terminator; an empty line is no line.
"""

from __future__ import annotations

EXCERPT_BYTES = 48
"""As many offending bytes as a message shows."""


def excerpt(data: bytes) -> str:
    """The bytes as a person may read them in a message: quoted, escaped, bounded."""
    shown = repr(bytes(data[:EXCERPT_BYTES]))[1:]
    rest = len(data) - EXCERPT_BYTES
    return f"{shown} and {rest} bytes more" if rest > 0 else shown


class LineSplitter:
    """Splits what arrives into lines and forgets what cannot be one.

    Args:
        terminator: what ends a line, at least one byte.
        line_bytes_max: a longer line is dropped and counted in `oversized`.
        trailer_bytes: so many bytes after the terminator belong to the line.
        synchronised: False if the first bytes may be the rest of a line that began before we listened; everything up to
            the first terminator is then dropped, since half a number is a wrong number.

    Attributes:
        oversized: lines dropped because they were too long.
    """

    def __init__(
        self, terminator: bytes, line_bytes_max: int, *, trailer_bytes: int = 0, synchronised: bool = True
    ) -> None:
        self._terminator = terminator
        self._line_bytes_max = line_bytes_max
        self._trailer_bytes = trailer_bytes
        self._pending = b""
        self._skipping = not synchronised
        self.oversized = 0

    @property
    def pending(self) -> bytes:
        """What has arrived of a line that is not whole yet."""
        return self._pending

    def clear(self) -> None:
        """Forget what is pending; the next byte begins a line."""
        self._pending = b""
        self._skipping = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take what arrived; return the lines that are now whole, without terminator, with their trailer."""
        data = self._pending + chunk
        found = data.split(self._terminator) if self._trailer_bytes == 0 else self._split_trailed(data)
        self._pending = found.pop()
        if self._skipping and found:
            del found[0]
            self._skipping = False
        lines = [line for line in found if line and len(line) <= self._line_bytes_max]
        self.oversized += sum(len(line) > self._line_bytes_max for line in found)
        self._bound_pending()
        return lines

    def _split_trailed(self, data: bytes) -> list[bytes]:
        found: list[bytes] = []
        start = 0
        while (end := data.find(self._terminator, start)) >= 0:
            after = end + len(self._terminator)
            if len(data) < after + self._trailer_bytes:
                break
            found.append(data[start:end] + data[after : after + self._trailer_bytes])
            start = after + self._trailer_bytes
        found.append(data[start:])
        return found

    def _bound_pending(self) -> None:
        keep = len(self._terminator) + self._trailer_bytes
        if self._skipping:
            self._pending = self._pending[-keep:]
        elif len(self._pending) > self._line_bytes_max + keep:
            self.oversized += 1
            self._skipping = True
            self._pending = self._pending[-keep:]
