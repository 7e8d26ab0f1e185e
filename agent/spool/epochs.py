"""The spool's table of runs: one row a start of the agent, as long as anything of it is held."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Epoch:
    """One run of the agent, as the spool remembers it."""

    ref: int
    epoch: bytes
    started_us: int
    last_seq: int
    taken_through_us: int


class Epochs:
    """The runs that one open file remembers. Part of a `Store`, and like it not thread-safe.

    Raises: SpoolUnavailable, from every method.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._refs: dict[bytes, int] = {}

    def rolled_back(self) -> None:
        """A transaction has failed: refs that it gave out are void."""
        self._refs.clear()

    def latest(self) -> Epoch | None:
        """The run before this one."""
        row = self._db.execute("SELECT * FROM epochs ORDER BY ref DESC LIMIT 1").fetchone()
        return Epoch(*row) if row else None

    def all(self) -> list[Epoch]:
        """All runs of which anything is held, oldest first."""
        return [Epoch(*row) for row in self._db.execute("SELECT * FROM epochs ORDER BY ref")]

    def add(self, epoch: bytes, started_us: int, last_seq: int = 0, taken_through_us: int = 0) -> int:
        """A new run. Returns: its ref."""
        sql = "INSERT INTO epochs (epoch, started_us, last_seq, taken_through_us) VALUES (?, ?, ?, ?) RETURNING ref"
        return int(self._db.execute(sql, (epoch, started_us, last_seq, taken_through_us)).fetchone()[0])

    def ref(self, epoch: bytes) -> int | None:
        """The ref of an epoch, if anything of it is remembered."""
        if epoch not in self._refs:
            row = self._db.execute("SELECT ref FROM epochs WHERE epoch = ?", (epoch,)).fetchone()
            if row is None:
                return None
            self._refs[epoch] = int(row[0])
        return self._refs[epoch]

    def of_ref(self, ref: int) -> bytes:
        """The 16 bytes behind a ref."""
        return bytes(self._db.execute("SELECT epoch FROM epochs WHERE ref = ?", (ref,)).fetchone()[0])

    def save(self, ref: int, last_seq: int, taken_through_us: int) -> None:
        """Remember how far a run has come."""
        sql = "UPDATE epochs SET last_seq = ?, taken_through_us = ? WHERE ref = ?"
        self._db.execute(sql, (last_seq, taken_through_us, ref))

    def advance(self, ref: int, seq: int, taken_through_us: int) -> None:
        """Remember that a run has come at least so far. Its last batch says until when: a clock that was ahead may have
        been set back before it."""
        sql = "UPDATE epochs SET last_seq = ?, taken_through_us = ? WHERE ref = ? AND last_seq < ?"
        self._db.execute(sql, (seq, taken_through_us, ref, seq))

    def forget(self, running_ref: int) -> None:
        """Drop the rows of runs of which nothing is held any more."""
        sql = "DELETE FROM epochs WHERE ref < ? AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.epoch = epochs.ref)"
        self._db.execute(sql, (running_ref,))
        self._refs.clear()
