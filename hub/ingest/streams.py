"""How far the streams of sensors have come: numbered messages over WebSocket, each dealt with once and in order.

Invariants
    * `last_seq` moves in the transaction of the readings: a message at or below it is never stored again.
    * A message goes in only behind the one that was sent before it. So when one fails, those behind it fail too, and
      `last_seq` never passes what is not there.

A stream that is forgotten (the least recently used of more than `STREAMS_PER_SENSOR_MAX`) begins at 0 again. Readings
that come twice then are still stored once, by their time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias
from uuid import UUID

from hub.database.pool import Connection

STREAMS_PER_SENSOR_MAX = 1000
SEQ_MAX = 2**53 - 1

StreamKey: TypeAlias = tuple[UUID, str]
"""Sensor and name of a stream."""

_OPEN = """
insert into ingest_streams (sensor_id, stream, last_seq) values ($1, $2, 0)
on conflict (sensor_id, stream) do update set updated_at = now()
returning last_seq
"""
_FORGET = f"""
delete from ingest_streams where sensor_id = $1 and stream in (
    select stream from ingest_streams where sensor_id = $1
    order by updated_at desc, stream offset {STREAMS_PER_SENSOR_MAX}
)
"""
_REACHED = """
select sensor_id, stream, last_seq from ingest_streams
where (sensor_id, stream) in (select * from unnest($1::uuid[], $2::text[]))
order by sensor_id, stream for update
"""
_ADVANCE = """
insert into ingest_streams (sensor_id, stream, last_seq)
select * from unnest($1::uuid[], $2::text[], $3::bigint[]) as s (sensor_id, stream, last_seq) order by 1, 2
on conflict (sensor_id, stream)
do update set last_seq = greatest(ingest_streams.last_seq, excluded.last_seq), updated_at = now()
"""


@dataclass(frozen=True, slots=True)
class StreamPlace:
    """Where in its stream a message stands.

    Attributes:
        after_seq: the message that was sent before it, 0 for none.
    """

    stream: str
    seq: int
    after_seq: int


class Turn(Enum):
    """Whether a message may go in."""

    NEXT = "next"
    KNOWN = "known"
    EARLY = "early"
    """One before it is missing."""


def turn(place: StreamPlace, last_seq: int) -> Turn:
    """Whether a message may go into a stream that has come so far."""
    if place.seq <= last_seq:
        return Turn.KNOWN
    return Turn.NEXT if place.after_seq <= last_seq else Turn.EARLY


def turns(messages: Sequence[tuple[int, StreamKey, StreamPlace]], reached: Mapping[StreamKey, int]) -> list[Turn]:
    """Which of these messages may go in together, one after the other.

    Args:
        messages: with a number of the caller's own.
        reached: how far their streams have come.
    """
    last_seqs, found = dict(reached), []
    for _, key, place in messages:
        found.append(turn(place, last_seqs[key]))
        if found[-1] is Turn.NEXT:
            last_seqs[key] = place.seq
    return found


async def open_stream(connection: Connection, sensor_id: UUID, stream: str) -> int:
    """How far a stream has come; a new one is at 0. Locks it until the transaction ends."""
    last_seq: int = await connection.fetchval(_OPEN, sensor_id, stream)
    await connection.execute(_FORGET, sensor_id)
    return last_seq


async def reached(connection: Connection, keys: Collection[StreamKey]) -> dict[StreamKey, int]:
    """How far these streams have come; they stand still until the transaction ends."""
    rows = await connection.fetch(_REACHED, *zip(*sorted(keys), strict=True)) if keys else []
    return dict.fromkeys(keys, 0) | {(row["sensor_id"], row["stream"]): row["last_seq"] for row in rows}


async def advance(connection: Connection, seqs: Mapping[StreamKey, int]) -> None:
    """All messages of these streams up to these are dealt with."""
    if seqs:
        rows = [(sensor_id, stream, seq) for (sensor_id, stream), seq in seqs.items()]
        await connection.execute(_ADVANCE, *zip(*rows, strict=True))
