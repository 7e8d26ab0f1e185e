"""An exported spool: batches one behind the other, as `labrelay agent spool export` writes them.

It is cut while it arrives. Behind bytes that are no batch, or one that does not verify, the next beginning of a batch
is sought, so that damage costs what is damaged and no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shared import wire
from shared.errors import UnsupportedVersion, WireError
from shared.wire import Batch

_LENGTH_AT, _LENGTH_END = 4, 8
_BATCH_BYTES_MIN = wire.HEADER.size + wire.CHECKSUM_BYTES
_MAGIC_BYTES = len(wire.MAGIC)


@dataclass(frozen=True, slots=True)
class Found:
    """A batch in the file; `batch` is None for one of a version that this hub does not know."""

    batch: Batch | None


class SpoolFile:
    """Cuts a file that comes in pieces. Holds at most a piece and a batch."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._at = 0
        self.unreadable_bytes = 0
        """That belong to no batch which verifies."""

    def feed(self, piece: bytes) -> Iterator[Found]:
        """The batches that are complete with this piece; to be exhausted before the next one."""
        self._held += piece
        yield from self._cut(final=False)

    def end(self) -> Iterator[Found]:
        """Nothing more comes: the batches that are left."""
        yield from self._cut(final=True)

    def _cut(self, *, final: bool) -> Iterator[Found]:
        while self._seek(final=final):
            size = int.from_bytes(self._held[self._at + _LENGTH_AT : self._at + _LENGTH_END], "little")
            left = len(self._held) - self._at
            if left < _LENGTH_END or (_BATCH_BYTES_MIN <= size <= wire.BATCH_BYTES_MAX and left < size):
                if not final:
                    break
                self._skip(_MAGIC_BYTES)
                continue
            found = self._decoded(size)
            if found is None:
                self._skip(_MAGIC_BYTES)  # its length may be what is damaged
                continue
            self._at += size
            yield found
        del self._held[: self._at]
        self._at = 0

    def _seek(self, *, final: bool) -> bool:
        """Go to where a batch may begin. Returns: whether there is such a place."""
        start = self._held.find(wire.MAGIC, self._at)
        if start >= 0:
            self._skip(start - self._at)
            return True
        kept = 0 if final else _MAGIC_BYTES - 1
        self._skip(max(len(self._held) - kept - self._at, 0))
        return False

    def _skip(self, size: int) -> None:
        self._at += size
        self.unreadable_bytes += size

    def _decoded(self, size: int) -> Found | None:
        """The batch that begins here, None if it does not verify."""
        if not _BATCH_BYTES_MIN <= size <= wire.BATCH_BYTES_MAX:
            return None
        try:
            return Found(wire.decode(bytes(self._held[self._at : self._at + size])))
        except UnsupportedVersion:
            return Found(None)
        except WireError:
            return None
