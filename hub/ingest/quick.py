"""Groups of readings that need nothing unusual, in the fewest round trips.

They are judged and made ready before the transaction. What that relies on is known already (else the group takes the
long way); the database does nothing unless the catalogue is still at the generation that the verdicts were found by.

=====================  ================================================================================
up to `READINGS_MAX`   one statement: ledger, readings, dirty minutes and watermarks
more                   a transaction: one statement for all but the readings, and a binary COPY of these
=====================  ================================================================================

Below about 500 readings the round trips of a transaction cost more than its rows. A batch that is in the ledger already
is left out by the one statement, with its readings, and undoes the transaction; a reading that is there already fails
either. All of these then take the long way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from hub.ingest import store
from hub.ingest.arrivals import Arrival, Item, Outcome
from hub.ingest.catalogue import Catalogue, EpochKey
from hub.ingest.connection import OwnConnection
from hub.ingest.copy import Rows
from hub.ingest.correction import Placing
from hub.ingest.intake import GROUP_READINGS_MAX
from hub.ingest.judgement import rows_of
from hub.ingest.records import moment
from hub.ingest.store import NO_STRETCH, Stretch
from hub.ingest.verdict import Bounds, Part, judge
from shared.columns import TIMESTAMP_US_MAX, DecodedColumns
from shared.readings import Int64

READINGS_MAX = 500

_CLAIM = f"""
with entered as materialized (
    select enter_ingest_at($1, $2::integer[]) as ok
), block as materialized (
    select draw_reading_block() * {GROUP_READINGS_MAX} as first_id from entered where ok
), claimed as (
    insert into ledger (epoch_id, seq, checksum, kind, readings, stored, clock_segment, taken_through_us, first_id,
                        last_id)
    select b.epoch_id, b.seq, b.checksum, b.kind, b.readings, b.readings, b.segment, b.through_us,
           case when b.readings > 0 then block.first_id + b.place end,
           case when b.readings > 0 then block.first_id + b.place + b.readings - 1 end
    from block, unnest($3::integer[], $4::bigint[], $5::bigint[], $6::smallint[], $7::integer[], $8::bigint[],
                       $9::bigint[], $10::integer[])
        as b (epoch_id, seq, checksum, kind, readings, segment, through_us, place)
    join epochs e on e.id = b.epoch_id and b.seq > e.folded_through
    order by b.epoch_id, b.seq
    on conflict (epoch_id, seq) do nothing
    returning epoch_id, seq
), dirtied as (
    insert into dirty_minutes (first_id, series_ids, bucket_from, bucket_to)
    select block.first_id, $11::integer[], $12, $13 from block where cardinality($11::integer[]) > 0
), advanced as (
    update epochs e
    set taken_through = greatest(e.taken_through, timestamptz 'epoch' + t.through_us * interval '1 microsecond')
    from block, (
        select b.epoch_id, max(least(b.through_us, {TIMESTAMP_US_MAX})) as through_us
        from unnest($3::integer[], $14::bigint[]) as b (epoch_id, through_us) group by b.epoch_id
    ) as t
    where e.id = t.epoch_id and t.through_us > 0
)"""
_CLAIM_ONLY = f"""{_CLAIM}
select block.first_id, (select count(*) from claimed) as claimed from block
"""
_WITH_READINGS = f"""{_CLAIM}, stored as (
    insert into readings (series_id, profile, time, id, raw, physical, status)
    select r.series_id, r.profile, timestamptz 'epoch' + r.time_us * interval '1 microsecond',
           block.first_id + r.place - 1, nullif(r.raw, 'NaN'), nullif(r.physical, 'NaN'), r.status
    from block, unnest($15::integer[], $16::bigint[], $17::integer[], $18::integer[], $19::bigint[],
                       $20::double precision[], $21::double precision[], $22::smallint[])
        with ordinality as r (epoch_id, seq, series_id, profile, time_us, raw, physical, status, place)
    join claimed on claimed.epoch_id = r.epoch_id and claimed.seq = r.seq
)
select epoch_id, seq from claimed
"""

BeforeCommit = Callable[[], Awaitable[None]]


class _Unusual(Exception):
    """Takes back what was begun, so that the group can take the long way."""


@dataclass(frozen=True, slots=True)
class QuickGroup:
    """A group, judged and ready.

    Attributes:
        generation: of the catalogue, by which it was judged.
        epoch_ids: of each batch.
        rows: their ids count from 0.
        part: int64 (n,), which batch each row is of.
        counts: readings of each batch.
        stretches: of minutes that it touches (`store.stretches`).
    """

    generation: int
    batches: list[Arrival]
    epoch_ids: list[int]
    rows: Rows
    part: Int64
    counts: list[int]
    stretches: list[Stretch]

    async def run(self, connection: OwnConnection, before_commit: BeforeCommit) -> dict[int, Outcome]:
        """Commit it. Returns: outcomes by place of the batch, without those that must take the long way.

        Raises: UniqueViolationError when a reading is there already (nothing is committed then); StorageUnavailable.
        """
        if len(self.rows) <= READINGS_MAX and len(self.stretches) <= 1:
            return await self._in_one_statement(connection, before_commit)
        try:
            await self._in_one_transaction(connection, before_commit)
        except _Unusual:
            return {}
        return {place: Outcome(count) for place, count in enumerate(self.counts)}

    async def _in_one_statement(self, own: OwnConnection, before_commit: BeforeCommit) -> dict[int, Outcome]:
        part = self.part.tolist()
        async with own.use() as connection:
            await before_commit()
            claimed = await connection.fetch(
                _WITH_READINGS,
                *self._claim(self.stretches[0] if self.stretches else NO_STRETCH),
                [self.epoch_ids[place] for place in part],
                [self.batches[place].header.seq for place in part],
                self.rows.series_id.tolist(),
                self.rows.profile.tolist(),
                self.rows.time_us.tolist(),
                self.rows.raw.tolist(),
                self.rows.physical.tolist(),
                self.rows.status.tolist(),
            )
        there = {(row["epoch_id"], row["seq"]) for row in claimed}
        return {
            place: Outcome(self.counts[place])
            for place, batch in enumerate(self.batches)
            if (self.epoch_ids[place], batch.header.seq) in there
        }

    async def _in_one_transaction(self, own: OwnConnection, before_commit: BeforeCommit) -> None:
        first, *others = self.stretches or [NO_STRETCH]
        async with own.transaction() as connection:
            found = await connection.fetchrow(_CLAIM_ONLY, *self._claim(first))
            if found is None or found["claimed"] < len(self.batches):
                raise _Unusual
            if others:
                await store.mark_stretches(connection, found["first_id"], others)
            await store.copy_in(connection, self.rows.numbered(found["first_id"]))
            await before_commit()

    def _claim(self, stretch: Stretch) -> Sequence[object]:
        headers = [batch.header for batch in self.batches]
        return (
            self.generation,
            sorted(set(self.epoch_ids)),
            self.epoch_ids,
            [header.seq for header in headers],
            [header.checksum for header in headers],
            [header.kind for header in headers],
            self.counts,
            [header.clock_segment for header in headers],
            [header.taken_through_us for header in headers],
            list(accumulate(self.counts[:-1], initial=0)),
            stretch.series_ids,
            moment(stretch.from_us),
            moment(stretch.to_us),
            [batch.taken_through_us for batch in self.batches],
        )


def plan(items: Sequence[Item], catalogue: Catalogue, window_us: tuple[int, int]) -> QuickGroup | None:
    """The group made ready; None where it has to take the long way."""
    batches = [item for item in items if isinstance(item, Arrival) and isinstance(item.content, DecodedColumns)]
    if len(batches) < len(items) or any(batch.placing is not Placing.PLACED for batch in batches):
        return None
    epoch_of = _epochs(batches, catalogue)
    known = catalogue.recall(epoch_of) if epoch_of is not None else None
    if epoch_of is None or known is None:
        return None
    epoch_ids = [epoch_of[batch.header.agent_id, batch.header.epoch] for batch in batches]
    parts = [
        Part(batch.content, known.dictionaries[epoch_id])
        for batch, epoch_id in zip(batches, epoch_ids, strict=True)
        if isinstance(batch.content, DecodedColumns)
    ]
    judged = judge(parts, known.profiles.table, Bounds(*window_us, known.dropped_us))
    if judged.asks or judged.verdict.any() or judged.replaced.any():  # anything but STORE, and nothing to be noted
        return None
    rows = rows_of(judged, None, 0, known.profiles)
    counts = [batch.readings for batch in batches]
    stretches = store.stretches(rows.series_id, rows.time_us, judged.part)
    return QuickGroup(catalogue.generation, batches, epoch_ids, rows, judged.part, counts, stretches)


def _epochs(batches: Sequence[Arrival], catalogue: Catalogue) -> Mapping[EpochKey, int] | None:
    keys = {(batch.header.agent_id, batch.header.epoch) for batch in batches}
    return {key: catalogue.epochs[key] for key in keys} if keys <= catalogue.epochs.keys() else None
