"""Reading batches for the uplink, beside the writer and without waiting for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.spool.batch import StoredBatch
from agent.spool.connection import KEPT, SpoolDamaged, connect, known, translated
from agent.spool.gaps import ranges
from agent.spool.store import BATCH_COLUMNS, BATCH_TABLES
from shared import wire
from shared.errors import WireError
from shared.wire import Kind

RECORDS_MAX = 256
"""Dictionary or clock batches read at once."""


ACKNOWLEDGED_MAX = 10_000
"""Acknowledged batches that are told back to the hub after a restart."""


class SpoolReader:
    """A second connection, for one thread at a time. Opened at the first use.

    Every batch is verified as it is read; the ids of those that do not verify are in `corrupt` after each call.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None
        self.corrupt: list[int] = []
        self.last_id = 0
        """Where the latest `pending` ended."""
        self.exhausted = False
        """Whether there was nothing behind it."""

    def close(self) -> None:
        """Close the file; the next call opens it anew."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def pending(self, after_id: int, *, limit: int, bytes_max: int) -> list[StoredBatch]:
        """The oldest pending batches behind `after_id`: at most `limit`, and no more than the first above `bytes_max`.

        Raises: SpoolUnavailable.
        """
        ids: list[int] = []
        size = 0
        self.exhausted = False
        self.corrupt = []
        sql = "SELECT id, bytes FROM batches WHERE standing = 0 AND id > ? ORDER BY id LIMIT ?"
        for batch_id, length in self._rows(sql, (after_id, limit)):
            size += length
            if ids and size > bytes_max:
                break
            ids.append(batch_id)
        else:
            self.exhausted = len(ids) < limit
        if not ids:
            return []
        self.last_id = ids[-1]
        found = self._batches("b.standing = 0 AND b.id BETWEEN ? AND ?", (ids[0], ids[-1]))
        self._look_for(set(ids) - {batch.id for batch in found} - set(self.corrupt))
        return found

    def still_pending(self, ids: Sequence[int]) -> set[int]:
        """Those of the ids that wait for an acknowledgement. Raises: SpoolUnavailable."""
        marks = ", ".join("?" * len(ids))
        rows = self._rows(f"SELECT id FROM batches WHERE standing = 0 AND id IN ({marks})", tuple(ids))
        return {row[0] for row in rows}

    def by_id(self, ids: Sequence[int]) -> list[StoredBatch]:
        """The pending ones among these batches. Raises: SpoolUnavailable."""
        marks = ", ".join("?" * len(ids))
        return self._batches(f"b.standing = 0 AND b.id IN ({marks})", tuple(ids))

    def clock_records(self) -> list[StoredBatch]:
        """Pending clock offsets, latest first. Raises: SpoolUnavailable."""
        found = self._batches("b.kind = ? AND b.kind <> 3 AND b.standing = 0", (int(Kind.CLOCK),))
        return found[::-1][:RECORDS_MAX]

    def dictionary(self, epoch: bytes) -> list[StoredBatch]:
        """All dictionary batches of an epoch, acknowledged or not. Raises: SpoolUnavailable."""
        return self._batches("b.kind = ? AND b.kind <> 3 AND e.epoch = ?", (int(Kind.DICTIONARY), epoch))

    def acknowledged(self, limit: int) -> list[tuple[bytes, int, int]]:
        """Epoch, first and last seq of the latest acknowledged batches, as ranges, oldest first; at most `limit`.

        Raises: SpoolUnavailable.
        """
        sql = (
            "SELECT e.epoch, b.seq FROM (SELECT epoch, seq FROM batches WHERE standing = 1 ORDER BY id DESC LIMIT ?) b"
            " JOIN epochs e ON e.ref = b.epoch"
        )
        held = [(bytes(epoch).hex(), seq, seq) for epoch, seq in self._rows(sql, (ACKNOWLEDGED_MAX,))]
        return [(bytes.fromhex(epoch), first, last) for epoch, first, last in ranges(held)[-limit:]]

    def ids_of(self, epoch: bytes, first: int, last: int) -> list[int]:
        """Ids of the pending batches in a range of seqs. Raises: SpoolUnavailable."""
        sql = (
            "SELECT id FROM batches WHERE epoch = (SELECT ref FROM epochs WHERE epoch = ?)"
            " AND seq BETWEEN ? AND ? AND standing = 0"
        )
        return [row[0] for row in self._rows(sql, (epoch, first, last))]

    def _batches(self, where: str, arguments: tuple[int | bytes, ...]) -> list[StoredBatch]:
        self.corrupt = []
        rows = self._rows(f"SELECT {BATCH_COLUMNS} FROM {BATCH_TABLES} WHERE {where} ORDER BY b.id", arguments)
        found = [StoredBatch(row[0], bytes(row[1]), row[2], known(Kind, row[3]), *row[4:]) for row in rows]
        return [batch for batch in found if self._verified(batch)]

    def _look_for(self, missing: set[int]) -> None:
        """Raises: SpoolDamaged when one of these is pending and has no content; else it has gone meanwhile."""
        if missing:
            marks = ", ".join("?" * len(missing))
            sql = (
                f"SELECT id FROM batches b WHERE standing = 0 AND id IN ({marks})"
                " AND NOT EXISTS (SELECT 1 FROM contents c WHERE c.id = b.id)"
            )
            for (batch_id,) in self._rows(sql, tuple(missing)):
                self.close()
                raise SpoolDamaged(f"the spool's file is damaged: batch {batch_id} has no content", hint=KEPT)

    def _verified(self, batch: StoredBatch) -> bool:
        try:
            header = wire.read_header(batch.content)
        except (WireError, TypeError):  # what has rotted may not even be a blob any more
            self.corrupt.append(batch.id)
            return False
        if (header.epoch, header.seq) != (batch.epoch, batch.seq):
            self.corrupt.append(batch.id)
            return False
        return True

    def _rows(self, sql: str, arguments: tuple[int | bytes, ...]) -> list[tuple[Any, ...]]:
        if self._db is None:
            self._db = connect(self._path, read_only=True)
        try:
            with translated():
                return self._db.execute(sql, arguments).fetchall()
        except BaseException:
            self.close()
            raise
