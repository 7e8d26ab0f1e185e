"""What an agent has taken, as its own spool file shows it: read with SQLite and struct, past the product.

A reading is known by (agent, point, number): the instrument never gives a number twice. The three make one int64 key.
Only the columns inside a batch are decoded with `shared.wire`; the identity is parsed here, and must be that of the
row in which the batch lies.
"""

from __future__ import annotations

import contextlib
import sqlite3
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared import wire
from shared.columns import DecodedColumns
from shared.errors import WireError
from shared.records import Dictionary

Keys = NDArray[np.int64]
Identity = tuple[bytes, int]

POINT_SHIFT = 32
AGENT_SHIFT = 48
NUMBER = np.int64((1 << POINT_SHIFT) - 1)
_IDENTITY = struct.Struct("<28x16sQ")
_PENDING, _ACKED, _QUARANTINED = 0, 1, 2
_BATCH = (
    "SELECT b.id, e.epoch, b.seq, b.kind, c.content FROM batches b JOIN epochs e ON e.ref = b.epoch"
    " JOIN contents c ON c.id = b.id"
)
_NONE = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Taken:
    """One batch of readings that was seen in a spool; its first and last number, and its times by the agent's clock."""

    keys: Keys
    first: int
    last: int
    from_us: int
    to_us: int

    @staticmethod
    def of(keys: Keys, from_us: int, to_us: int) -> Taken:
        """With the numbers found from the keys."""
        numbers = keys & NUMBER
        return Taken(keys, int(numbers.min()), int(numbers.max()), from_us, to_us)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a spool holds at one moment, by identity."""

    pending: frozenset[Identity]
    quarantined: frozenset[Identity]


@dataclass(slots=True)
class Evidence:
    """All that one agent was seen to take. Not thread-safe.

    Args:
        agent: its number.

    Attributes:
        last: the greatest number that was taken.
        destroyed: keys that went with a disk that somebody replaced.
        harmed: batches that somebody damaged on the disk beyond reading; no others may be given up as corrupt.
        foreign: batches whose own identity is not that of their row.
    """

    agent: int
    taken: dict[Identity, Taken] = field(default_factory=dict)
    last: int = 0
    destroyed: list[Keys] = field(default_factory=list)
    harmed: set[Identity] = field(default_factory=set)
    foreign: set[Identity] = field(default_factory=set)
    _points: dict[tuple[bytes, int], int] = field(default_factory=dict)
    _read_through: dict[Path, int] = field(default_factory=dict)

    def look(self, spool: Path, *, down: bool = False) -> Standing | None:
        """Read what is new, and what stands where. Returns: None when the file cannot be read now.

        Args:
            down: nobody runs on it: a copy is read.
        """
        try:
            if not down:
                return self._read(spool, spool)
            with copy_of(spool) as copied:
                return self._read(copied, spool)
        except (sqlite3.Error, OSError, subprocess.SubprocessError):
            return None

    def reread(self, spool: Path) -> None:
        """The file is another one than before."""
        self._read_through.pop(spool, None)

    def withdraw(self, identities: Iterable[Identity]) -> int:
        """Somebody has destroyed what was taken, disk and all. Returns: how many readings that were."""
        gone = [taken.keys for identity in identities if (taken := self.taken.pop(identity, None)) is not None]
        self.destroyed += gone
        return sum(map(len, gone))

    def copy(self) -> Evidence:
        """As it stands now, for a judge who takes his time."""
        return Evidence(
            self.agent, dict(self.taken), self.last, list(self.destroyed), set(self.harmed), set(self.foreign)
        )

    def keys(self, first: int = 1) -> Keys:
        """Everything taken from a number on."""
        parts = [
            batch.keys if batch.first >= first else batch.keys[(batch.keys & NUMBER) >= first]
            for batch in self.taken.values()
            if batch.last >= first
        ]
        return np.concatenate(parts) if parts else _NONE

    def of(self, identities: Iterable[Identity]) -> Keys:
        """What is in these batches, as far as they were seen."""
        parts = [self.taken[identity].keys for identity in identities if identity in self.taken]
        return np.concatenate(parts) if parts else _NONE

    def _read(self, path: Path, known_as: Path) -> Standing:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=2.0)) as db:
            db.execute("BEGIN")
            try:
                self._read_new(db, known_as)
                standing = _standing(db)
                self._read_rewritten(db, standing)
                return standing
            except sqlite3.DatabaseError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_CORRUPT:
                    raise
                return self._read_around_damage(db)

    def _read_new(self, db: sqlite3.Connection, known_as: Path) -> None:
        after = self._read_through.get(known_as, 0)
        for kind in (int(wire.Kind.DICTIONARY), int(wire.Kind.DATA)):  # names first
            for row in db.execute(f"{_BATCH} WHERE b.id > ? AND b.kind = ? ORDER BY b.id", (after, kind)):
                self._note(row)
                self._read_through[known_as] = max(self._read_through.get(known_as, 0), row[0])

    def _read_rewritten(self, db: sqlite3.Connection, standing: Standing) -> None:
        """Thinned and relabelled batches have a new identity in an old row."""
        for epoch, seq in (standing.pending | standing.quarantined) - self.taken.keys():
            for row in db.execute(f"{_BATCH} WHERE e.epoch = ? AND b.seq = ?", (epoch, seq)):
                self._note(row)

    def _read_around_damage(self, db: sqlite3.Connection) -> Standing:
        """Batch by batch: damage that the agent has not come across yet must not blind the one who did it."""
        found: dict[int, set[Identity]] = {_PENDING: set(), _ACKED: set(), _QUARANTINED: set()}
        last = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'batches'").fetchone()
        for batch_id in range(1, (last[0] if last else 0) + 1):
            with contextlib.suppress(sqlite3.DatabaseError):
                sql = "SELECT e.epoch, b.seq, b.standing FROM batches b JOIN epochs e ON e.ref = b.epoch WHERE b.id = ?"
                for epoch, seq, stands in db.execute(sql, (batch_id,)):
                    found[stands].add((bytes(epoch), seq))
                for row in db.execute(f"{_BATCH} WHERE b.id = ?", (batch_id,)):
                    self._note(row)
        return Standing(frozenset(found[_PENDING]), frozenset(found[_QUARANTINED]))

    def _note(self, row: tuple[int, bytes, int, int, bytes]) -> None:
        """Take up one batch, as `_BATCH` reads it."""
        identity, kind, content = (bytes(row[1]), row[2]), row[3], bytes(row[4])
        if kind not in (wire.Kind.DATA, wire.Kind.DICTIONARY) or identity in self.taken:
            return
        try:
            batch = wire.decode(content)
        except WireError:
            return  # damaged on purpose; what it held was noted when it was sound
        if tuple(_IDENTITY.unpack_from(content)) != identity:
            self.foreign.add(identity)
            return
        if isinstance(batch.content, Dictionary):
            for entry in batch.content.series:
                self._points[identity[0], entry.ref] = int(entry.sensor.rpartition(".p")[2])
        elif isinstance(batch.content, DecodedColumns):
            columns = batch.content.columns
            refs, places = np.unique(columns.series, return_inverse=True)
            known = [self._points.get((identity[0], int(ref))) for ref in refs]
            if None in known:
                return  # its dictionary was destroyed before it was seen
            points = np.array(known, np.int64)[places]
            keys = key_of(self.agent, points, columns.raw.astype(np.int64))
            times_us = columns.timestamp_us
            self.taken[identity] = taken = Taken.of(keys, int(times_us.min()), int(times_us.max()))
            self.last = max(self.last, taken.last)


@contextlib.contextmanager
def copy_of(spool: Path) -> Iterator[Path]:
    """The file with its log, so that SQLite does not tidy up the original."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        files = [str(path) for path in spool.parent.glob("spool.db*")]
        subprocess.run(["cp", *files, folder], check=True, timeout=60)
        yield Path(folder) / spool.name


def _standing(db: sqlite3.Connection) -> Standing:
    """Batches of readings that are not acknowledged."""
    found: dict[int, set[Identity]] = {_PENDING: set(), _QUARANTINED: set()}
    for epoch, seq, stands in db.execute(
        "SELECT e.epoch, b.seq, b.standing FROM batches b JOIN epochs e ON e.ref = b.epoch"
        " WHERE b.standing IN (?, ?) AND b.kind = ?",
        (_PENDING, _QUARANTINED, int(wire.Kind.DATA)),
    ):
        found[stands].add((bytes(epoch), seq))
    return Standing(frozenset(found[_PENDING]), frozenset(found[_QUARANTINED]))


def key_of(agent: int, points: Keys, numbers: Keys) -> Keys:
    """One int64 for each (agent, point, number)."""
    return (np.int64(agent) << AGENT_SHIFT) | (points << POINT_SHIFT) | numbers
