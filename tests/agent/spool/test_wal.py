from __future__ import annotations

import random
import shutil
import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from agent.spool.connection import SpoolDamaged
from agent.spool.merge import merge, verify
from agent.spool.wal import FRAME_HEADER_BYTES, HEADER_BYTES, checksum, survey
from agent.spool.wal_index import committed_frames

PAGE = 4096
FRAME = FRAME_HEADER_BYTES + PAGE


@pytest.fixture
def crashed(tmp_path: Path) -> Callable[..., Path]:
    """Makes a file with a log as a killed process leaves it."""

    def make(commits: int = 12, *, merged_after: int = 0, page_size: int = PAGE, bytes_each: int = 3000) -> Path:
        live, left = tmp_path / "live", tmp_path / "left"
        for folder in (live, left):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        chance = random.Random(commits)
        with closing(sqlite3.connect(live / "x.db", isolation_level=None)) as db:
            db.execute(f"PRAGMA page_size = {page_size}")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, b BLOB)")
            for number in range(commits):
                db.execute("INSERT INTO t (b) VALUES (?)", (chance.randbytes(bytes_each),))
                if number + 1 == merged_after:
                    db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
            for path in live.iterdir():
                shutil.copy(path, left / path.name)
        return left / "x.db"

    return make


def log_of(path: Path) -> Path:
    return path.with_name("x.db-wal")


def flip(path: Path, at: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def rows(path: Path) -> int:
    """What SQLite finds, in a copy, so that it does not merge the original."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT count(*) FROM t").fetchone()[0])


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_a_sound_log_is_believed_to_its_end(crashed: Callable[..., Path], page_size: int) -> None:
    path = crashed(page_size=page_size)
    found = survey(log_of(path), path)
    assert found is not None
    assert found.header.page_size == page_size
    frames = (log_of(path).stat().st_size - HEADER_BYTES) // (FRAME_HEADER_BYTES + page_size)
    assert (found.believed, found.committed) == (frames, frames)
    assert committed_frames(path.with_name("x.db-shm"), found.header.salts) == frames
    assert verify(path)


def test_a_log_in_the_other_byte_order_is_read_as_sqlite_reads_it(crashed: Callable[..., Path]) -> None:
    path = crashed()
    other_byte_order(log_of(path))
    found = survey(log_of(path), path)
    assert found is not None
    assert found.header.order == ">"
    assert found.believed == found.committed > 12
    path.with_name("x.db-shm").unlink()
    assert rows(path) == 12, "so does SQLite"


def other_byte_order(log: Path) -> None:
    """Sum a log anew, as a big-endian machine would."""
    data = bytearray(log.read_bytes())
    data[3] |= 1
    sums = checksum(bytes(data[:24]), ">")
    data[24:32] = struct.pack(">II", *sums)
    for at in range(HEADER_BYTES, len(data), FRAME):
        covered = bytes(data[at : at + 8] + data[at + 24 : at + FRAME])
        for word in struct.iter_unpack(">II", covered):
            first = (sums[0] + word[0] + sums[1]) & 0xFFFFFFFF
            sums = first, (sums[1] + word[1] + first) & 0xFFFFFFFF
        data[at + 16 : at + 24] = struct.pack(">II", *sums)
    log.write_bytes(data)


def test_frames_of_an_earlier_generation_count_for_nothing(crashed: Callable[..., Path]) -> None:
    path = crashed(30, merged_after=25)
    found = survey(log_of(path), path)
    assert found is not None
    frames = (log_of(path).stat().st_size - HEADER_BYTES) // FRAME
    assert 0 < found.believed == found.committed < frames, "stale frames follow"
    assert verify(path)
    assert rows(path) == 30


@pytest.mark.parametrize("left", [0, 1, 100, FRAME - 1])
def test_a_torn_end_is_no_damage(crashed: Callable[..., Path], left: int) -> None:
    path = crashed()
    path.with_name("x.db-shm").unlink()  # the power failed
    with log_of(path).open("r+b") as log:
        log.truncate(log_of(path).stat().st_size - FRAME + left)
        log.seek(0, 2)
        log.write(bytes(FRAME - left))
    assert verify(path)
    assert rows(path) == 11


@pytest.mark.parametrize("at", [0, 4, 8, 17, 20, 24, 31])
def test_a_damaged_header_before_sound_frames_is_damage(crashed: Callable[..., Path], at: int) -> None:
    path = crashed()
    path.with_name("x.db-shm").unlink()
    flip(log_of(path), at, 1)
    with pytest.raises(SpoolDamaged):
        verify(path)
    merge(path)
    log_of(path).unlink()
    assert rows(path) == 12


@pytest.mark.parametrize("at", [0, 6, 9, 18, 22, 24, 2000])
def test_a_sound_commit_behind_a_rotten_frame_is_damage(crashed: Callable[..., Path], at: int) -> None:
    path = crashed()
    path.with_name("x.db-shm").unlink()
    flip(log_of(path), HEADER_BYTES + 9 * FRAME + at)
    with pytest.raises(SpoolDamaged, match=r"frames [789] "):
        verify(path)


def test_a_rotten_last_frame_is_damage_where_the_index_tells_of_its_commit(crashed: Callable[..., Path]) -> None:
    path = crashed()
    flip(log_of(path), log_of(path).stat().st_size - 1000)
    with pytest.raises(SpoolDamaged):
        verify(path)
    flip(path.with_name("x.db-shm"), 20)  # the first of two copies
    with pytest.raises(SpoolDamaged):
        verify(path)
    path.with_name("x.db-shm").unlink()
    assert verify(path), "without it, it looks torn"


def test_the_index_of_another_generation_tells_nothing(crashed: Callable[..., Path]) -> None:
    index = crashed(40).with_name("x.db-shm").read_bytes()
    path = crashed(3)
    path.with_name("x.db-shm").write_bytes(index)
    assert verify(path)


def test_a_log_beside_an_empty_file_is_damage(crashed: Callable[..., Path]) -> None:
    path = crashed()
    path.write_bytes(b"")
    with pytest.raises(SpoolDamaged):
        verify(path)


def test_no_file_and_no_log_and_an_empty_log_are_sound(crashed: Callable[..., Path], tmp_path: Path) -> None:
    assert not verify(tmp_path / "x.db")
    path = crashed()
    log_of(path).write_bytes(b"")
    assert not verify(path)
    log_of(path).unlink()
    assert not verify(path)


def test_merging_by_hand_yields_what_sqlite_merges(crashed: Callable[..., Path]) -> None:
    path = crashed(30, merged_after=25)
    copy = path.with_name("copy.db")
    for suffix in ("", "-wal", "-shm"):
        shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
    with closing(sqlite3.connect(copy)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    log = log_of(path).read_bytes()
    merge(path)
    merge(path)
    assert path.read_bytes() == copy.read_bytes()
    assert log_of(path).read_bytes() == log, "the log is left as it was found"
