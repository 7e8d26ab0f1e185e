"""What the bench holds to be harmed on a disk: exactly what cannot be put together any more."""

from __future__ import annotations

import contextlib
import sqlite3
import struct
from pathlib import Path
from random import Random

import pytest

from bench.chaos.damage import MAGIC, flip_log
from bench.chaos.evidence import Identity
from bench.chaos.harm import beyond_reading, pages_of

EPOCH = bytes(range(16))
PAGE_BYTES = 4096


def content(seq: int, size: int) -> bytes:
    """As much of a batch as counts here: its magic, its identity, and noise."""
    head = MAGIC + bytes(24) + struct.pack("<16sQ", EPOCH, seq)
    return head + Random(seq).randbytes(size - len(head))


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """A file with batches of many sizes, partly in its log."""
    path = tmp_path / "spool.db"
    for part in (range(1, 40), range(40, 80)):
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            db.execute("CREATE TABLE IF NOT EXISTS contents (id INTEGER PRIMARY KEY, content BLOB NOT NULL)")
            db.executemany("INSERT INTO contents VALUES (?, ?)", [(seq, content(seq, size(seq))) for seq in part])
            db.commit()
            if part.start > 1:
                kept = path.with_name("spool.db-wal").read_bytes()
    path.with_name("spool.db-wal").write_bytes(kept)
    return path


def size(seq: int) -> int:
    return 100 + 137 * seq


WHOLE: dict[Identity, bytes] = {(EPOCH, seq): content(seq, size(seq)) for seq in range(1, 80)}


def harmed(spool: Path) -> set[int]:
    return {seq for _, seq in beyond_reading(WHOLE, pages_of(spool, PAGE_BYTES), PAGE_BYTES)}


def test_a_sound_file_has_harmed_nothing(spool: Path) -> None:
    assert harmed(spool) == set()


def test_a_batch_without_a_byte_of_it_is_harmed_and_no_other(spool: Path) -> None:
    for seq in (1, 20, 39):
        spool.with_name("spool.db-wal").unlink(missing_ok=True)
        before = spool.read_bytes()
        at = before.index(content(seq, size(seq))[:300][-40:])
        spool.write_bytes(before[:at] + bytes((before[at] ^ 1,)) + before[at + 1 :])
        assert harmed(spool) & set(range(1, 40)) == {seq}
        spool.write_bytes(before)


def test_a_lost_page_harms_what_had_a_piece_on_it(spool: Path) -> None:
    spool.with_name("spool.db-wal").unlink()
    before = spool.read_bytes()
    last = content(39, size(39))[-50:]
    page = before.index(last) // PAGE_BYTES
    spool.write_bytes(before[: page * PAGE_BYTES] + bytes(PAGE_BYTES) + before[(page + 1) * PAGE_BYTES :])
    assert 39 in harmed(spool)
    assert len(harmed(spool) & set(range(1, 40))) < 4


def test_a_lost_log_harms_what_was_only_there(spool: Path) -> None:
    spool.with_name("spool.db-wal").unlink()
    merged = spool.read_bytes()
    assert harmed(spool) <= set(range(1, 80))
    spool.write_bytes(merged[: len(merged) // PAGE_BYTES // 2 * PAGE_BYTES])
    assert harmed(spool)


def test_bits_that_flip_in_the_log_harm_no_more_than_they_hit(spool: Path) -> None:
    log = spool.with_name("spool.db-wal")
    before, random = log.read_bytes(), Random(5)
    for _ in range(20):
        assert flip_log(spool, random, 3) == 3
        changed = [at for at, (one, other) in enumerate(zip(before, log.read_bytes(), strict=True)) if one != other]
        assert len(changed) <= 3
        assert min(changed) >= 32, "the log's own header is left alone"
        assert len(harmed(spool)) <= 3
        log.write_bytes(before)


def test_no_log_no_flips(spool: Path) -> None:
    spool.with_name("spool.db-wal").unlink()
    assert flip_log(spool, Random(1), 3) == 0
