"""A process that takes batches of all sizes and then stands still, to be killed: `python -m …filler FOLDER SEED`."""

from __future__ import annotations

import random
import sqlite3
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from agent.spool.batch import PendingBatch
from shared import wire
from tests.agent.spool.readings import batch, columns, open_spool

COMMITS_MAX = 40
SIZES = (1, 3, 40, 400, 2000)


def main(folder: Path, seed: int) -> None:
    """One to some dozens of commits, merged into the file now and then; some batches are acknowledged on the way."""
    chance = random.Random(seed)
    spool = open_spool(folder, retain_acked_s=3600.0)
    number = 0
    for _ in range(chance.randint(1, COMMITS_MAX)):
        sizes = [chance.choice(SIZES) for _ in range(chance.randint(1, 3))]
        spool.append([noise(number, size, chance) for size in sizes])
        number += sum(sizes)
        if chance.random() < 0.2:
            first = chance.randint(3, 20)
            spool.marks.acknowledge(spool.epoch, first, first + 2)
        if chance.random() < 0.1:
            with closing(sqlite3.connect(spool.path)) as db:
                db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    print(number, flush=True)
    time.sleep(600)


def noise(first: int, count: int, chance: random.Random) -> PendingBatch:
    """A batch that does not compress: up to 15 kB, on several pages."""
    raw = np.random.default_rng(chance.getrandbits(32)).random(count)
    body = wire.data_body(replace(columns(first, count), raw=raw), derivable=True)
    return replace(batch(first, count), body=body)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
