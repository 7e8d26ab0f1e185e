"""To the row: what the instruments say they delivered against what the database holds, and when it came to be there."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import asyncpg
import numpy as np

from bench._rig.panel import Panel
from shared.readings import Float64, Int64

_ROW = np.dtype(
    [
        ("fields", ">i2"),
        *(("time_length", ">i4"), ("time", ">i8")),
        *(("raw_length", ">i4"), ("raw", ">f8")),
        *(("physical_length", ">i4"), ("physical", ">f8")),
    ]
)
_HEAD_BYTES, _TAIL_BYTES = 19, 2
_POSTGRES_EPOCH_US = 946_684_800_000_000
_SERIES = """
select s.id, x.name, s.signal from series s join sensors x on x.id = s.sensor_id
"""
_READINGS = "select time, raw, physical from readings where series_id = $1 order by time, id"


@dataclass(slots=True)
class Balance:
    """Readings, by what became of them."""

    taken: int = 0
    stored: int = 0
    lost: int = 0
    duplicated: int = 0
    altered: int = 0


async def balance(connection: Any, panels: list[Panel]) -> Balance:
    """The account of each instrument compared with the database, timestamp by timestamp and value by value.

    Physical values must be there; readings of one moment of one series count as duplicates beyond the first.
    """
    ids = {(row["name"], row["signal"]): row["id"] for row in await connection.fetch(_SERIES)}
    found = Balance()
    for panel in panels:
        account = panel.account()
        numbers = _spread(account, account["first"], 1)
        times_us = _spread(account, account["first_us"], account["step_us"])
        for n in range(panel.signals):
            key = (panel.sensor, f"s{n}") if panel.sensor else (f"{panel.name}.p{n}", "value")
            rows = await _rows(connection, ids[key]) if key in ids else np.empty(0, _ROW)
            _compare(found, times_us, panel.values_of(numbers, n), rows)
    return found


def _spread(account: Any, start: Any, step: Any) -> Int64:
    """One number a reading of a series, from one a block."""
    counts = account["count"]
    within = np.arange(int(counts.sum()), dtype=np.int64) - np.repeat(np.cumsum(counts) - counts, counts)
    spread: Int64 = np.repeat(start, counts) + within * np.repeat(np.broadcast_to(step, counts.shape), counts)
    return spread


async def _rows(connection: Any, series_id: int) -> Any:
    content = io.BytesIO()
    await connection.copy_from_query(_READINGS, series_id, output=content, format="binary")
    return np.frombuffer(content.getbuffer()[_HEAD_BYTES:-_TAIL_BYTES], _ROW)


def _compare(found: Balance, times_us: Int64, raw: Float64, rows: Any) -> None:
    stored_us, first = np.unique(rows["time"].astype(np.int64) + _POSTGRES_EPOCH_US, return_index=True)
    found.taken += len(times_us)
    found.stored += len(rows)
    found.lost += len(np.setdiff1d(times_us, stored_us, assume_unique=True))
    found.duplicated += len(rows) - len(stored_us) + len(np.setdiff1d(stored_us, times_us, assume_unique=True))
    _, ours, theirs = np.intersect1d(times_us, stored_us, assume_unique=True, return_indices=True)
    there = rows[first[theirs]]
    found.altered += int(((there["raw"] != raw[ours]) | ~np.isfinite(there["physical"])).sum())


async def committed(connection: Any) -> int:
    """Readings of batches that the ledger holds."""
    return int(await connection.fetchval("select coalesce(sum(readings), 0) from ledger"))


async def connect(database_url: str) -> Any:
    """A connection for the checker."""
    return await asyncpg.connect(database_url, timeout=20)
