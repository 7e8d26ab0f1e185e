"""The ceiling: binary COPY into the production table, rows ready in memory, on as many connections as the hub uses.

Groups are those of the hub (as many readings, a transaction each, ids of blocks drawn in order); series and times are
its own, so that it can run beside the readings of the product and be taken away again.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from multiprocessing.connection import Connection
from typing import Any

import asyncpg
import numpy as np

from bench._rig.instrument import values_of
from hub.ingest.copy import COLUMNS, Rows, encode_rows

GROUP_READINGS = 16_000
SERIES = 10
FIRST_SERIES_ID = 2_000_000_000


def rate(database_url: str, groups: int, *, connections: int, turn: int) -> float:
    """Rows a second, of `groups` transactions on each connection.

    Args:
        turn: how often it was called before: rows must not meet those of earlier turns.
    """
    spawn = multiprocessing.get_context("spawn")
    pipes: list[Connection] = []
    processes = []
    for number in range(connections):
        ours, theirs = spawn.Pipe()
        place = turn * connections + number
        processes.append(spawn.Process(target=_copy, args=(database_url, groups, place, theirs), daemon=True))
        processes[-1].start()
        pipes.append(ours)
    try:
        for pipe in pipes:
            pipe.recv()
        began_s = time.monotonic()
        for pipe in pipes:
            pipe.send(None)
        for pipe in pipes:
            pipe.recv()
        return connections * groups * GROUP_READINGS / (time.monotonic() - began_s)
    finally:
        for process in processes:
            process.join(10)


def _copy(database_url: str, groups: int, place: int, pipe: Connection) -> None:
    asyncio.run(_copying(database_url, groups, place, pipe))


async def _copying(database_url: str, groups: int, place: int, pipe: Connection) -> None:
    connection = await asyncpg.connect(database_url)
    now_us = time.time_ns() // 1000
    blocks = await connection.fetch("select nextval('reading_blocks') as n from generate_series(1, $1)", groups)
    ready = [_group(now_us, number, row["n"], place) for number, row in enumerate(blocks)]
    pipe.send(None)
    pipe.recv()
    for content in ready:
        source: Any = content
        await connection.copy_to_table("readings", source=source, columns=list(COLUMNS), format="binary")
    pipe.send(None)
    await connection.close()


def _group(now_us: int, number: int, block: int, place: int) -> memoryview:
    each = GROUP_READINGS // SERIES
    numbers = number * each + np.arange(each, dtype=np.int64)
    raw = np.concatenate([values_of(numbers, signal) for signal in range(SERIES)])
    return encode_rows(
        Rows(
            np.repeat(np.arange(SERIES, dtype=np.int32) + FIRST_SERIES_ID + SERIES * place, each),
            np.ones(SERIES * each, np.int32),
            np.tile(now_us + numbers * 10, SERIES),
            block * 16_384 + np.arange(SERIES * each, dtype=np.int64),
            raw,
            0.5 * raw - 1.0,
            np.ones(SERIES * each, np.uint8),
        )
    )
