"""What can still be read of a damaged spool goes into a new one; the damaged file is moved aside, never deleted.

Every batch carries its identity and checksum inside, so `contents` alone is enough; what `batches` says beside it
(above all: what was acknowledged) is used where it is readable. A batch wrongly offered again does no harm.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.spool.batch import Standing
from agent.spool.connection import connect
from agent.spool.store import Row, Store
from shared.errors import SpoolUnavailable, WireError
from shared.records import Gap
from shared.wire import Batch, Kind, decode

MISSES_MAX = 20_000
"""Ids looked up one by one behind a damaged page before what follows is given up."""
_SAVED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What came of it: where the damaged files are, and how many batches could be saved."""

    moved_to: Path
    batches: int
    gaps: tuple[Gap, ...]


def move_aside_and_save(path: Path, *, now_us: int) -> Salvaged:
    """Put a new spool in the place of a damaged one.

    Raises: SpoolUnavailable when the new one cannot be written.
    """
    aside = path.with_name(f"{path.stem}.damaged-{now_us}")
    try:
        aside.mkdir(mode=0o700)
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                path.with_name(path.name + suffix).rename(aside / (path.name + suffix))
    except OSError as error:  # on Windows, as long as another connection has it open
        raise SpoolUnavailable(f"{path} is damaged and cannot be moved aside: {error}") from error
    store = Store(connect(path))
    try:
        saved = _save(aside / path.name, store)
        known = store.latest_epoch()
    finally:
        store.close()
    from_us = known.taken_through_us if known is not None else 0
    return Salvaged(aside, saved, (Gap("corrupt", min(from_us, now_us), now_us),))


def _save(damaged: Path, store: Store) -> int:
    with contextlib.closing(sqlite3.connect(damaged, isolation_level=None)) as db:
        epochs = _Epochs(db, store)
        saved = 0
        chunk: list[tuple[int, bytes]] = []
        for found in _contents(db):
            chunk.append(found)
            if len(chunk) == _SAVED_AT_ONCE:
                saved += _write(chunk, db, store, epochs)
                chunk = []
        return saved + _write(chunk, db, store, epochs)


class _Epochs:
    """Refs in the new file for the epochs of the old one."""

    def __init__(self, db: sqlite3.Connection, store: Store) -> None:
        self._store = store
        self._refs: dict[bytes, int] = {}
        with store.transaction():
            for epoch, started_us, last_seq, through_us in _readable(
                db, "SELECT epoch, started_us, last_seq, taken_through_us FROM epochs ORDER BY ref"
            ):
                self._refs[bytes(epoch)] = store.add_epoch(bytes(epoch), started_us, last_seq, through_us)
            for (incarnation,) in _readable(db, "SELECT value FROM meta WHERE key = 'incarnation'"):
                store.set_meta("incarnation", incarnation)

    def ref(self, batch: Batch) -> int:
        """The epoch's ref; one that only its batches still name is entered, and followed as far as they reach."""
        header = batch.header
        if header.epoch not in self._refs:
            self._refs[header.epoch] = self._store.add_epoch(header.epoch, header.created_us)
        ref = self._refs[header.epoch]
        self._store.advance_epoch(ref, header.seq, header.taken_through_us)
        return ref


def _write(chunk: list[tuple[int, bytes]], db: sqlite3.Connection, store: Store, epochs: _Epochs) -> int:
    saved = 0
    with store.transaction():
        for batch_id, content in chunk:
            try:
                batch = decode(content)
            except WireError:
                continue
            row = Row(batch_id, epochs.ref(batch), batch.header.seq, batch.header.kind, *_extent(batch), 0)
            standing = _standing(db, batch_id)
            store.insert(row, content, standing)
            if standing is Standing.ACKED:
                store.acknowledge(batch.header.epoch, batch.header.seq, batch.header.seq, batch.header.created_us)
            saved += 1
    return saved


def _extent(batch: Batch) -> tuple[int, int, int]:
    """Readings, first and last timestamp."""
    columns = getattr(batch.content, "columns", None)
    if batch.header.kind is Kind.DATA and columns is not None and len(columns):
        return len(columns), int(columns.timestamp_us.min()), int(columns.timestamp_us.max())
    return 0, batch.header.taken_through_us, batch.header.taken_through_us


def _standing(db: sqlite3.Connection, batch_id: int) -> Standing:
    for (standing,) in _readable(db, "SELECT standing FROM batches WHERE id = ?", (batch_id,)):
        return Standing(standing)
    return Standing.PENDING


def _contents(db: sqlite3.Connection) -> Iterator[tuple[int, bytes]]:
    """All readable rows of `contents`; behind a damaged page the ids are tried one by one."""
    at, misses = 0, 0
    while misses < MISSES_MAX:
        try:
            found = db.execute("SELECT id, content FROM contents WHERE id > ? ORDER BY id LIMIT 1", (at,)).fetchone()
        except sqlite3.Error:
            at, misses = at + 1, misses + 1
            for row in _readable(db, "SELECT id, content FROM contents WHERE id = ?", (at,)):
                misses = 0
                yield int(row[0]), bytes(row[1])
            continue
        if found is None:
            return
        at, misses = int(found[0]), 0
        yield at, bytes(found[1])


def _readable(db: sqlite3.Connection, sql: str, arguments: tuple[object, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Rows up to the first that cannot be read."""
    try:
        yield from db.execute(sql, arguments)
    except sqlite3.Error:
        return
