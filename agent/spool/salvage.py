"""What can still be read of a damaged spool goes into a new one; the damaged file is moved aside, never deleted.

Every batch carries its identity and checksum inside, so `contents` alone is enough, and where that cannot be walked,
the bytes of the file and of its log are (agent.spool.carve). What `batches` says beside it (above all: what was
acknowledged) is used where it is readable. A batch wrongly offered again does no harm. What is missing goes into a gap
record by its identity; the hub knows which of these it has stored before.

The sound pages of the write-ahead log are first merged into the moved file by hand (agent.spool.merge), because SQLite
would stop at the first rotten one; the log itself stays as it was found, and what merging overwrites is kept.

Until all is done the folder holds a file `unsaved`, and the new spool grows inside it. It takes its place by being
renamed, with the gap record in it. Interrupted at any moment, by whatever, saving begins again from the moved file.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import msgspec

from agent.spool.batch import Standing
from agent.spool.carve import carve
from agent.spool.connection import connect
from agent.spool.epochs import Epoch
from agent.spool.merge import LOG_SUFFIX, merge
from agent.spool.store import Row, Store
from agent.spool.wal_index import INDEX_SUFFIX
from shared.errors import SpoolUnavailable, WireError
from shared.records import Gap
from shared.wire import Batch, Kind, decode

MISSES_MAX = 20_000
"""Ids looked up one by one behind a damaged page before what follows is given up."""
RANGES_MAX = 2_000
_SAVED_AT_ONCE = 500
_DROPPED = ("quota_oldest", "quota_thin")
_UNSAVED, _NEW = "unsaved", "saved.db"
_GAP = "gap"
_EPOCHS = (
    "SELECT epoch, started_us, last_seq, taken_through_us FROM epochs WHERE typeof(epoch) = 'blob'"
    " AND length(epoch) = 16 AND typeof(started_us) = 'integer' AND typeof(last_seq) = 'integer'"
    " AND typeof(taken_through_us) = 'integer' GROUP BY epoch ORDER BY ref"
)
_OWN_STANDING = (
    "SELECT b.standing FROM batches b NOT INDEXED JOIN epochs e ON e.ref = b.epoch"
    " WHERE b.id = ? AND b.seq = ? AND e.epoch = ?"
)
_INCARNATION = "SELECT value FROM meta WHERE key = 'incarnation' AND typeof(value) = 'text'"


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What came of it: where the damaged files are, and how many batches could be saved."""

    moved_to: Path
    batches: int


def interrupted(path: Path) -> bool:
    """Whether a damaged file was moved aside and nothing has taken its place yet."""
    return _unsaved(path) is not None


def move_aside_and_save(path: Path, *, now_us: int) -> Salvaged:
    """Put a new spool in the place of a damaged one. Repeatable after a failure.

    Raises: SpoolUnavailable when the new one cannot be written.
    """
    try:
        aside = _unsaved(path) or path.with_name(f"{path.stem}.damaged-{now_us}")
        _move(path, aside)
        merge(aside / path.name)
    except OSError as error:  # on Windows, as long as another connection has it open
        raise SpoolUnavailable(f"{path} is damaged and cannot be moved aside: {error}") from error
    new = aside / _NEW
    store = Store(connect(new))
    try:
        saved = _save(aside / path.name, store)
        gap = _missing(saved, store.epochs.all(), now_us)
        with store.transaction():
            store.set_meta(_GAP, msgspec.json.encode(gap).decode())
    finally:
        store.close()
    try:
        new.rename(path)
        (aside / _UNSAVED).unlink()
    except OSError as error:
        raise SpoolUnavailable(f"{path} cannot be put in its place: {error}") from error
    return Salvaged(aside, len(saved))


def take_gap(store: Store) -> tuple[Gap, ...]:
    """The record of what a salvage could not save, once. Called in the transaction that writes it down."""
    said = store.meta(_GAP)
    store.set_meta(_GAP, "")
    return (msgspec.json.decode(said, type=Gap),) if said else ()


def _unsaved(path: Path) -> Path | None:
    if path.exists():
        return None
    found = (marker.parent for marker in path.parent.glob(f"{path.stem}.damaged-*/{_UNSAVED}"))
    return max((aside for aside in found if (aside / path.name).exists()), default=None)


def _move(path: Path, aside: Path) -> None:
    """Move the file and what belongs to it, the log last: without its file it is nobody else's."""
    aside.mkdir(mode=0o700, exist_ok=True)
    (aside / _UNSAVED).touch()
    for suffix in ("", INDEX_SUFFIX, LOG_SUFFIX):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside / (path.name + suffix))
        with contextlib.suppress(FileNotFoundError):  # of an earlier attempt
            (aside / (_NEW + suffix)).unlink()


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
    as_found = f"{damaged.absolute().as_uri()}?immutable=1"  # without the log, which has been merged
    with contextlib.closing(sqlite3.connect(as_found, uri=True, isolation_level=None)) as db:
        target = _Target(db, store)
        for chunk in _chunks(_contents(db)):
            target.write(chunk)
        for chunk in _chunks((0, content) for content in carve(damaged, target.saved)):
            target.write(chunk)
        target.let_go_again()
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
        self._carved: dict[tuple[bytes, int], int] = {}
        with store.transaction():
            for epoch, *how_far in _readable(db, _EPOCHS):
                self._refs[epoch] = store.epochs.add(epoch, *how_far)
            for (incarnation,) in _readable(db, _INCARNATION):
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

    def let_go_again(self) -> None:
        """Leave out, of what SQLite did not find, what the quota had dropped: its records say that it will not come."""
        named: dict[str, list[tuple[int, int]]] = {}
        with self._store.transaction():
            for row in self._store.records(Kind.GAP):
                record = decode(self._store.content(row.id)).content
                if isinstance(record, Gap) and record.cause in _DROPPED:
                    for epoch, first, last in record.batches:
                        named.setdefault(epoch, []).append((first, last))
            self._store.delete(
                [
                    batch_id
                    for (epoch, seq), batch_id in self._carved.items()
                    if any(first <= seq <= last for first, last in named.get(epoch.hex(), ()))
                ]
            )

    def _insert(self, batch_id: int, batch: Batch, content: bytes) -> None:
        header = batch.header
        row = Row(batch_id, self._epoch_ref(batch), header.seq, header.kind, *_extent(batch), 0)
        standing = _standing(self._db, batch_id, batch)
        new_id = self._store.insert(row, content, standing)
        if not batch_id:
            self._carved[header.epoch, header.seq] = new_id
        if standing is Standing.ACKED:
            self._store.date(row.epoch_ref, header.seq, header.created_us)
        self.saved.add((header.epoch, header.seq))

    def _epoch_ref(self, batch: Batch) -> int:
        """The epoch's ref; one that only its batches still name is entered, and followed as far as they reach."""
        header = batch.header
        if header.epoch not in self._refs:
            self._refs[header.epoch] = self._store.epochs.add(header.epoch, header.created_us)
        ref = self._refs[header.epoch]
        self._store.epochs.advance(ref, header.seq, header.taken_through_us)
        return ref


def _extent(batch: Batch) -> tuple[int, int, int]:
    """Readings, first and last timestamp."""
    columns = getattr(batch.content, "columns", None)
    if batch.header.kind is Kind.DATA and columns is not None and len(columns):
        return len(columns), int(columns.timestamp_us.min()), int(columns.timestamp_us.max())
    return 0, batch.header.taken_through_us, batch.header.taken_through_us


def _standing(db: sqlite3.Connection, batch_id: int, batch: Batch) -> Standing:
    """Where a batch stood, as its row and the index say: one bit that has rotted in either makes it pending."""
    for (standing,) in _readable(db, _OWN_STANDING, (batch_id, batch.header.seq, batch.header.epoch)):
        sql = "SELECT standing FROM batches INDEXED BY batches_standing WHERE standing = ? AND id = ?"
        if standing in tuple(Standing) and list(_readable(db, sql, (standing, batch_id))):
            return Standing(standing)
    return Standing.PENDING


def _contents(db: sqlite3.Connection) -> Iterator[tuple[int, bytes]]:
    """Rows of `contents`, by rising id; behind a damaged page, or an id that leads back, ids are tried one by one."""
    at, misses = 0, 0
    while misses < MISSES_MAX:
        try:
            found = db.execute("SELECT id, content FROM contents WHERE id > ? ORDER BY id LIMIT 1", (at,)).fetchone()
        except (sqlite3.Error, UnicodeDecodeError):
            found = (at, None)
        if found is None:
            return
        if found[0] <= at:
            at, misses = at + 1, misses + 1
            found = next(_readable(db, "SELECT id, content FROM contents WHERE id = ?", (at,)), None)
            if found is None:
                continue
        at, misses = max(at, int(found[0])), 0
        if isinstance(found[1], bytes):
            yield int(found[0]), found[1]


def _readable(db: sqlite3.Connection, sql: str, arguments: tuple[object, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Rows up to the first that cannot be read."""
    try:
        yield from db.execute(sql, arguments)
    except (sqlite3.Error, UnicodeDecodeError):
        return
