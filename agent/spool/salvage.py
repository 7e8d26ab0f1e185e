"""What can still be read of a damaged spool goes into a new one; the damaged file is moved aside, never deleted.

Every batch carries its identity and checksum inside, so `contents` alone is enough, and where that cannot be walked,
the file's bytes are (agent.spool.carve). What `batches` says beside it (above all: what was acknowledged) is used where
it is readable. A batch wrongly offered again does no harm. What is missing goes into a gap record by its identity; the
hub knows which of these it has stored before.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from agent.spool.batch import Standing
from agent.spool.carve import carve
from agent.spool.connection import connect
from agent.spool.store import Epoch, Row, Store
from shared.errors import SpoolUnavailable, WireError
from shared.records import Gap
from shared.wire import Batch, Kind, decode

MISSES_MAX = 20_000
"""Ids looked up one by one behind a damaged page before what follows is given up."""
RANGES_MAX = 2_000
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
        gap = _missing(saved, store.epochs(), now_us)
    finally:
        store.close()
    return Salvaged(aside, len(saved), (gap,))


def _missing(saved: set[tuple[bytes, int]], epochs: list[Epoch], now_us: int) -> Gap:
    """The record of what could not be saved, as far as anything is known of it."""
    missing: list[tuple[str, int, int]] = []
    from_us = now_us if epochs else 0
    for epoch in epochs:
        held = sorted(seq for name, seq in saved if name == epoch.epoch)
        edges = [0, *held, epoch.last_seq + 1]
        holes = [(first + 1, last - 1) for first, last in pairwise(edges) if last - first > 1]
        missing += [(epoch.epoch.hex(), first, last) for first, last in holes]
        if holes:
            from_us = min(from_us, epoch.started_us)
    return Gap("corrupt", from_us, now_us, batches=missing[-RANGES_MAX:])


def _save(damaged: Path, store: Store) -> set[tuple[bytes, int]]:
    """First what SQLite still finds, with its place and standing; then what is to be found without it."""
    with contextlib.closing(sqlite3.connect(damaged, isolation_level=None)) as db:
        target = _Target(db, store)
        for chunk in _chunks(_contents(db)):
            target.write(chunk)
        for path in (damaged, damaged.with_name(damaged.name + "-wal")):
            for chunk in _chunks((0, content) for content in carve(path)):
                target.write(chunk)
        return target.saved


def _chunks(found: Iterator[tuple[int, bytes]]) -> Iterator[list[tuple[int, bytes]]]:
    while chunk := list(islice(found, _SAVED_AT_ONCE)):
        yield chunk


class _Target:
    """The new file, and what of the old one is in it."""

    def __init__(self, db: sqlite3.Connection, store: Store) -> None:
        self.saved: set[tuple[bytes, int]] = set()
        self._db = db
        self._store = store
        self._refs: dict[bytes, int] = {}
        with store.transaction():
            for epoch, started_us, last_seq, through_us in _readable(
                db, "SELECT epoch, started_us, last_seq, taken_through_us FROM epochs ORDER BY ref"
            ):
                self._refs[bytes(epoch)] = store.add_epoch(bytes(epoch), started_us, last_seq, through_us)
            for (incarnation,) in _readable(db, "SELECT value FROM meta WHERE key = 'incarnation'"):
                store.set_meta("incarnation", incarnation)

    def write(self, chunk: list[tuple[int, bytes]]) -> None:
        """Save those batches that are sound and not saved yet; id 0 stands for a new one."""
        with self._store.transaction():
            for batch_id, content in chunk:
                try:
                    batch = decode(content)
                except WireError:
                    continue
                if (batch.header.epoch, batch.header.seq) not in self.saved:
                    self._insert(batch_id, batch, content)

    def _insert(self, batch_id: int, batch: Batch, content: bytes) -> None:
        header = batch.header
        row = Row(batch_id, self._epoch_ref(batch), header.seq, header.kind, *_extent(batch), 0)
        standing = _standing(self._db, batch_id)
        self._store.insert(row, content, standing)
        if standing is Standing.ACKED:
            self._store.date(row.epoch_ref, header.seq, header.created_us)
        self.saved.add((header.epoch, header.seq))

    def _epoch_ref(self, batch: Batch) -> int:
        """The epoch's ref; one that only its batches still name is entered, and followed as far as they reach."""
        header = batch.header
        if header.epoch not in self._refs:
            self._refs[header.epoch] = self._store.add_epoch(header.epoch, header.created_us)
        ref = self._refs[header.epoch]
        self._store.advance_epoch(ref, header.seq, header.taken_through_us)
        return ref


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
