"""How far the spool was committed, in a file that nobody but the agent opens (`spool.witness`).

SQLite's own memory of that, the wal-index, is begun anew by whoever first opens the spool of an agent that was killed:
a backup, a look with `sqlite3`. Where bits in the log have rotted, its end then looks torn; and one who may write
merges what he believes and deletes the rest. The witness still says what there was.

Layout, little-endian, 32 bytes::

    4 bytes   magic `LRW` and version 1
    16 + 8    the running epoch, and its last seq that was committed
    4         CRC-32 of all before

Invariants
    * Written after each commit and never synchronised: whole after a crash of the process alone; of an earlier moment,
      torn or gone after a power loss. What it says is a lower bound.
    * So batches up to that seq that an opened spool does not know of are lost. Which of them the hub has, it knows.
    * It does not look into the wal-index: a process that closes a file of SQLite's which it has open through SQLite
      too gives up all its locks on it (https://www.sqlite.org/howtocorrupt.html#posix_close_bug).
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from agent.logging import event_log
from agent.spool.store import Store
from shared.records import Gap

_BODY = struct.Struct("<4s16sQ")
_CHECKSUM = struct.Struct("<I")
_MAGIC = b"LRW\x01"

_log = event_log("spool")


@dataclass(frozen=True, slots=True)
class Testimony:
    """What the witness says."""

    epoch: bytes
    seq: int


def gone(spool: Path, store: Store, now_us: int) -> tuple[Gap, ...]:
    """The record of batches that were committed and that the opened spool does not know of."""
    said = heard(spool)
    if said is None:
        return ()
    last_seq = max((one.last_seq for one in store.epochs.all() if one.epoch == said.epoch), default=0)
    if said.seq <= last_seq:
        return ()
    _log.error("spool_lacks_batches", epoch=said.epoch.hex(), first=last_seq + 1, last=said.seq)
    latest = store.epochs.latest()
    from_us = min(latest.taken_through_us, now_us) if latest is not None else 0
    return (Gap("corrupt", from_us, now_us, batches=[(said.epoch.hex(), last_seq + 1, said.seq)]),)


def heard(spool: Path) -> Testimony | None:
    """What the witness of a spool's file says; None where there is none that is whole."""
    try:
        raw = _witness_of(spool).read_bytes()
    except OSError:
        return None
    body, stored = raw[: _BODY.size], raw[_BODY.size :]
    if len(body) != _BODY.size or stored != _CHECKSUM.pack(zlib.crc32(body)):
        return None
    magic, epoch, seq = _BODY.unpack(body)
    return Testimony(epoch, seq) if magic == _MAGIC else None


class Witness:
    """The witness of one spool's file, kept open: to open it for each commit costs more than to write it."""

    def __init__(self, spool: Path) -> None:
        self._path = _witness_of(spool)
        self._file: BinaryIO | None = None

    def tell(self, epoch: bytes, seq: int) -> None:
        """Note that all up to `seq` is committed. Better no witness than an old one, where that cannot be written."""
        body = _BODY.pack(_MAGIC, epoch, seq)
        try:
            if self._file is None:
                self._file = self._path.open("r+b" if self._path.exists() else "wb", buffering=0)
            self._file.seek(0)
            self._file.write(body + _CHECKSUM.pack(zlib.crc32(body)))
        except OSError:
            self.close()
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; the next word opens it anew."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()


def tell(spool: Path, epoch: bytes, seq: int) -> None:
    """Say one word, and close."""
    witness = Witness(spool)
    witness.tell(epoch, seq)
    witness.close()


def _witness_of(spool: Path) -> Path:
    return spool.with_suffix(".witness")
