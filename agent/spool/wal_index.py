"""The wal-index beside the spool's log (`spool.db-shm`): how far SQLite had committed when its process died.

SQLite enters a commit here once the log is synchronised, so what it names was on the disk. It is shared memory in a
file: whole after a crash of the process, of some earlier moment or gone after a power loss; both are lower bounds.

The first 96 bytes are the same header twice, in the machine's own byte order
(https://www.sqlite.org/walformat.html#wal_index_header)::

    48 bytes  version, unused, change counter, initialised (1 byte), byte order (1 byte), page size (2 bytes),
              frames committed, pages of the file, checksum of the last frame (8 bytes), salts (8 bytes, as in the log),
              checksum 1, checksum 2 (of the 40 bytes before)

After a crash it is to be read before any connection is opened: the first one begins it anew.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.spool.wal import checksum

INDEX_SUFFIX = "-shm"
_HEADER = struct.Struct("=IIIBBHII8s8sII")
_VERSION = 3007000
_ORDER = "<" if sys.byteorder == "little" else ">"


@dataclass(frozen=True, slots=True)
class Mark:
    """So many frames of the log with these salts (8 bytes) were committed."""

    salts: bytes
    frames: int


def committed_frames(index: Path, salts: bytes | None) -> int:
    """How many frames of the log with these salts, or whatever salts, were committed at least. Raises: OSError."""
    return max((mark.frames for mark in _marks(index) if salts in (None, mark.salts)), default=0)


def last_commit(index: Path) -> Mark:
    """Of a log that we have open; no frames where the index does not say. Raises: OSError."""
    return next(_marks(index), Mark(bytes(8), 0))


def _marks(index: Path) -> Iterator[Mark]:
    """What the copies of the header say, as far as they are sound."""
    if not index.is_file():
        return
    with index.open("rb") as file:
        raw = file.read(2 * _HEADER.size)
    for at in range(0, len(raw) - _HEADER.size + 1, _HEADER.size):
        version, _, _, initialised, _, _, frames, _, _, salts, *sums = _HEADER.unpack_from(raw, at)
        if initialised and (version, tuple(sums)) == (_VERSION, checksum(raw[at : at + 40], _ORDER)):
            yield Mark(salts, frames)
