"""Batches of which the newest copy of a page, or the way to it, has rotted."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.spool.salvage import move_aside_and_save
from agent.spool.writer import SpoolWriter
from shared.clock import ManualClock
from tests.agent.spool.filler import noise
from tests.agent.spool.readings import BEGIN_US, batch, open_spool
from tests.agent.spool.surviving import FRAME_HEADER, LOG_HEADER, PAGE, pieces

FRAME = FRAME_HEADER + PAGE
FILES = ("spool.db", "spool.db-wal", "spool.db-shm")


class Spool:
    """A spool with large batches, and the files that it would leave if its agent were killed now."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(BEGIN_US)
        self.writer: SpoolWriter = open_spool(folder / "live", clock=self.clock, retain_acked_s=60.0)
        self.left = folder / "left"
        self._folder = folder
        self._chance = random.Random(1)
        self._taken: list[tuple[int, bytes]] = []

    def take(self) -> bytes:
        """Append a batch of a leaf and four more pages. Returns: its content."""
        self.writer.on_append = lambda batches: bool(self._taken.extend((one.seq, one.content) for one in batches))
        self.writer.append([noise(3000 * len(self._taken), 2000, self._chance)])
        self.writer.on_append = None
        return self._taken[-1][1]

    def let_go(self) -> None:
        """Have the latest batch acknowledged and deleted, so that its pages are free."""
        seq = self._taken[-1][0]
        self.writer.marks.acknowledge(self.writer.epoch, seq, seq)
        self.clock.advance_s(61.0)
        self.writer.flush()

    def merge_log(self, how: str = "PASSIVE") -> None:
        """As SQLite does now and then."""
        with closing(sqlite3.connect(self.writer.path)) as db:
            db.execute(f"PRAGMA wal_checkpoint({how})").fetchall()

    def leave(self) -> None:
        """Copy the files."""
        self.left.mkdir()
        for name in FILES:
            shutil.copy(self._folder / "live" / name, self.left / name)

    def flip(self, name: str, piece: bytes, at: int) -> None:
        """Change a bit that far from the beginning of the latest copy of a piece."""
        data = bytearray((self.left / name).read_bytes())
        data[data.rindex(piece) + at] ^= 1
        (self.left / name).write_bytes(data)

    def saved(self) -> set[bytes]:
        """What is in the new file."""
        move_aside_and_save(self.left / "spool.db", now_us=BEGIN_US)
        with closing(sqlite3.connect(self.left / "spool.db")) as db:
            return {content for (content,) in db.execute("SELECT content FROM contents")}


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(tmp_path)
    yield made
    made.writer.close()


@pytest.mark.parametrize("leads", [0, 1], ids=["behind the leaf", "of the next page"])
def test_a_number_of_a_page_that_rots_in_the_log_costs_no_batch(spool: Spool, leads: int) -> None:
    content = spool.take()
    spool.leave()
    piece = pieces(content)[leads]
    spool.flip("spool.db-wal", piece, len(piece) + 3 if leads == 0 else -1)
    assert content in spool.saved()


@pytest.mark.parametrize("at", [3, 8, 20], ids=["the page's number", "the salt", "the checksum"])
def test_a_frames_header_that_rots_costs_no_batch(spool: Spool, at: int) -> None:
    content = spool.take()
    spool.leave()
    spool.flip("spool.db-wal", pieces(content)[2], -4 - FRAME_HEADER + at)
    assert content in spool.saved()


def test_a_page_that_was_merged_before_its_frame_rotted_is_not_lost_to_an_older_frame(spool: Spool) -> None:
    spool.take()
    spool.let_go()
    content = spool.take()
    spool.merge_log()
    spool.leave()
    log = (spool.left / "spool.db-wal").read_bytes()
    rotting = pieces(content)[2]
    assert len(frames_of(log, page_of(log, log.index(rotting)))) > 1, "the page had been another batch's"
    spool.flip("spool.db-wal", rotting, 100)
    assert content in spool.saved()


def test_a_page_that_rots_in_the_file_is_found_in_what_earlier_logs_have_left(spool: Spool) -> None:
    spool.take()
    content = spool.take()
    spool.merge_log("RESTART")
    spool.writer.append([batch(0, 1)])
    spool.leave()
    for piece in pieces(content)[1:3]:
        spool.flip("spool.db", piece, 100)
    assert content in spool.saved()


def test_what_is_on_no_page_any_more_is_not_made_up(spool: Spool) -> None:
    content = spool.take()
    spool.leave()
    spool.flip("spool.db-wal", pieces(content)[2], 100)
    assert spool.saved() & {content} == set()


def page_of(log: bytes, at: int) -> int:
    """The number of the page in the frame in which a byte lies."""
    begin = (at - LOG_HEADER) // FRAME * FRAME + LOG_HEADER
    return int.from_bytes(log[begin : begin + 4], "big")


def frames_of(log: bytes, number: int) -> list[int]:
    """Where the frames of a page begin."""
    return [at for at in range(LOG_HEADER, len(log), FRAME) if int.from_bytes(log[at : at + 4], "big") == number]
