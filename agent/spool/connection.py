"""Connections to the spool's file: how it is opened, its schema, and SQLite's errors in our words."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import TypeVar

from shared.errors import SpoolUnavailable

E = TypeVar("E", bound=IntEnum)

FORMAT = 1
"""`user_version` of the file."""
BUSY_TIMEOUT_S = 5.0
LOG_PAGES = 1000
"""The write-ahead log is merged into the file when it has so many pages."""

_MIGRATIONS = (
    """
    CREATE TABLE epochs (
        ref INTEGER PRIMARY KEY AUTOINCREMENT, epoch BLOB NOT NULL UNIQUE, started_us INTEGER NOT NULL,
        last_seq INTEGER NOT NULL, taken_through_us INTEGER NOT NULL) STRICT;
    CREATE TABLE batches (
        id INTEGER PRIMARY KEY AUTOINCREMENT, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, kind INTEGER NOT NULL,
        standing INTEGER NOT NULL, readings INTEGER NOT NULL, from_us INTEGER NOT NULL, to_us INTEGER NOT NULL,
        bytes INTEGER NOT NULL, acked_us INTEGER NOT NULL DEFAULT 0, thinned INTEGER NOT NULL DEFAULT 0,
        reason TEXT NOT NULL DEFAULT '') STRICT;
    CREATE UNIQUE INDEX batches_identity ON batches (epoch, seq);
    CREATE INDEX batches_standing ON batches (standing, id);
    CREATE INDEX batches_records ON batches (kind, id) WHERE kind <> 3;
    CREATE TABLE contents (id INTEGER PRIMARY KEY, content BLOB NOT NULL) STRICT;
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    CREATE TABLE requests (id INTEGER PRIMARY KEY AUTOINCREMENT, verb TEXT NOT NULL, batch_id INTEGER NOT NULL) STRICT;
    """,
)
KEPT = "it is moved aside and what is readable kept"
"""What becomes of a damaged file, for people."""


class SpoolDamaged(SpoolUnavailable):
    """The file is not a sound database any more."""


class DiskFull(SpoolUnavailable):
    """The disk, not the quota, is full."""


def translate(error: sqlite3.Error, *, opening: bool = False) -> SpoolUnavailable:
    """SQLite's errors in our words.

    Args:
        opening: the statement fits every file of ours, so that one which it does not fit is damaged.
    """
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or (opening and code == sqlite3.SQLITE_ERROR):
        return SpoolDamaged(f"the spool's file is damaged: {error}", hint=KEPT)
    if code == sqlite3.SQLITE_FULL:
        return DiskFull("the disk under the spool is full", hint="free some space; the agent carries on by itself")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return SpoolUnavailable("another program keeps the spool locked", hint="close what has spool.db open")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return SpoolUnavailable(
            f"the spool cannot be written: {error}", hint="check the data directory's owner and mount"
        )
    return SpoolUnavailable(f"the spool cannot be used: {error}", hint="check the disk")


@contextlib.contextmanager
def translated(*, opening: bool = False) -> Iterator[None]:
    """Raises SpoolUnavailable instead of SQLite's errors; see `translate`."""
    try:
        yield
    except UnicodeDecodeError as error:  # SQLite's own message quotes what is damaged
        raise SpoolDamaged("the spool's file is damaged: malformed schema", hint=KEPT) from error
    except sqlite3.Error as error:
        raise translate(error, opening=opening) from error


def known(kind: type[E], number: int) -> E:
    """The name of a number in the file. Raises: SpoolDamaged when it has none."""
    try:
        return kind(number)
    except ValueError as error:
        raise SpoolDamaged(f"the spool's file is damaged: {error}", hint=KEPT) from error


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection as the spool needs it, usable from any thread. Raises: SpoolUnavailable."""
    with translated():
        db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    db.text_factory = lambda text: text.decode(errors="replace")
    try:
        with translated(opening=True):
            if read_only:
                db.execute("PRAGMA query_only = ON")
            else:
                _prepare(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise SpoolUnavailable(
            f"{path} cannot keep a write-ahead log (journal mode {mode})", hint="put data_dir on a local disk"
        )
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
    db.execute("PRAGMA journal_size_limit = 16777216")
    db.execute("PRAGMA temp_store = MEMORY")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > FORMAT:
        raise SpoolUnavailable(f"{path} was written by a newer agent (format {version})", hint="update this agent")
    for number in range(version, FORMAT):
        db.executescript(f"BEGIN IMMEDIATE; {_MIGRATIONS[number]} PRAGMA user_version = {number + 1}; COMMIT;")
    if _schema(db) != _sound_schema():
        raise SpoolDamaged("the spool's file is damaged: its schema is another one", hint=KEPT)


def _schema(db: sqlite3.Connection) -> list[tuple[str, str]]:
    return db.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").fetchall()


@cache
def _sound_schema() -> list[tuple[str, str]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        for migration in _MIGRATIONS:
            db.executescript(migration)
        return _schema(db)
