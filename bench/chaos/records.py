"""What the database holds, by SQL and COPY alone."""

from __future__ import annotations

import asyncio
import io
import json
import re
import time
from collections import Counter
from dataclasses import dataclass, field

import asyncpg
import numpy as np
from numpy.typing import NDArray

from bench.chaos.evidence import AGENT_SHIFT, Identity, Keys, key_of

_EPOCH_2000_US = 946_684_800_000_000
_TIMEOUT_S = 120.0
_ROW = np.dtype(
    [
        ("columns", ">i2"),
        ("n1", ">i4"),
        ("series", ">i4"),
        ("n2", ">i4"),
        ("time", ">i8"),
        ("n3", ">i4"),
        ("raw", ">f8"),
    ]
)
_COPY_HEADER_BYTES, _COPY_TRAILER_BYTES = 19, 2
_NAME = re.compile(r"bench_(\w)\.p(\d+)")


@dataclass(frozen=True, slots=True)
class GapRecord:
    """A gap that the product itself has recorded."""

    agent: int
    from_us: int
    to_us: int
    batches: tuple[tuple[bytes, int, int], ...]


@dataclass(frozen=True, slots=True)
class Records:
    """The database at one moment, for some time range.

    Attributes:
        stored: int64 (n,), keys of all readings, sorted; equal ones stand side by side.
        time_us: int64 (n,), their timestamps.
        set_aside: int64 (m,), keys of what is kept apart.
        repeated: readings that ingest found to be there already.
        reasons: why readings were set aside, and how many.
    """

    stored: Keys
    time_us: NDArray[np.int64]
    set_aside: Keys
    gaps: tuple[GapRecord, ...]
    repeated: int
    reasons: dict[str, int] = field(default_factory=dict)

    def named(self) -> set[Identity]:
        """Batches that a gap record says will not come."""
        return {
            (epoch, seq)
            for gap in self.gaps
            for epoch, first, last in gap.batches
            for seq in range(first, min(last, first + 100_000) + 1)
        }


def read(url: str, agents: tuple[str, ...], since_us: int = 0) -> Records:
    """All that is stored from a time on."""
    return asyncio.run(_read(url, agents, since_us))


async def _read(url: str, agents: tuple[str, ...], since_us: int) -> Records:
    connection = await _connected(url)
    try:
        points = _points(
            await connection.fetch("select r.id, s.name from series r join sensors s on s.id = r.sensor_id"), agents
        )
        since = f"timestamptz 'epoch' + {int(since_us)} * interval '1 microsecond'"
        copied = io.BytesIO()
        await connection.copy_from_query(
            f"select series_id, time, raw from readings where time >= {since} and raw is not null",
            output=copied,
            format="binary",
        )
        rows = np.frombuffer(copied.getbuffer()[_COPY_HEADER_BYTES:-_COPY_TRAILER_BYTES], _ROW)
        keys = _keys(rows["series"].astype(np.int64), rows["raw"].astype(np.int64), points)
        order = np.argsort(keys, kind="stable")
        time_us = rows["time"].astype(np.int64)[order] + _EPOCH_2000_US
        asides = await connection.fetch("select sensor_name, raw, reason from set_aside")
        parts = [_aside(row["sensor_name"], row["raw"], agents) for row in asides]
        gaps = await connection.fetch(
            "select a.name, extract(epoch from g.time_from) * 1e6 as from_us,"
            " extract(epoch from g.time_to) * 1e6 as to_us, g.record::text as record"
            " from gaps g join epochs e on e.id = g.epoch_id join agents a on a.id = e.agent_id"
        )
        repeated = await connection.fetchval("select coalesce(sum(repeated), 0) from ledger")
    finally:
        await connection.close(timeout=20)
    return Records(
        keys[order],
        time_us,
        np.concatenate(parts) if parts else np.empty(0, np.int64),
        tuple(_gap(row, agents) for row in gaps),
        int(repeated),
        dict(sum((Counter({row["reason"]: len(row["raw"])}) for row in asides), Counter())),
    )


async def _connected(url: str) -> asyncpg.Connection[asyncpg.Record]:
    """A connection, as soon as the server has recovered. Raises: what speaks against it after `_TIMEOUT_S`."""
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            return await asyncpg.connect(url, timeout=20, command_timeout=_TIMEOUT_S)
        except (OSError, asyncpg.CannotConnectNowError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)


def _points(rows: list[asyncpg.Record], agents: tuple[str, ...]) -> dict[int, tuple[int, int]]:
    found = {}
    for row in rows:
        name = _NAME.fullmatch(row["name"])
        if name is not None:
            found[row["id"]] = (agents.index(name[1]), int(name[2]))
    return found


def _keys(series: Keys, numbers: Keys, points: dict[int, tuple[int, int]]) -> Keys:
    width = max(points, default=0) + 1
    agent_of, point_of = np.zeros(width, np.int64), np.zeros(width, np.int64)
    for series_id, (agent, point) in points.items():
        agent_of[series_id], point_of[series_id] = agent, point
    base = key_of(0, point_of, np.zeros(width, np.int64)) | (agent_of << AGENT_SHIFT)
    keys: Keys = base[series] | numbers
    return keys


def _aside(sensor: str, raw: list[float], agents: tuple[str, ...]) -> Keys:
    name = _NAME.fullmatch(sensor)
    if name is None:
        return np.empty(0, np.int64)
    numbers = np.array(raw).astype(np.int64)
    return key_of(agents.index(name[1]), np.full(len(numbers), int(name[2]), np.int64), numbers)


def _gap(row: asyncpg.Record, agents: tuple[str, ...]) -> GapRecord:
    record = json.loads(row["record"])
    batches = tuple((bytes.fromhex(epoch), first, last) for epoch, first, last in record.get("batches", ()))
    return GapRecord(agents.index(row["name"]), int(row["from_us"]), int(row["to_us"]), batches)
