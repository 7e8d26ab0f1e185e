"""Bits that rot in the spool's files while nobody runs: whatever was committed is there, set aside or named."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.spool.batch import Standing
from agent.spool.cli import main
from agent.spool.connection import SpoolDamaged
from agent.spool.reader import SpoolReader
from agent.spool.salvage import _contents, move_aside_and_save
from agent.spool.writer import SpoolWriter
from shared.errors import SpoolUnavailable
from shared.records import Gap
from shared.wire import Kind, decode
from tests.agent.spool.contents import contents, gaps, numbers
from tests.agent.spool.readings import batch, open_spool

ROOT = Path(__file__).parents[3]
LIVES = 8
HEADER_BYTES = 100
"""Of a SQLite file; its formats and versions lie there."""

Identity = tuple[bytes, int]


@dataclass(frozen=True)
class Life:
    """What a killed agent has left, and which batches it had not been told to be stored at the hub."""

    folder: Path
    unacknowledged: frozenset[Identity]


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> list[Life]:
    """Agents that took batches of all sizes and were killed with the log unmerged."""
    return [_lived(tmp_path_factory.mktemp("life"), seed) for seed in range(LIVES)]


def _lived(folder: Path, seed: int) -> Life:
    left = folder / "left"
    with subprocess.Popen(
        [sys.executable, "-m", "tests.agent.spool.filler", str(left), str(seed)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) > 0
        process.kill()
    shutil.copytree(left, folder / "looked at")
    found = contents(folder / "looked at", standing=Standing.PENDING)
    return Life(left, frozenset((one.batch.header.epoch, one.batch.header.seq) for one in found))


@contextlib.contextmanager
def copied(life: Life) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rot-") as folder:
        shutil.copytree(life.folder, folder, dirs_exist_ok=True)
        yield Path(folder)


@settings(max_examples=50, deadline=None)
@given(which=st.integers(0, LIVES - 1), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_bit_that_rots_in_the_log_costs_no_more_than_is_named(
    lives: list[Life], which: int, place: float, bit: int
) -> None:
    assert_accounted_for(lives[which], "spool.db-wal", place, bit)


@settings(max_examples=50, deadline=None)
@given(which=st.integers(0, LIVES - 1), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_bit_that_rots_in_the_file_costs_no_more_than_is_named(
    lives: list[Life], which: int, place: float, bit: int
) -> None:
    assert_accounted_for(lives[which], "spool.db", place, bit)


@settings(max_examples=20, deadline=None)
@given(which=st.integers(0, LIVES - 1), place=st.floats(0, 1, exclude_max=True), noise=st.binary(min_size=512))
def test_a_sector_of_the_log_that_is_overwritten_costs_no_more_than_is_named(
    lives: list[Life], which: int, place: float, noise: bytes
) -> None:
    with copied(lives[which]) as folder:
        log = folder / "spool.db-wal"
        data = bytearray(log.read_bytes())
        at = int(place * len(data)) // 512 * 512
        data[at : at + 512] = noise[: len(data) - at][:512]
        log.write_bytes(data)
        assert not unaccounted_for(lives[which], folder)


@settings(max_examples=30, deadline=None)
@given(
    which=st.integers(0, LIVES - 1),
    place=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
    mode=st.sampled_from(("ro", "rw")),
)
def test_a_rotten_log_that_somebody_else_opens_first_costs_no_more_than_is_named(
    lives: list[Life], which: int, place: float, bit: int, mode: str
) -> None:
    with copied(lives[which]) as folder:
        _flip(folder / "spool.db-wal", place, bit)
        uri = f"file:{folder / 'spool.db'}?mode={mode}"
        with closing(sqlite3.connect(uri, uri=True)) as db, contextlib.suppress(sqlite3.Error):
            db.execute("SELECT count(*) FROM batches").fetchone()
        assert not unaccounted_for(lives[which], folder)


def assert_accounted_for(life: Life, name: str, place: float, bit: int) -> None:
    with copied(life) as folder:
        at = _flip(folder / name, place, bit)
        if name == "spool.db" and at < HEADER_BYTES:
            with contextlib.suppress(SpoolUnavailable):  # it may refuse to start, and the operator is told
                assert not unaccounted_for(life, folder)
        else:
            assert not unaccounted_for(life, folder), f"byte {at} of {name}"


def _flip(path: Path, place: float, bit: int) -> int:
    """Returns: the byte in which a bit was changed."""
    data = bytearray(path.read_bytes())
    at = int(place * len(data))
    data[at] ^= 1 << bit
    path.write_bytes(data)
    return at


def unaccounted_for(life: Life, folder: Path) -> set[Identity]:
    """Start an agent; the batches that it neither offers, nor has in quarantine, nor names as lost."""
    spool = open_spool(folder)
    reader = SpoolReader(spool.path)
    offered = _offered(spool, reader)
    with contextlib.suppress(SpoolDamaged):  # found while tidying up; the next attempt has the new file
        spool.flush()
    spool.flush()
    offered |= _offered(spool, reader)
    reader.close()
    spool.close()
    left = life.unacknowledged - offered - _quarantined(folder)
    named = _named(folder)
    return {
        (epoch, seq)
        for epoch, seq in left
        if not any(name == epoch.hex() and first <= seq <= last for name, first, last in named)
    }


def _offered(spool: SpoolWriter, reader: SpoolReader) -> set[Identity]:
    """As the uplink reads: from the oldest on, and from the beginning again when the file was replaced."""
    offered: set[Identity] = set()
    after_id = 0
    while True:
        try:
            page = reader.pending(after_id, limit=16, bytes_max=1 << 20)
        except SpoolDamaged as error:
            spool.damaged(error)
            after_id = 0
            continue
        offered |= {(one.epoch, one.seq) for one in page}
        for batch_id in reader.corrupt:
            spool.marks.quarantine_corrupt(batch_id)
        if not page and not reader.corrupt:
            return offered
        after_id = reader.last_id


def _quarantined(folder: Path) -> set[Identity]:
    with closing(sqlite3.connect(folder / "spool.db")) as db:
        sql = "SELECT e.epoch, seq FROM batches JOIN epochs e ON e.ref = batches.epoch WHERE standing = 2"
        return {(bytes(epoch), seq) for epoch, seq in db.execute(sql)}


def _named(folder: Path) -> list[tuple[str, int, int]]:
    with closing(sqlite3.connect(folder / "spool.db")) as db:
        sql = "SELECT content FROM contents JOIN batches USING (id) WHERE kind = ? AND standing = 0"
        found = [decode(content).content for (content,) in db.execute(sql, (Kind.GAP,))]
    return [named for gap in found if isinstance(gap, Gap) and gap.cause == "corrupt" for named in gap.batches]


def test_looking_at_a_spool_whose_agent_is_down_leaves_its_damage_to_the_agent(
    lives: list[Life], capsys: pytest.CaptureFixture[str]
) -> None:
    with copied(lives[1]) as folder:
        log = folder / "spool.db-wal"
        data = bytearray(log.read_bytes())
        data[500] ^= 1
        log.write_bytes(data)
        assert main([], folder) == 1
        assert "start the agent" in capsys.readouterr().err
        assert log.read_bytes() == data
        assert not unaccounted_for(lives[1], folder)
        assert main([], folder) == 0


def test_an_id_that_has_rotted_and_leads_back_keeps_saving_from_no_end(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    rows = [(number, b"content %02d" % number) for number in range(1, 61)]
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE contents (id INTEGER PRIMARY KEY, content BLOB NOT NULL)")
        db.executemany("INSERT INTO contents VALUES (?, ?)", rows)
        db.commit()
    data = bytearray(path.read_bytes())
    at = data.index(b"content 30") - 4  # the cell's id, between its length and the record's header
    assert data[at] == 30
    data[at] = 5
    path.write_bytes(data)
    with closing(sqlite3.connect(path)) as db:
        ids = [number for number, _ in islice(_contents(db), 1000)]
    assert ids == sorted(set(ids))
    assert ids[-1] == 60


def test_a_content_under_the_id_of_another_does_not_stand_where_that_one_stood(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    for number in range(40):
        spool.append([batch(number, 1)])
    first_id = contents(tmp_path)[-40].id
    spool.marks.acknowledge(spool.epoch, 1, first_id + 5)
    spool.flush()
    spool.close()
    path = tmp_path / "spool.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("DELETE FROM contents WHERE id = ?", (first_id,))
        db.execute("UPDATE contents SET id = ? WHERE id = ?", (first_id, first_id + 20))
        db.commit()
    move_aside_and_save(path, now_us=1)
    assert 20 in numbers(tmp_path, standing=Standing.PENDING)


def test_a_saving_that_was_interrupted_is_done_again(lives: list[Life]) -> None:
    with copied(lives[0]) as folder:
        aside = folder / "spool.damaged-1700000000000000"
        aside.mkdir()
        (aside / "unsaved").touch()
        (folder / "spool.db").rename(aside / "spool.db")
        (aside / "saved.db").write_bytes(b"as far as it had come")
        assert not unaccounted_for(lives[0], folder)
        assert (aside / "spool.db-wal").exists(), "what had not been moved yet is moved"
        assert not list(aside.glob("unsaved"))
        assert not list(aside.glob("saved.db*"))


def test_a_saving_that_fails_is_repeated_by_the_same_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = open_spool(tmp_path)
    spool.append([batch(0, 5)])
    refusals = iter([True])

    def refusing(path: Path) -> None:
        if next(refusals, False):
            raise OSError("the disk is full")

    monkeypatch.setattr("agent.spool.salvage.merge", refusing)
    with pytest.raises(SpoolUnavailable):
        spool.damaged(SpoolDamaged("as reading found"))
    spool.append([batch(5, 5)])
    spool.close()
    [gap] = gaps(tmp_path, "corrupt")
    assert gap.batches == []
    assert len([one for one in contents(tmp_path) if one.batch.header.kind == 3]) == 2


def test_the_gap_is_written_down_even_by_the_agent_after_the_next(lives: list[Life]) -> None:
    with copied(lives[1]) as folder:
        log = folder / "spool.db-wal"
        data = bytearray(log.read_bytes())
        data[20 * 4120 + 500] ^= 1
        log.write_bytes(data)
        for _ in range(2):
            open_spool(folder).close()
        assert len(gaps(folder, "corrupt")) == 1
