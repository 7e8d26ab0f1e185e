"""Whatever rots: all that can still be read is saved, nothing else is, and what is lost is named."""

from __future__ import annotations

import random
import shutil
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import event, given, settings
from hypothesis import strategies as st

from agent.spool.batch import StoredBatch
from agent.spool.salvage import move_aside_and_save
from agent.spool.writer import SpoolWriter
from shared.clock import ManualClock
from tests.agent.spool.contents import gaps
from tests.agent.spool.filler import noise
from tests.agent.spool.readings import BEGIN_US, open_spool
from tests.agent.spool.surviving import Files

FILE_HEADER_BYTES = 100
SIZES = (1, 30, 120, 450, 700, 2000)
"""Readings: batches on a leaf alone, and with one to five pages behind it."""

Identity = tuple[bytes, int]


@dataclass
class Life:
    """A spool that is written in this process, and all that was ever committed to it."""

    spool: SpoolWriter
    clock: ManualClock
    chance: random.Random
    written: defaultdict[Identity, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    number: int = 0

    def step(self, what: str) -> None:
        """One thing that agents do."""
        last = max((seq for _, seq in self.written), default=0)
        if what == "append":
            sizes = self.chance.choices(SIZES, k=self.chance.randint(1, 3))
            batches = [noise(self.number + 3000 * at, size, self.chance) for at, size in enumerate(sizes)]
            self.spool.append(batches)
            self.number += 9000
        elif what == "acknowledge" and last:
            first = self.chance.randint(1, last)
            self.spool.marks.acknowledge(self.spool.epoch, first, first + self.chance.randint(0, 4))
        elif what == "retire":
            self.clock.advance_s(3601.0)
            self.spool.flush()
        elif what in ("PASSIVE", "RESTART"):
            with closing(sqlite3.connect(self.spool.path)) as db:
                db.execute(f"PRAGMA wal_checkpoint({what})").fetchall()

    def keep(self, batches: Sequence[StoredBatch]) -> bool:
        """Remember what was committed."""
        for one in batches:
            self.written[one.epoch, one.seq].add(one.content)
        return False


steps = st.lists(
    st.sampled_from(["append"] * 6 + ["acknowledge"] * 2 + ["retire", "PASSIVE", "RESTART"]), min_size=2, max_size=25
)
damages = st.lists(
    st.tuples(
        st.sampled_from(["spool.db-wal", "spool.db-wal", "spool.db"]),
        st.floats(0, 1, exclude_max=True),
        st.sampled_from([0, 0, 0, 512, 4096, 9000]),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 32), steps=steps, damages=damages)
def test_all_that_can_be_read_is_saved_as_it_was_and_the_rest_is_named(
    seed: int, steps: list[str], damages: list[tuple[str, float, int]]
) -> None:
    with tempfile.TemporaryDirectory(prefix="salvage-") as name:
        whole, rotten = Path(name) / "whole", Path(name) / "rotten"
        written = _lived(Path(name) / "live", whole, seed, steps)
        shutil.copytree(whole, rotten)
        held = {identity for identity, _ in _batches(whole)}
        for number, (file, place, size) in enumerate(damages):
            _damage(rotten / file, place, size, random.Random(seed + number))
        files = Files(whole, rotten)
        move_aside_and_save(rotten / "spool.db", now_us=BEGIN_US)
        saved = dict(_batches(rotten))
        assert all(content in written[identity] for identity, content in saved.items()), "altered"
        given_up = {one for one in held - set(saved) if any(map(files.readable, written[one]))}
        assert not given_up
        open_spool(rotten).close()
        named = [some for gap in gaps(rotten, "corrupt") for some in gap.batches]
        lost = held - set(saved)
        assert not {one for one in lost if not any(_is_in(one, some) for some in named)}
        event(f"lost: {min(len(lost), 5)}")


def _lived(live: Path, left: Path, seed: int, steps: list[str]) -> Mapping[Identity, set[bytes]]:
    """A spool as a killed agent leaves it. Returns: all that was ever in it."""
    clock = ManualClock(BEGIN_US)
    spool = open_spool(live, clock=clock, retain_acked_s=3600.0)
    life = Life(spool, clock, random.Random(seed))
    spool.on_append = life.keep
    for what in steps:
        life.step(what)
    for name in ("spool.db", "spool.db-wal", "spool.db-shm", "spool.witness"):
        left.mkdir(exist_ok=True)
        shutil.copy(live / name, left / name)
    for identity, content in _batches(live):
        life.written[identity].add(content)
    spool.close()
    return life.written


def _batches(folder: Path) -> Iterator[tuple[Identity, bytes]]:
    """As a reader beside the agent finds them, in the end without a log."""
    with closing(sqlite3.connect(f"file:{folder / 'spool.db'}?mode=ro", uri=True)) as db:
        sql = "SELECT e.epoch, b.seq, content FROM batches b JOIN epochs e ON e.ref = b.epoch JOIN contents USING (id)"
        for epoch, seq, content in db.execute(sql).fetchall():
            yield (epoch, seq), content


def _damage(path: Path, place: float, size: int, chance: random.Random) -> None:
    """Change one bit, or as many bytes."""
    data = bytearray(path.read_bytes())
    first = FILE_HEADER_BYTES * (path.suffix == ".db")
    if len(data) <= first:
        return
    at = first + int(place * (len(data) - first))
    if size:
        size = min(size, len(data) - at)
        data[at : at + size] = chance.randbytes(size)
    else:
        data[at] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def _is_in(one: Identity, some: tuple[str, int, int]) -> bool:
    epoch, first, last = some
    return epoch == one[0].hex() and first <= one[1] <= last
