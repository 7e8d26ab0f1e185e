from __future__ import annotations

import contextlib
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.spool.batch import Standing
from agent.spool.connection import SpoolDamaged
from agent.spool.reader import SpoolReader
from agent.spool.writer import SpoolWriter
from shared.clock import ManualClock
from shared.errors import SpoolUnavailable
from tests.agent.spool.contents import contents, gaps, numbers
from tests.agent.spool.readings import BEGIN_US, batch, open_spool


def fill(folder: Path, batches: int = 60, readings: int = 200) -> None:
    """A closed spool with this many batches of consecutive numbers."""
    spool = open_spool(folder)
    for number in range(batches):
        spool.append([batch(number * readings, readings, series=number % 3 + 1)])
    spool.close()


def test_a_flipped_byte_in_a_batch_sets_it_aside_and_records_the_gap(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    flip_a_byte(tmp_path, 4)
    spool = open_spool(tmp_path)
    reader = SpoolReader(spool.path)
    read = reader.pending(0, limit=100, bytes_max=1 << 20)
    assert 4 not in [one.id for one in read]
    assert reader.corrupt == [4]
    spool.marks.quarantine_corrupt(4)
    spool.flush()
    assert spool.state().quarantined_batches == 1
    reader.close()
    spool.close()
    with closing(sqlite3.connect(tmp_path / "spool.db")) as db:
        assert db.execute("SELECT standing, reason FROM batches WHERE id = 4").fetchone() == (2, "unreadable")
    forget_content(tmp_path, 4)
    [gap] = gaps(tmp_path, "corrupt")
    assert (gap.readings, gap.batches) == (200, [(contents(tmp_path)[0].batch.header.epoch.hex(), 4, 4)])


def flip_a_byte(folder: Path, batch_id: int) -> None:
    """In the content of one batch."""
    with closing(sqlite3.connect(folder / "spool.db")) as db:
        content = bytearray(db.execute("SELECT content FROM contents WHERE id = ?", (batch_id,)).fetchone()[0])
        content[150] ^= 1
        db.execute("UPDATE contents SET content = ? WHERE id = ?", (bytes(content), batch_id))
        db.commit()


def forget_content(folder: Path, batch_id: int) -> None:
    """So that `contents` can decode the rest."""
    with closing(sqlite3.connect(folder / "spool.db")) as db:
        db.execute("DELETE FROM contents WHERE id = ?", (batch_id,))
        db.commit()


@pytest.mark.parametrize("was_seen", [False, True])
def test_an_unreadable_batch_that_the_quota_drops_is_accounted_for_once(tmp_path: Path, *, was_seen: bool) -> None:
    fill(tmp_path, 3)
    flip_a_byte(tmp_path, 4)
    spool = open_spool(tmp_path, quota_bytes=64 * 1024, policy="oldest")
    if was_seen:
        spool.marks.quarantine_corrupt(4)
        spool.flush()
    for number in range(400):
        spool.append([batch(1000 + 20 * number, 20)])
    dropped = spool.state().dropped_readings
    spool.close()
    [gap] = gaps(tmp_path, "corrupt")
    assert (gap.readings, [one[1:] for one in gap.batches]) == (200, [(4, 4)])
    counted = gaps(tmp_path, "quota_oldest")
    assert all(gap.readings == sum(count for _, count in gap.counts) for gap in counted)
    assert sum(gap.readings for gap in counted) + 200 * (not was_seen) == dropped
    assert len(numbers(tmp_path)) + sum(gap.readings for gap in counted) + gap.readings == 600 + 8000


def test_many_unreadable_batches_that_the_quota_drops_leave_one_record(tmp_path: Path) -> None:
    fill(tmp_path, 12, readings=100)
    damaged = range(4, 15, 2)
    for batch_id in damaged:
        flip_a_byte(tmp_path, batch_id)
    spool = open_spool(tmp_path, quota_bytes=64 * 1024, policy="oldest")
    for number in range(400):
        spool.append([batch(2000 + 20 * number, 20)])
    spool.close()
    [gap] = gaps(tmp_path, "corrupt")
    named = {seq for _, first, last in gap.batches for seq in range(first, last + 1)}
    assert gap.readings == 100 * len(damaged)
    assert named >= set(damaged)
    counted = gaps(tmp_path, "quota_oldest")
    assert len(counted) <= 2, "they are joined, although there are other records between"
    assert len(numbers(tmp_path)) + sum(gap.readings for gap in counted) + gap.readings == 1200 + 8000


def test_what_cannot_be_read_is_not_offered_again(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    flip_a_byte(tmp_path, 4)
    spool = open_spool(tmp_path)
    spool.marks.quarantine_corrupt(4)
    spool.marks.quarantine(3, "not_yours")
    spool.flush()
    spool.marks.resend_quarantined()
    with closing(sqlite3.connect(tmp_path / "spool.db")) as db:
        db.execute("INSERT INTO requests (verb, batch_id) VALUES ('resend', 4)")
        db.commit()
    spool.flush()
    assert spool.state().quarantined_batches == 1
    spool.close()
    forget_content(tmp_path, 4)
    assert len(gaps(tmp_path, "corrupt")) == 1


def test_a_file_found_damaged_while_looking_for_requests_is_replaced(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    overwrite_table(tmp_path, "requests")
    spool = open_spool(tmp_path)
    with pytest.raises(SpoolDamaged, match="malformed"):
        spool.flush()
    spool.flush()
    assert "batches saved" in spool.error
    spool.close()
    assert numbers(tmp_path) == list(range(600))
    [moved] = tmp_path.glob("spool.damaged-*")
    assert (moved / "spool.db").exists()


def overwrite_table(folder: Path, table: str) -> None:
    """The first page of a table."""
    with closing(sqlite3.connect(folder / "spool.db")) as db:
        root = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0]
        size = db.execute("PRAGMA page_size").fetchone()[0]
    with (folder / "spool.db").open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)


def test_the_downtime_follows_the_last_run_though_the_damage_took_the_order_of_runs(tmp_path: Path) -> None:
    for first in (10_000_000, 0):  # the earlier run's clock was hours ahead
        spool = open_spool(tmp_path)
        spool.append([batch(first, 10)])
        spool.close()
    with closing(sqlite3.connect(tmp_path / "spool.db")) as db:
        first_run = [row[0] for row in db.execute("SELECT id FROM batches WHERE epoch = 1")]
        for table in ("batches", "contents"):
            db.executemany(f"UPDATE {table} SET id = id + 1000 WHERE id = ?", [(one,) for one in first_run])
        db.commit()
        page = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'epochs'").fetchone()[0]
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path = tmp_path / "spool.db"
    damaged = bytearray(path.read_bytes())
    damaged[(page - 1) * 4096 : page * 4096] = bytes(4096)
    path.write_bytes(damaged)
    open_spool(tmp_path, clock=ManualClock(BEGIN_US + 60_000_000)).close()
    [*_, downtime] = gaps(tmp_path, "downtime")
    assert (downtime.from_us, downtime.to_us) == (BEGIN_US + 9_000, BEGIN_US + 60_000_000)


@pytest.mark.parametrize("table", ["epochs", "requests"])
def test_the_downtime_follows_the_last_batch_though_the_clock_was_ahead_before_it(tmp_path: Path, table: str) -> None:
    spool = open_spool(tmp_path)
    spool.append([batch(10_000_000, 10)])  # hours ahead
    spool.append([batch(0, 10, segment=2)])
    spool.close()
    overwrite_table(tmp_path, table)
    spool = open_spool(tmp_path, clock=ManualClock(BEGIN_US + 60_000_000))
    with contextlib.suppress(SpoolDamaged):  # found while tidying up, else while opening
        spool.flush()
    spool.close()
    [downtime, *_] = gaps(tmp_path, "downtime")
    assert (downtime.from_us, downtime.to_us) == (BEGIN_US + 9_000, BEGIN_US + 60_000_000)


@pytest.mark.parametrize("seed", range(6))
def test_a_spool_with_trashed_pages_is_moved_aside_and_what_is_readable_goes_on(tmp_path: Path, seed: int) -> None:
    fill(tmp_path)
    chance = random.Random(seed)
    path = tmp_path / "spool.db"
    before = path.read_bytes()
    pages = len(before) // 4096
    damaged = bytearray(before)
    for page in chance.sample(range(1, pages), 3):
        damaged[page * 4096 : page * 4096 + 4096] = chance.randbytes(4096)
    path.write_bytes(damaged)
    survivors = drain_and_go_on(tmp_path)
    missing = 60 * 200 + 1 - len(survivors)
    assert missing <= 36 * 200, "three pages cost what was on them"
    assert not missing or gaps(tmp_path, "corrupt")
    assert set(survivors) <= {*range(60 * 200), 1_000_000}, "and nothing that was never taken appears"
    assert survivors[-1] == 1_000_000


@pytest.mark.parametrize("size", [0, 50, 100, 4096, 8192 + 17])
def test_a_file_that_was_cut_off_is_replaced(tmp_path: Path, size: int) -> None:
    fill(tmp_path)
    path = tmp_path / "spool.db"
    path.write_bytes(path.read_bytes()[:size])
    assert drain_and_go_on(tmp_path)[-1] == 1_000_000


@pytest.mark.parametrize("policy", ["oldest", "thin"])
def test_what_a_quota_has_dropped_does_not_come_back_from_a_damaged_file(tmp_path: Path, policy: str) -> None:
    spool = open_spool(tmp_path, quota_bytes=256 * 1024, policy=policy)
    for number in range(200):
        spool.append([batch(number * 400 + part * 40, 40) for part in range(10)])
    there = numbers(tmp_path)
    said = sum(gap.readings for gap in gaps(tmp_path, f"quota_{policy}"))
    assert len(there) + said == 80_000
    left = tmp_path / "left"
    left.mkdir()
    for file in tmp_path.glob("spool.db*"):
        (left / file.name).write_bytes(file.read_bytes())
    spool.close()
    log = bytearray((left / "spool.db-wal").read_bytes())
    log[32 + 24 + 100] ^= 1
    (left / "spool.db-wal").write_bytes(log)
    saved = open_spool(left)
    found = numbers(left)
    saved.close()
    assert list(left.glob("spool.damaged-*"))
    assert set(found) <= set(there)
    assert sum(gap.readings for gap in gaps(left, f"quota_{policy}")) <= said


def test_a_file_of_something_else_is_moved_aside_and_reported(tmp_path: Path) -> None:
    (tmp_path / "spool.db").write_bytes(b"nothing of the kind" * 1000)
    spool = open_spool(tmp_path)
    assert "moved to" in spool.error
    spool.close()
    [aside] = tmp_path.glob("spool.damaged-*")
    assert (aside / "spool.db").read_bytes().startswith(b"nothing of the kind")
    assert gaps(tmp_path, "corrupt")


def drain_and_go_on(folder: Path) -> list[int]:
    """Open, append one more, read everything as the uplink does; the numbers that can be sent in the end."""
    spool = open_spool(folder)
    with contextlib.suppress(SpoolUnavailable):  # a file that is being replaced refuses once
        spool.append([batch(1_000_000, 1)])
    if not spool.state().pending_readings or 1_000_000 not in numbers(folder, standing=Standing.PENDING)[-1:]:
        spool.append([batch(1_000_000, 1)])
    reader = SpoolReader(spool.path)
    read_all(reader, spool)
    spool.flush()
    reader.close()
    spool.close()
    return numbers(folder, standing=Standing.PENDING)


def read_all(reader: SpoolReader, spool: SpoolWriter) -> None:
    """From the oldest on; from the beginning again when the file had to be replaced."""
    after_id = 0
    while True:
        try:
            page = reader.pending(after_id, limit=16, bytes_max=1 << 20)
        except SpoolDamaged as error:
            spool.damaged(error)
            after_id = 0
            continue
        for batch_id in reader.corrupt:
            spool.marks.quarantine_corrupt(batch_id)
        if not page and not reader.corrupt:
            return
        after_id = max([one.id for one in page] + reader.corrupt)
