"""The witness: what it says after a crash, and what the agent concludes when the spool holds less."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from agent.spool.wal import FRAME_HEADER_BYTES, HEADER_BYTES, survey
from agent.spool.witness import heard, tell
from tests.agent.spool.contents import gaps, numbers
from tests.agent.spool.readings import batch, open_spool

TRY_LOCK = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 128)  # SQLite's "dead man's switch"
        print("free")
    except OSError:
        print("held")
"""
FRAME = FRAME_HEADER_BYTES + 4096


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """What an agent leaves that was killed after ten commits, each of one batch with one reading."""
    with lived(tmp_path / "live") as live:
        shutil.copytree(live, tmp_path / "left")
    return tmp_path / "left"


@contextmanager
def lived(folder: Path) -> Iterator[Path]:
    spool = open_spool(folder)
    for number in range(10):
        spool.append([batch(number, 1)])
    yield folder
    spool.close()


def rot_last_frame(folder: Path) -> None:
    """In the last frame of the last commit: its end looks torn."""
    log = folder / "spool.db-wal"
    found = survey(log, folder / "spool.db")
    assert found is not None
    data = bytearray(log.read_bytes())
    data[HEADER_BYTES + found.committed * FRAME - 100] ^= 1
    log.write_bytes(data)


def look(folder: Path, mode: str) -> None:
    """As a backup or `sqlite3` does."""
    with closing(sqlite3.connect(f"file:{folder / 'spool.db'}?mode={mode}", uri=True)) as db:
        db.execute("SELECT count(*) FROM batches").fetchone()


def test_it_says_how_far_the_epoch_was_committed(killed: Path) -> None:
    said = heard(killed / "spool.db")
    assert said is not None
    with closing(sqlite3.connect(killed / "spool.db")) as db:
        assert db.execute("SELECT epoch, last_seq FROM epochs").fetchall() == [(said.epoch, said.seq)]


@pytest.mark.skipif(sys.platform == "win32", reason="SQLite locks otherwise there")
def test_an_agent_that_takes_batches_keeps_its_locks_against_other_processes(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append([batch(0, 1)])
    index = tmp_path / "spool.db-shm"
    held = subprocess.run(
        [sys.executable, "-c", TRY_LOCK, str(index)], capture_output=True, text=True, timeout=60, check=False
    )
    spool.close()
    assert held.stdout.strip() == "held", held.stderr


def test_a_last_commit_that_rotted_is_named_although_somebody_looked_first(killed: Path) -> None:
    said = heard(killed / "spool.db")
    assert said is not None
    rot_last_frame(killed)
    look(killed, "ro")
    open_spool(killed).close()
    assert numbers(killed) == list(range(9))
    [gap] = gaps(killed, "corrupt")
    assert gap.batches == [(said.epoch.hex(), said.seq, said.seq)]


def test_what_somebody_has_merged_away_is_named(killed: Path) -> None:
    said = heard(killed / "spool.db")
    assert said is not None
    log = killed / "spool.db-wal"
    data = bytearray(log.read_bytes())
    data[HEADER_BYTES + (len(data) // FRAME // 2) * FRAME + 500] ^= 1
    log.write_bytes(data)
    look(killed, "rw")
    assert not log.exists()
    held = numbers(killed)
    assert held == list(range(len(held)))
    assert len(held) < 10
    open_spool(killed).close()
    [gap] = gaps(killed, "corrupt")
    assert gap.batches == [(said.epoch.hex(), said.seq - (10 - len(held)) + 1, said.seq)]
    open_spool(killed).close()
    assert len(gaps(killed, "corrupt")) == 1, "named once"


def test_a_spool_that_was_put_back_without_its_witness_names_what_it_lacks(killed: Path, tmp_path: Path) -> None:
    with lived(tmp_path / "older") as older:
        shutil.copytree(older, tmp_path / "copy")
    said = heard(killed / "spool.db")
    assert said is not None
    for suffix in ("", "-wal", "-shm"):
        shutil.copy(tmp_path / "copy" / f"spool.db{suffix}", killed / f"spool.db{suffix}")
    open_spool(killed).close()
    [gap] = gaps(killed, "corrupt")
    assert gap.batches == [(said.epoch.hex(), 1, said.seq)]


def test_a_witness_of_an_earlier_moment_tells_of_no_loss(killed: Path) -> None:
    spool = killed / "spool.db"
    said = heard(spool)
    assert said is not None
    tell(spool, said.epoch, said.seq - 3)
    opened = open_spool(killed)
    opened.close()
    assert not opened.error
    assert not gaps(killed, "corrupt")
    assert numbers(killed) == list(range(10))


@pytest.mark.parametrize("place", range(0, 32, 5))
def test_a_witness_with_a_rotten_bit_is_none(killed: Path, place: int) -> None:
    path = killed / "spool.witness"
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1
    path.write_bytes(data)
    assert heard(killed / "spool.db") is None
    open_spool(killed).close()
    assert numbers(killed) == list(range(10))


def test_a_witness_that_was_cut_off_is_none(killed: Path) -> None:
    path = killed / "spool.witness"
    path.write_bytes(path.read_bytes()[:20])
    assert heard(killed / "spool.db") is None


def test_one_that_cannot_be_written_is_removed_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = open_spool(tmp_path)
    path = tmp_path / "spool.witness"
    assert path.exists()

    class Worn:
        def seek(self, place: int) -> None:
            raise OSError("input/output error")

        def close(self) -> None:
            raise OSError("input/output error")

    spool.append([batch(0, 1)])
    spool._file._witness.close()
    monkeypatch.setattr(spool._file._witness, "_file", Worn())
    spool.append([batch(1, 1)])
    assert not path.exists()
    spool.append([batch(2, 1)])
    spool.close()
    assert heard(tmp_path / "spool.db") is not None, "made anew"
    assert numbers(tmp_path) == [0, 1, 2]
