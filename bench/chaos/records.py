"""What the database holds, by SQL and COPY alone."""

from __future__ import annotations

import asyncio
import io
import json
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import asyncpg
import numpy as np

from bench.chaos.evidence import AGENT_SHIFT, Identity, Keys, key_of
from bench.chaos.gaps import QUOTA, GapRecord

_TIMEOUT_S = 120.0
_ROW = np.dtype(
    [
        ("columns", ">i2"),
        ("n1", ">i4"),
        ("series", ">i4"),
        ("n2", ">i4"),
        ("raw", ">f8"),
    ]
)
_COPY_HEADER_BYTES, _COPY_TRAILER_BYTES = 19, 2
_NONE: Keys = np.empty(0, np.int64)
_NAME = re.compile(r"bench_(\w)\.p(\d+)")
_GAPS = """
select a.name, e.epoch, g.epoch_id, g.seq, g.cause, g.record::text as record
from gaps g join epochs e on e.id = g.epoch_id join agents a on a.id = e.agent_id
"""
_NAMES = "select epoch_id, ref, sensor_name from dictionary_series where epoch_id = any($1::integer[])"
_DELIVERED = """
select n.epoch, l.seq
from unnest($1::bytea[], $2::bigint[], $3::bigint[]) n (epoch, first, last)
join epochs e on e.epoch = n.epoch
join ledger l on l.epoch_id = e.id and l.seq between n.first and n.last and l.readings > 0
"""

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@dataclass(frozen=True, slots=True)
class Records:
    """The database at one moment, from some id on.

    Attributes:
        stored: int64 (n,), keys of all readings, sorted; equal ones stand side by side.
        set_aside: int64 (m,), keys of what is kept apart.
        repeated: readings that ingest found to be there already.
        reasons: why readings were set aside, and how many.
        delivered: batches that a record of the quota names, and that are in the ledger.
    """

    stored: Keys
    set_aside: Keys
    gaps: tuple[GapRecord, ...]
    repeated: int
    reasons: dict[str, int] = field(default_factory=dict)
    delivered: frozenset[Identity] = frozenset()


def read(url: str, agents: tuple[str, ...], since_id: int = 0) -> Records:
    """All that is stored from an id on, and everything that is said about the rest."""
    return asyncio.run(_read(url, agents, since_id))


def latest_id(url: str) -> int:
    """An id such that whatever is taken from now on is stored with a greater one."""
    return asyncio.run(_latest_id(url))


async def _latest_id(url: str) -> int:
    connection = await _connected(url)
    try:
        return int(await connection.fetchval("select coalesce(max(first_id), 0) from ledger"))
    finally:
        await connection.close(timeout=20)


async def _read(url: str, agents: tuple[str, ...], since_id: int) -> Records:
    connection = await _connected(url)
    try:
        asides = await connection.fetch("select sensor_name, raw, reason from set_aside")
        gaps = await _gaps(connection, agents)
        return Records(
            await _stored(connection, agents, since_id),
            np.concatenate([_NONE, *(_aside(row["sensor_name"], row["raw"], agents) for row in asides)]),
            gaps,
            int(await connection.fetchval("select coalesce(sum(repeated), 0) from ledger")),
            dict(sum((Counter({row["reason"]: len(row["raw"])}) for row in asides), Counter())),
            await _delivered(connection, gaps),
        )
    finally:
        await connection.close(timeout=20)


async def _stored(connection: Connection, agents: tuple[str, ...], since_id: int) -> Keys:
    series = await connection.fetch("select r.id, s.name from series r join sensors s on s.id = r.sensor_id")
    copied = io.BytesIO()
    await connection.copy_from_query(
        f"select series_id, raw from readings where id >= {int(since_id)} and raw is not null",
        output=copied,
        format="binary",
    )
    rows = np.frombuffer(copied.getbuffer()[_COPY_HEADER_BYTES:-_COPY_TRAILER_BYTES], _ROW)
    return np.sort(_keys(rows["series"].astype(np.int64), rows["raw"].astype(np.int64), _points(series, agents)))


async def _gaps(connection: Connection, agents: tuple[str, ...]) -> tuple[GapRecord, ...]:
    rows = await connection.fetch(_GAPS)
    names = await connection.fetch(_NAMES, sorted({row["epoch_id"] for row in rows}))
    points = {(row["epoch_id"], row["ref"]): _NAME.fullmatch(row["sensor_name"]) for row in names}
    return tuple(_gap(row, agents, points) for row in rows)


async def _delivered(connection: Connection, gaps: tuple[GapRecord, ...]) -> frozenset[Identity]:
    ranges = [one for gap in gaps if gap.cause in QUOTA for one in gap.batches]
    rows = await connection.fetch(_DELIVERED, *map(list, zip(*ranges, strict=True))) if ranges else ()
    return frozenset((bytes(row["epoch"]), row["seq"]) for row in rows)


async def _connected(url: str) -> Connection:
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


def _gap(
    row: asyncpg.Record, agents: tuple[str, ...], points: Mapping[tuple[int, int], re.Match[str] | None]
) -> GapRecord:
    record = json.loads(row["record"])
    counts: Counter[int] = Counter()
    for ref, count in record.get("counts", ()):
        name = points.get((row["epoch_id"], ref))
        counts[int(name[2]) if name else -1] += count
    batches = tuple((bytes.fromhex(epoch), first, last) for epoch, first, last in record.get("batches", ()))
    times = record["from_us"], record["to_us"]
    identity = (bytes(row["epoch"]), row["seq"])
    readings = record.get("readings", -1)
    return GapRecord(agents.index(row["name"]), row["cause"], *times, readings, counts, batches, identity)
