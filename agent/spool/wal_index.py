"""The wal-index beside the spool's log (`spool.db-shm`): how far SQLite had committed when its process died.

SQLite enters a commit here once the log is synchronised, so what it names was on the disk. It is shared memory in a
file: whole after a crash of the process, of some earlier moment or gone after a power loss; both are lower bounds.

The first 96 bytes are the same header twice, in the machine's own byte order
(https://www.sqlite.org/walformat.html#wal_index_header)::

    48 bytes  version, unused, change counter, initialised (1 byte), byte order (1 byte), page size (2 bytes),
              frames committed, pages of the file, checksum of the last frame (8 bytes), salts (8 bytes, as in the log),
              checksum 1, checksum 2 (of the 40 bytes before)

To be read before any connection is opened: the first one begins it anew, and a process that closes this file gives up
the locks which SQLite holds on it for that process (https://www.sqlite.org/howtocorrupt.html#posix_close_bug).
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

from agent.spool.wal import checksum

INDEX_SUFFIX = "-shm"
_HEADER = struct.Struct("=IIIBBHII8s8sII")
_VERSION = 3007000
_ORDER = "<" if sys.byteorder == "little" else ">"


def committed_frames(index: Path, salts: bytes | None) -> int:
    """How many frames of the log with these salts, or whatever salts, were committed at least. Raises: OSError."""
    if not index.is_file():
        return 0
    with index.open("rb") as file:
        raw = file.read(2 * _HEADER.size)
    return max((_committed(raw[at : at + _HEADER.size], salts) for at in (0, _HEADER.size)), default=0)


def _committed(raw: bytes, salts: bytes | None) -> int:
    if len(raw) < _HEADER.size:
        return 0
    version, _, _, initialised, _, _, frames, _, _, own_salts, *sums = _HEADER.unpack(raw)
    sound = (version, tuple(sums)) == (_VERSION, checksum(raw[:40], _ORDER))
    return int(frames) if sound and initialised and salts in (None, own_salts) else 0
