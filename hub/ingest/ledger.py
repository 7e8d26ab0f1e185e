"""The ledger: every batch that was committed, entered in the transaction that stores its readings.

It is what makes the effect of a batch exactly once. The same identity with the same checksum is known already, and is
acknowledged again; with another checksum it is a conflict. Both are decided under the epoch's lock (`enter_ingest`),
and the primary key (epoch, seq) is the last guard.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hub.database.pool import Connection
from shared.columns import TIMESTAMP_US_MAX
from shared.wire import Header

_LOOK_UP = """
select w.epoch_id, w.seq, w.seq <= (select e.folded_through from epochs e where e.id = w.epoch_id) as folded,
       (select l.checksum from ledger l where l.epoch_id = w.epoch_id and l.seq = w.seq) as checksum
from unnest($1::integer[], $2::bigint[]) as w (epoch_id, seq)
"""
_ENTER = """
insert into ledger (epoch_id, seq, checksum, kind, readings, stored, repeated, set_aside,
                    clock_segment, taken_through_us, first_id, last_id)
select * from unnest($1::integer[], $2::bigint[], $3::bigint[], $4::smallint[], $5::integer[], $6::integer[],
                     $7::integer[], $8::integer[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[])
"""
_TAKEN_THROUGH = """
update epochs e
set taken_through = greatest(e.taken_through, timestamptz 'epoch' + t.through_us * interval '1 microsecond')
from unnest($1::integer[], $2::bigint[]) as t (epoch_id, through_us)
where e.id = t.epoch_id
"""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """What is entered for one batch.

    Attributes:
        first_id, last_id: of its readings.
        taken_through_us: corrected, 0 for nothing; the ledger itself keeps what the batch says.
    """

    epoch_id: int
    header: Header
    readings: int = 0
    stored: int = 0
    repeated: int = 0
    set_aside: int = 0
    first_id: int | None = None
    last_id: int | None = None
    taken_through_us: int = 0


async def look_up(connection: Connection, identities: Sequence[tuple[int, int]]) -> dict[tuple[int, int], int | None]:
    """Checksums of those batches (epoch id, seq) that are known; None where the entry was folded."""
    rows = await connection.fetch(_LOOK_UP, [epoch for epoch, _ in identities], [seq for _, seq in identities])
    return {
        (row["epoch_id"], row["seq"]): row["checksum"] for row in rows if row["checksum"] is not None or row["folded"]
    }


async def enter(connection: Connection, entries: Sequence[LedgerEntry]) -> None:
    """Enter batches, and note how far their epochs are taken. Raises: UniqueViolationError for one that is there."""
    ordered = sorted(entries, key=lambda entry: (entry.epoch_id, entry.header.seq))
    await connection.execute(
        _ENTER,
        [entry.epoch_id for entry in ordered],
        [entry.header.seq for entry in ordered],
        [entry.header.checksum for entry in ordered],
        [entry.header.kind for entry in ordered],
        [entry.readings for entry in ordered],
        [entry.stored for entry in ordered],
        [entry.repeated for entry in ordered],
        [entry.set_aside for entry in ordered],
        [entry.header.clock_segment for entry in ordered],
        [entry.header.taken_through_us for entry in ordered],
        [entry.first_id for entry in ordered],
        [entry.last_id for entry in ordered],
    )
    through: dict[int, int] = {}
    for entry in ordered:
        taken_us = min(entry.taken_through_us, TIMESTAMP_US_MAX)
        if taken_us > 0:
            through[entry.epoch_id] = max(taken_us, through.get(entry.epoch_id, 0))
    if through:
        await connection.execute(_TAKEN_THROUGH, list(through), list(through.values()))
