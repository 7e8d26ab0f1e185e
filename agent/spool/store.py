"""The spool's file: format, integrity and elementary operations.

Files, all in the agent's data directory::

    spool.db, -wal, -shm       SQLite in WAL mode, synchronous=FULL, `user_version` = `FORMAT`
    spool.lock                 SQLite; whoever holds its exclusive lock owns the spool (agent.spool.lock)
    spool.witness              how far it was committed (agent.spool.witness)
    spool.reserve              space for gap records on a full disk (agent.spool.reserve)
    spool.damaged-<time>/      what could not be opened, moved aside, never deleted (agent.spool.salvage)

Tables::

    epochs    ref, epoch (16 bytes), started_us, last_seq, taken_through_us     one row a start of the agent
    batches   id, epoch (ref), seq, kind, standing, readings, from_us, to_us, bytes, acked_us, thinned, reason
    contents  id, content                                                       apart, so that marking moves no blobs
    meta      key, value                                                        the hub's incarnation
    requests  id, verb, batch_id                                                from `labrelay agent spool`

Invariants
    * A batch is *taken* once the transaction that inserted it is on the disk. There is one writer; it holds the lock.
    * `content` is the wire's batch, checksum included; it is verified whenever it is read for sending or recoding.
      One that does not verify is quarantined with a `corrupt` gap record beside it.
    * (epoch, seq) is unique. `epochs.last_seq` is what was ever given out, whatever has been deleted since. A content
      never changes under its identity, but for the physical column where the hub asks for it: it has not stored that
      batch then.
    * Ids rise in the order of sending and are never reused (AUTOINCREMENT keeps the high-water mark). Thinned and
      relabelled batches take the id of what they replace, and with it its place.

What is deleted
    * acknowledged batches, oldest first, once older than `retain_acked_s`, above `retain_acked_share` of the quota, or
      when room is needed;
    * under the policies `oldest` and `thin`: quarantined batches, then pending ones that are not in flight, oldest
      first, in the transaction that writes the gap record;
    * what an operator discards.
    An epoch's OPENING, DICTIONARY and CLOCK batches stay as long as any other batch of it; those of the running epoch
    stay always.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agent.spool.batch import Standing
from agent.spool.connection import KEPT, SpoolDamaged, known, translated
from agent.spool.depth import ROW_OVERHEAD_BYTES, Depth
from agent.spool.epochs import Epochs
from shared.wire import Kind

EXPLAINING = (Kind.OPENING, Kind.DICTIONARY, Kind.CLOCK)
"""Kinds that the other batches of an epoch need to be understood."""
BATCH_COLUMNS = "b.id, e.epoch, b.seq, b.kind, b.readings, b.from_us, b.to_us, c.content"
BATCH_TABLES = "batches b JOIN epochs e ON e.ref = b.epoch JOIN contents c ON c.id = b.id"


_ROW = "id, epoch, seq, kind, readings, from_us, to_us, bytes, thinned"
_EXPLAINING = f"({', '.join(str(int(kind)) for kind in EXPLAINING)})"
_KEEP_FREE_PAGES = 4096
_LOOKED_AT = 1024
"""The oldest acknowledged batches, which are the first to expire; all of them would take too long on every commit."""


@dataclass(frozen=True, slots=True)
class Row:
    """A batch without its content."""

    id: int
    epoch_ref: int
    seq: int
    kind: Kind
    readings: int
    from_us: int
    to_us: int
    bytes: int
    thinned: int = 0


class Store:
    """Elementary operations on one open file. Not thread-safe: the writer's lock guards it.

    Args:
        db: from `connect`; closed by `close`.

    Raises: SpoolUnavailable, from here and from every method.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.epochs = Epochs(db)
        self.depth = Depth()
        with translated():
            rows = db.execute("SELECT standing, count(*), sum(readings), sum(bytes) FROM batches GROUP BY standing")
            for number, batches, readings, size in rows:
                standing = known(Standing, number)
                self.depth.batches[standing] = batches
                self.depth.readings[standing] = readings
                self.depth.bytes[standing] = size + batches * ROW_OVERHEAD_BYTES

    def check(self) -> None:
        """Compare what says which batches are here with its indices: bits that rot in either hide batches from view.

        Takes 0.8 s a million batches. Raises: SpoolDamaged.
        """
        with translated():
            for table in ("batches", "epochs"):
                [said] = self._db.execute(f"PRAGMA integrity_check({table})").fetchone()
                if said != "ok":
                    raise SpoolDamaged(f"the spool's file is damaged: {said}", hint=KEPT)

    def close(self) -> None:
        """Close the file; the write-ahead log is merged into it."""
        self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, on the disk when it ends; `depth` follows."""
        before = self.depth.copy()
        try:
            with translated():
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
        except BaseException:
            self.depth = before
            self.epochs.rolled_back()
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    def insert(self, row: Row, content: bytes, standing: Standing = Standing.PENDING) -> int:
        """A batch, at `row.id` or behind all others where that is 0. Returns: its id."""
        found = self._db.execute(
            "INSERT INTO batches (id, epoch, seq, kind, standing, readings, from_us, to_us, bytes, thinned)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(row.id or None, row.epoch_ref, row.seq, row.kind, standing),
                *(row.readings, row.from_us, row.to_us, len(content), row.thinned),
            ),
        )
        batch_id = int(found.lastrowid or 0)
        self._db.execute("INSERT INTO contents (id, content) VALUES (?, ?)", (batch_id, content))
        self.depth.add(standing, row.readings, len(content))
        return batch_id

    def acknowledge(self, epoch: bytes, first: int, last: int, at_us: int) -> None:
        """Mark a range of seqs as stored at the hub; what is not here is ignored."""
        ref = self.epochs.ref(epoch)
        where = "epoch = ? AND seq BETWEEN ? AND ? AND standing <> 1"
        rows = self._db.execute(
            f"SELECT standing, readings, bytes FROM batches WHERE {where}", (ref, first, last)
        ).fetchall()
        self._db.execute(
            f"UPDATE batches SET standing = 1, acked_us = ?, reason = '' WHERE {where}", (at_us, ref, first, last)
        )
        for standing, readings, size in rows:
            self.depth.move(Standing(standing), Standing.ACKED, readings, size)

    def date(self, epoch_ref: int, seq: int, acked_us: int) -> None:
        """Say when a batch was acknowledged, where that is not known better."""
        sql = "UPDATE batches SET acked_us = ? WHERE epoch = ? AND seq = ?"
        self._db.execute(sql, (acked_us, epoch_ref, seq))

    def stand(self, ids: Sequence[int], after: Standing, reason: str = "") -> None:
        """Move batches to another standing."""
        for batch_id in ids:
            found = self._db.execute(
                "SELECT standing, readings, bytes FROM batches WHERE id = ?", (batch_id,)
            ).fetchone()
            if found is not None and found[0] != after:
                self._db.execute("UPDATE batches SET standing = ?, reason = ? WHERE id = ?", (after, reason, batch_id))
                self.depth.move(Standing(found[0]), after, found[1], found[2])

    def reoffer(self) -> None:
        """All that was acknowledged is pending again: the hub's database is another one."""
        depth = self.depth
        self._db.execute("UPDATE batches SET standing = 0 WHERE standing = 1")
        for counts in (depth.batches, depth.readings, depth.bytes):
            counts[Standing.PENDING] += counts[Standing.ACKED]
            counts[Standing.ACKED] = 0

    def replace(self, batch_id: int, content: bytes) -> None:
        """Other bytes for the same identity: only ever the physical column that the hub asked for."""
        found = self._db.execute("SELECT standing, bytes FROM batches WHERE id = ?", (batch_id,)).fetchone()
        if found is None:
            return
        self._db.execute("UPDATE contents SET content = ? WHERE id = ?", (content, batch_id))
        self._db.execute("UPDATE batches SET bytes = ? WHERE id = ?", (len(content), batch_id))
        self.depth.bytes[Standing(found[0])] += len(content) - found[1]

    def delete(self, ids: Sequence[int]) -> None:
        """Let go of batches."""
        for batch_id in ids:
            found = self._db.execute(
                "DELETE FROM batches WHERE id = ? RETURNING standing, readings, bytes", (batch_id,)
            ).fetchall()
            self._db.execute("DELETE FROM contents WHERE id = ?", (batch_id,))
            for standing, readings, size in found:
                self.depth.add(Standing(standing), readings, size, sign=-1)

    def row(self, batch_id: int) -> tuple[Row, Standing] | None:
        """One batch without its content, and where it stands."""
        found = self._db.execute(f"SELECT {_ROW}, standing FROM batches WHERE id = ?", (batch_id,)).fetchone()
        return (_row(found), Standing(found[-1])) if found else None

    def reason(self, batch_id: int) -> str:
        """Why a batch is in quarantine; empty for one that is not."""
        found = self._db.execute("SELECT reason FROM batches WHERE id = ?", (batch_id,)).fetchone()
        return str(found[0]) if found else ""

    def content(self, batch_id: int) -> bytes:
        """A batch's bytes, unverified; empty if there are none."""
        found = self._db.execute("SELECT content FROM contents WHERE id = ?", (batch_id,)).fetchone()
        return bytes(found[0]) if found else b""

    def oldest(
        self, standing: Standing, limit: int, *, after_id: int = 0, data_only: bool = False, thinned: int | None = None
    ) -> list[Row]:
        """Batches of a standing, oldest first; only readings, and only those of a level, where that is asked for."""
        kinds = f"AND kind = {int(Kind.DATA)}" if data_only else ""
        levels = "" if thinned is None else f"AND thinned = {int(thinned)}"
        sql = f"SELECT {_ROW} FROM batches WHERE standing = ? AND id > ? {kinds} {levels} ORDER BY id LIMIT ?"
        return [_row(found) for found in self._db.execute(sql, (standing, after_id, limit))]

    def fullest_level(self) -> int:
        """How many times those pending readings were thinned that take most of the disk together."""
        sql = (
            f"SELECT thinned FROM batches WHERE standing = 0 AND kind = {int(Kind.DATA)}"
            " GROUP BY thinned ORDER BY sum(bytes) DESC LIMIT 1"
        )
        found = self._db.execute(sql).fetchone()
        return int(found[0]) if found else 0

    def oldest_us(self) -> int:
        """First timestamp of the oldest pending batch, 0 if there is none."""
        found = self._db.execute("SELECT from_us FROM batches WHERE standing = 0 ORDER BY id LIMIT 1").fetchone()
        return int(found[0]) if found else 0

    def expired(self, before_us: int, running_ref: int, limit: int) -> list[Row]:
        """Acknowledged batches that were acknowledged before a time, oldest first; those that explain others stay."""
        sql = (
            f"SELECT {_ROW} FROM (SELECT * FROM batches WHERE standing = 1 ORDER BY id LIMIT {_LOOKED_AT}) b"
            f" WHERE acked_us < ? AND (kind NOT IN {_EXPLAINING} OR (epoch <> ? AND NOT EXISTS"
            f" (SELECT 1 FROM batches o WHERE o.epoch = b.epoch AND (o.kind NOT IN {_EXPLAINING} OR o.standing <> 1))))"
            " ORDER BY id LIMIT ?"
        )
        return [_row(found) for found in self._db.execute(sql, (before_us, running_ref, limit))]

    def records(self, kind: Kind, *, epoch_ref: int | None = None) -> list[Row]:
        """Batches of a kind other than data, oldest first."""
        of_epoch = "" if epoch_ref is None else "AND epoch = ?"
        sql = f"SELECT {_ROW} FROM batches WHERE kind = ? AND kind <> 3 {of_epoch} ORDER BY id"
        return [_row(found) for found in self._db.execute(sql, (kind,) if epoch_ref is None else (kind, epoch_ref))]

    def last_gaps(self, limit: int) -> list[Row]:
        """The latest gap records that are still pending, the last one first."""
        sql = f"SELECT {_ROW} FROM batches WHERE kind = ? AND kind <> 3 AND standing = 0 ORDER BY id DESC LIMIT ?"
        return [_row(found) for found in self._db.execute(sql, (Kind.GAP, limit))]

    def meta(self, key: str) -> str:
        """What is remembered under a key, empty if nothing."""
        found = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return str(found[0]) if found else ""

    def set_meta(self, key: str, value: str) -> None:
        """Remember something."""
        self._db.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value)
        )

    def take_requests(self) -> list[tuple[str, int]]:
        """What an operator has asked for: verb and batch; each is given out once."""
        if self._db.execute("SELECT 1 FROM requests LIMIT 1").fetchone() is None:
            return []
        return self._db.execute("DELETE FROM requests RETURNING verb, batch_id").fetchall()

    def has_requests(self) -> bool:
        """Whether an operator has asked for something."""
        with translated():
            return self._db.execute("SELECT 1 FROM requests LIMIT 1").fetchone() is not None

    def checkpoint(self) -> None:
        """Merge the write-ahead log into the file and give its space back, as far as the disk allows."""
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def merge_every(self, pages: int) -> None:
        """Merge the write-ahead log whenever it has so many pages."""
        with translated():
            self._db.execute(f"PRAGMA wal_autocheckpoint = {int(pages)}").fetchall()

    def shrink(self, pages: int) -> None:
        """Give up to `pages` free pages back to the file system, if most of the file is empty."""
        with translated():
            free = self._db.execute("PRAGMA freelist_count").fetchone()[0]
            if free > max(_KEEP_FREE_PAGES, self._db.execute("PRAGMA page_count").fetchone()[0] // 2):
                self._db.executescript(f"PRAGMA incremental_vacuum({min(pages, free - _KEEP_FREE_PAGES)})")


def _row(found: tuple[int, ...]) -> Row:
    batch_id, epoch_ref, seq, kind, readings, from_us, to_us, size, thinned = found[:9]
    return Row(batch_id, epoch_ref, seq, known(Kind, kind), readings, from_us, to_us, size, thinned)
