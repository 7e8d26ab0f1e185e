"""Where the clock segments of agents lie in the hub's time: decided with a segment's first readings, then remembered.

The rules are in `hub.ingest.correction`; here is what they are fed with. A segment that has no place yet and that
nobody vouches for gets a while in which its agent, if that process still runs, can measure it: its batches stay on the
agent's disk. After that neighbours decide, or its readings are set aside until an owner gives it a place.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias
from uuid import UUID

from hub.database.pool import Connection
from hub.ingest.arrivals import Arrival, Item
from hub.ingest.correction import Correction, Neighbour, Placing, Segment, Surroundings, decide, fit, offset_of
from shared.clock import Clock
from shared.columns import DecodedColumns

GRACE_S = 30.0
"""How long a segment without a place is left on its agent's disk, to be measured after all."""
SEGMENTS_MAX = 200_000
"""Remembered; beyond it all are forgotten and looked up again."""
_ANCESTORS_MAX = 1000

log = logging.getLogger(__name__)

SegmentKey: TypeAlias = tuple[UUID, bytes, int]

_DECIDED = "select correction_us from clock_corrections where epoch_id = $1 and segment = $2"
_SEGMENTS = """
select segment, opened_us, offset_us, uncertainty_us, step_us, source from clock_segments where epoch_id = $1
"""
_CHAIN = f"""
with recursive chain (id, agent_id, previous_epoch, depth) as (
    select id, agent_id, previous_epoch, 0 from epochs where id = $1
    union all
    select e.id, e.agent_id, e.previous_epoch, c.depth + 1
    from chain c join epochs e on e.agent_id = c.agent_id and e.epoch = c.previous_epoch
    where c.depth < {_ANCESTORS_MAX}
)
"""
_BEFORE = f"""
{_CHAIN}
select (extract(epoch from e.taken_through) * 1000000)::bigint as edge_us, k.correction_us, k.uncertainty_us
from chain c
join epochs e on e.id = c.id
cross join lateral (
    select correction_us, uncertainty_us from clock_corrections
    where epoch_id = c.id and (c.depth > 0 or segment < $2)
    order by segment desc limit 1
) k
where e.taken_through is not null
order by c.depth limit 1
"""
_AFTER = f"""
{_CHAIN}, heirs (id, agent_id, epoch, depth) as (
    select id, agent_id, epoch, 0 from epochs where id = $1
    union all
    select e.id, e.agent_id, e.epoch, h.depth + 1
    from heirs h join epochs e on e.agent_id = h.agent_id and e.previous_epoch = h.epoch
    where h.depth < {_ANCESTORS_MAX}
)
select s.opened_us, s.offset_us, s.uncertainty_us, k.correction_us,
       exists (select from heirs h where h.id = s.epoch_id) as is_heir
from clock_segments s
join epochs e on e.id = s.epoch_id
left join clock_corrections k on k.epoch_id = s.epoch_id and k.segment = s.segment
where e.agent_id = (select agent_id from epochs where id = $1)
  and s.source = 'hub' and not exists (select from chain c where c.id = s.epoch_id)
"""
_PROCESS = """
select (extract(epoch from a.enrolled_at) * 1000000)::bigint as enrolled_us,
       a.refused_since is not null
           or exists (select from epochs n where n.agent_id = e.agent_id and n.previous_epoch = e.epoch) as ended
from epochs e join agents a on a.id = e.agent_id
where e.id = $1
"""
_WATERMARK = """
update epochs set taken_through = greatest(taken_through, (
    select timestamptz 'epoch' + (max(taken_through_us) + $3) * interval '1 microsecond'
    from ledger where epoch_id = $1 and clock_segment = $2 and taken_through_us > 0
))
where id = $1
"""
_DECIDE = """
insert into clock_corrections (epoch_id, segment, correction_us, uncertainty_us, basis, decided_by)
values ($1, $2, $3, $4, $5, $6)
on conflict (epoch_id, segment) do nothing
"""


@dataclass(frozen=True, slots=True)
class _Span:
    """The readings of a segment that are at hand, by its own clock."""

    epoch_id: int
    segment: int
    from_us: int
    through_us: int


class Clocks:
    """What was decided, kept in memory: a decision never changes. For one event loop.

    Args:
        clock: the hub's.
    """

    def __init__(self, clock: Clock, *, grace_s: float = GRACE_S) -> None:
        self._clock = clock
        self._grace_s = grace_s
        self._corrections: dict[SegmentKey, int] = {}
        self._asked_s: dict[SegmentKey, float] = {}
        self._met: tuple[UUID, int] | None = None

    def meet(self, incarnation: UUID, connects: int) -> None:
        """The database is this one, sought so often; forget everything if it was, or may have been, another."""
        if (incarnation, connects) != self._met:
            self._met = (incarnation, connects)
            self._corrections.clear()

    def run_length(self, items: Sequence[Item]) -> int:
        """How many of the items can be committed together: what decides over a segment has to be committed before it.

        That is all before the first readings of a segment that is not decided; or these, if they come first.
        """
        first = next((place for place, item in enumerate(items) if self._is_undecided(item)), len(items))
        if first:
            return first
        key = _key_of(items[0])
        return next((place for place, item in enumerate(items) if _key_of(item) != key), len(items))

    def undecided(self, items: Sequence[Item]) -> dict[SegmentKey, list[Arrival]]:
        """The readings whose segment is not decided, as far as is remembered here, by segment."""
        found: dict[SegmentKey, list[Arrival]] = {}
        for item in items:
            if self._is_undecided(item) and isinstance(item, Arrival):
                found.setdefault(_key(item), []).append(item)
        return found

    async def decide(self, connection: Connection, epoch_id: int, arrivals: Sequence[Arrival]) -> int | Placing:
        """Decide over the segment of these batches, or find what was decided. In a transaction.

        Returns: the correction in microseconds, to be remembered after the commit; or why there is none.
        """
        segment = arrivals[0].header.clock_segment
        standing: int | None = await connection.fetchval(_DECIDED, epoch_id, segment)
        if standing is not None:
            return standing
        around = await _surroundings(connection, _span(epoch_id, segment, arrivals))
        found = decide(around) or self._last_resort(_key(arrivals[0]), around)
        if not isinstance(found, Correction):
            return found
        await note(connection, epoch_id, segment, found)
        decided: int = await connection.fetchval(_DECIDED, epoch_id, segment)
        return decided

    def remember(self, found: Mapping[SegmentKey, int | Placing]) -> None:
        """These decisions are committed."""
        if len(self._corrections) >= SEGMENTS_MAX:
            self._corrections.clear()
        for key, decided in found.items():
            if not isinstance(decided, Placing):
                self._corrections[key] = decided
                self._asked_s.pop(key, None)

    def placed(self, items: Iterable[Item], found: Mapping[SegmentKey, int | Placing]) -> list[Item]:
        """The items with their times corrected.

        Args:
            found: for the segments that were not decided before.
        """
        return [self._placed(item, found) if isinstance(item, Arrival) else item for item in items]

    def _placed(self, arrival: Arrival, found: Mapping[SegmentKey, int | Placing]) -> Arrival:
        key = _key(arrival)
        known = self._corrections.get(key)
        decided = found.get(key, Placing.UNPLACED) if known is None else known
        if isinstance(decided, Placing):
            return replace(arrival, placing=decided)
        if not decided:
            return arrival
        content = arrival.content
        if isinstance(content, DecodedColumns):
            columns = replace(content.columns, timestamp_us=content.columns.timestamp_us + decided)
            content = replace(content, columns=columns)
        return replace(arrival, content=content, correction_us=decided)

    def _is_undecided(self, item: Item) -> bool:
        if not isinstance(item, Arrival) or not isinstance(item.content, DecodedColumns):
            return False
        return _key(item) not in self._corrections

    def _last_resort(self, key: SegmentKey, around: Surroundings) -> Correction | Placing:
        now_s = self._clock.monotonic_s()
        if len(self._asked_s) >= SEGMENTS_MAX:
            self._asked_s.clear()
        if now_s - self._asked_s.setdefault(key, now_s) < self._grace_s and not around.ended:
            return Placing.LATER
        return fit(around) or Placing.UNPLACED


async def place(connection: Connection, epoch_id: int, segment: int, correction_us: int, decided_by: UUID) -> None:
    """An owner gives a segment its place, which stands from then on for all of its batches."""
    await note(connection, epoch_id, segment, Correction(correction_us, None, "owner"), decided_by=decided_by)
    await connection.execute(_WATERMARK, epoch_id, segment, correction_us)


async def note(
    connection: Connection, epoch_id: int, segment: int, found: Correction, *, decided_by: UUID | None = None
) -> None:
    """Write a decision down, unless there is one."""
    log.info("event=clock_decided epoch_id=%d segment=%d %s", epoch_id, segment, found)
    await connection.execute(
        _DECIDE, epoch_id, segment, found.correction_us, found.uncertainty_us, found.basis, decided_by
    )


def _key_of(item: Item) -> SegmentKey | None:
    return _key(item) if isinstance(item, Arrival) else None


def _key(item: Arrival) -> SegmentKey:
    return item.header.agent_id, item.header.epoch, item.header.clock_segment


def _span(epoch_id: int, segment: int, arrivals: Sequence[Arrival]) -> _Span:
    times = [one.content.columns.timestamp_us for one in arrivals if isinstance(one.content, DecodedColumns)]
    ends = [one.header.taken_through_us for one in arrivals]
    first_us = min((int(some.min()) for some in times if len(some)), default=min(ends))
    return _Span(epoch_id, segment, first_us, max((int(some.max()) for some in times if len(some)), default=max(ends)))


async def _surroundings(connection: Connection, span: _Span) -> Surroundings:
    siblings = {row["segment"]: Segment(**dict(row)) for row in await connection.fetch(_SEGMENTS, span.epoch_id)}
    own = siblings.get(span.segment)
    before = await connection.fetchrow(_BEFORE, span.epoch_id, span.segment)
    [(enrolled_us, ended)] = await connection.fetch(_PROCESS, span.epoch_id)
    return Surroundings(
        own,
        siblings,
        Neighbour(before["edge_us"], before["correction_us"], before["uncertainty_us"]) if before else None,
        _first(await connection.fetch(_AFTER, span.epoch_id)),
        span.from_us if own is None else min(span.from_us, own.opened_us),
        span.through_us,
        enrolled_us,
        ended,
    )


def _first(rows: Sequence[Any]) -> Neighbour | None:
    """The earliest of the segments that came after, as their openings say; or else of those that are not before.

    Where an agent was cloned or its disk put back, there are epochs that are neither before nor after.
    """
    found = []
    for row in [row for row in rows if row["is_heir"]] or rows:
        measured = offset_of(row["offset_us"], row["uncertainty_us"], "measured")
        correction_us = measured.correction_us if row["correction_us"] is None else row["correction_us"]
        found.append(Neighbour(row["opened_us"] + correction_us, correction_us, measured.uncertainty_us))
    return min(found, key=lambda one: one.edge_us, default=None)
