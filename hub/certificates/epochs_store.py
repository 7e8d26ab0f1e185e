"""SQL of the agents that a certificate depends on: their epochs, batches, gaps and clocks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import asyncpg

from hub.database.pool import Connection
from shared.records import ADOPTED_FROM

if TYPE_CHECKING:
    Row: TypeAlias = asyncpg.Record
else:
    Row = asyncpg.Record

_AGENTS = """
select a.id, a.name, a.status, array_agg(b.sensor_id order by b.sensor_id) as sensor_ids
from agent_bindings b join agents a on a.id = b.agent_id
where b.sensor_id = any($1::uuid[])
group by a.id order by a.id
"""
# The time of an epoch's start is the agent's own; the hub's decision about its first segment makes it the hub's. Until
# there is one, all that is known is that something of it came.
_EPOCHS = """
select e.id, e.agent_id, e.epoch, e.previous_epoch, e.previous_last_seq, e.taken_through, e.folded_through,
       e.folded_taken_through, e.closed_at, e.closed_reason, e.version,
       e.started_at + k.correction_us * interval '1 microsecond' as started_at,
       coalesce((select max(l.seq) from ledger l where l.epoch_id = e.id), 0) as ledger_last
from epochs e
left join lateral (
    select c.correction_us from clock_corrections c where c.epoch_id = e.id order by c.segment limit 1
) k on true
where e.agent_id = any($1::uuid[])
order by e.agent_id, coalesce(e.started_at + k.correction_us * interval '1 microsecond', e.first_received_at), e.id
"""
_CLAIMS = """
select coalesce(min(l.seq) filter (where l.through_us >= $3), 0) as covering_seq,
       coalesce(max(l.seq) filter (where l.through_us < $2), 0) as before_seq
from (
    select l.seq, l.taken_through_us + k.correction_us as through_us
    from ledger l join clock_corrections k on k.epoch_id = l.epoch_id and k.segment = l.clock_segment
    where l.epoch_id = $1 and l.taken_through_us > 0
) as l
"""
_BATCHES = """
select count(*) as batches, coalesce(sum(l.readings), 0) as readings, coalesce(sum(l.stored), 0) as stored,
       coalesce(sum(l.repeated), 0) as repeated, coalesce(sum(l.set_aside), 0) as set_aside,
       coalesce(array_agg(l.first_id order by l.first_id) filter (where l.first_id is not null), '{}') as first_ids,
       coalesce(array_agg(l.last_id order by l.first_id) filter (where l.first_id is not null), '{}') as last_ids
from ledger l where l.epoch_id = $1 and l.seq between $2 and $3
"""
_PRESENT = """
select count(*) from (
    select width_bucket(r.id, $1::bigint[]) as place, r.id from readings r where r.id between $3 and $4
) as r
where r.id <= ($2::bigint[])[r.place]
"""
_SEGMENTS = """
select k.segment, k.basis, k.correction_us, k.uncertainty_us, s.source, s.step_us,
       timestamptz 'epoch' + (s.opened_us + k.correction_us) * interval '1 microsecond' as opened_at
from clock_corrections k
left join clock_segments s on s.epoch_id = k.epoch_id and s.segment = k.segment
where k.epoch_id = $1 order by k.segment
"""
# What is added to the times of a clock segment; what was measured, where none of its readings came to decide over it.
_CORRECTION = """
coalesce(k.correction_us, case when s.source = 'hub' and abs(s.offset_us) > s.uncertainty_us then s.offset_us end)
"""
# Times are by the clock of the record's segment, or the one that it names. A downtime has two clocks: it begins by
# the last one of the process before.
_GAPS = f"""
select g.*, d.names from (
    select g.epoch_id, e.agent_id, e.epoch, g.seq, g.cause, g.readings, g.record, t.time_from,
           greatest(t.time_from, own.added + case g.cause
               when 'downtime' then least(g.time_to, e.started_at) else g.time_to end) as time_to
    from gaps g
    join epochs e on e.id = g.epoch_id
    left join epochs c on c.agent_id = e.agent_id and c.epoch = decode(g.record -> 'clock' ->> 0, 'hex')
    cross join lateral (
        select case when g.record -> 'clock' is null then e.id else c.id end as epoch_id,
               coalesce((g.record -> 'clock' ->> 1)::bigint, g.clock_segment) as segment
    ) as o
    left join clock_corrections k on k.epoch_id = o.epoch_id and k.segment = o.segment
    left join clock_segments s on s.epoch_id = o.epoch_id and s.segment = o.segment
    cross join lateral (select coalesce({_CORRECTION}, 0) * interval '1 microsecond' as added) as own
    left join lateral (
        select {_CORRECTION} * interval '1 microsecond' as added
        from epochs p
        join clock_segments s on s.epoch_id = p.id
        left join clock_corrections k on k.epoch_id = p.id and k.segment = s.segment
        where g.cause = 'downtime' and g.record -> 'clock' is null and s.segment < {ADOPTED_FROM}
          and p.agent_id = e.agent_id and p.epoch = e.previous_epoch
        order by s.segment desc limit 1
    ) as before on true
    cross join lateral (select g.time_from + coalesce(before.added, own.added) as time_from) as t
    where e.agent_id = any($1::uuid[])
) as g
left join lateral (
    select jsonb_object_agg(d.ref, b.sensor_id) as names
    from dictionary_series d
    join agent_bindings b on b.agent_id = g.agent_id and b.sensor_name = d.sensor_name
    where d.epoch_id = g.epoch_id and d.ref in (
        select (c ->> 0)::bigint from jsonb_array_elements(g.record -> 'counts') as c
    )
) as d on true
where g.time_from < $3 and g.time_to >= $2
order by g.time_from, g.epoch_id, g.seq
"""


async def agents(connection: Connection, sensor_ids: Sequence[UUID]) -> list[Row]:
    """The agents that mean, or meant, one of these sensors, and which."""
    return await connection.fetch(_AGENTS, sensor_ids)


async def epochs(connection: Connection, agent_ids: Sequence[UUID]) -> list[Row]:
    """All their epochs, by agent in the order in which they began, as far as that is known."""
    return await connection.fetch(_EPOCHS, agent_ids)


async def claims(connection: Connection, epoch_id: int, from_us: int, to_us: int, *, timeout_s: float) -> Row:
    """The first batch that says everything up to `to_us` was taken, and the last before `from_us`; 0 for none."""
    row = await connection.fetchrow(_CLAIMS, epoch_id, from_us, to_us, timeout=timeout_s)
    assert row is not None
    return row


async def batches(connection: Connection, epoch_id: int, first: int, last: int, *, timeout_s: float) -> Row:
    """What the ledger says of batches that are not folded."""
    row = await connection.fetchrow(_BATCHES, epoch_id, first, last, timeout=timeout_s)
    assert row is not None
    return row


async def present(connection: Connection, first_ids: list[int], last_ids: list[int], *, timeout_s: float) -> int:
    """How many readings there are with ids in these ranges, which rise."""
    if not first_ids:
        return 0
    bounds = (first_ids, last_ids, first_ids[0], last_ids[-1])
    counted: int = await connection.fetchval(_PRESENT, *bounds, timeout=timeout_s)
    return counted


async def segments(connection: Connection, epoch_id: int) -> list[Row]:
    """What was decided about an epoch's clock."""
    return await connection.fetch(_SEGMENTS, epoch_id)


async def gaps(connection: Connection, agent_ids: Sequence[UUID], start: datetime, end: datetime) -> list[Any]:
    """Gap records that concern this time; `names`: sensor ids by the references that they count."""
    return await connection.fetch(_GAPS, agent_ids, start, end)
