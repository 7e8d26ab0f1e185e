"""Epochs of an agent: what came, what is missing, and whether anything can still come.

===============  ====================================================================================================
`open`           the agent's latest; more may come
`closed`         its successor has said what its last batch was, or an owner has closed it
`unknown_tail`   neither, and the agent has gone on without it (a lost disk, a restored copy) or is retired: nobody
                 knows how much it had taken
===============  ====================================================================================================

An unknown tail never counts as explained until an owner closes it with a reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias
from uuid import UUID

import asyncpg

from hub.database.pool import Connection

if TYPE_CHECKING:
    Row: TypeAlias = asyncpg.Record
else:
    Row = asyncpg.Record

EpochState = Literal["open", "closed", "unknown_tail"]
RANGES_MAX = 1000
GAPS_MAX = 100

_COLUMNS = """
    e.id, e.epoch, e.previous_epoch, e.started_at, e.version, e.host, e.taken_through, e.first_received_at,
    e.folded_through, e.closed_at, e.closed_by, e.closed_reason, a.status as agent_status,
    n.epoch as successor, n.previous_last_seq as told_last_seq,
    (select min(seq) from ledger l where l.epoch_id = e.id) as ledger_first,
    (select max(seq) from ledger l where l.epoch_id = e.id) as ledger_last
"""
_FROM = """
from epochs e
join agents a on a.id = e.agent_id
left join lateral (
    select s.epoch, s.previous_last_seq from epochs s
    where s.agent_id = e.agent_id and s.previous_epoch = e.epoch
    order by s.previous_last_seq desc nulls last, s.id limit 1
) n on true
where e.agent_id = $1
"""
_PAGE = f"select {_COLUMNS} {_FROM} order by e.started_at desc nulls last, e.id desc limit $2 offset $3"
_COUNT = "select count(*) from epochs where agent_id = $1"
_ONE = f"select {_COLUMNS} {_FROM} and e.epoch = $2"
_LATEST = """
select epoch from epochs where agent_id = $1 order by started_at desc nulls last, id desc limit 1
"""
_KNOWN = """
select min(seq) as first, max(seq) as last
from (select seq, seq - row_number() over (order by seq) as island from ledger where epoch_id = $1) as l
group by island order by 1
"""
_EXPLAINED = """
select (b ->> 1)::bigint as first, (b ->> 2)::bigint as last
from gaps g join epochs e on e.id = g.epoch_id
cross join lateral jsonb_array_elements(g.record -> 'batches') as b
where e.agent_id = $1 and b ->> 0 = $2
"""
_GAPS = f"""
select cause, time_from, time_to, readings from gaps where epoch_id = $1 order by seq desc limit {GAPS_MAX}
"""
_CLOSE = """
update epochs set closed_at = now(), closed_by = $2, closed_reason = $3 where id = $1 and closed_at is null
returning id
"""


class Range(NamedTuple):
    """Seqs `first` to `last`, inclusive."""

    first: int
    last: int


def missing(last_seq: int, known: Iterable[Range]) -> list[Range]:
    """The seqs from 1 to `last_seq` that are in none of the ranges (which may overlap, in any order)."""
    found: list[Range] = []
    wanted = 1
    for first, last in sorted(known):
        if first > last_seq:
            break
        if first > wanted:
            found.append(Range(wanted, first - 1))
        wanted = max(wanted, last + 1)
    if wanted <= last_seq:
        found.append(Range(wanted, last_seq))
    return found


def known_through(known: Iterable[Range]) -> int:
    """The last seq up to which none is missing."""
    through = 0
    for first, last in sorted(known):
        if first > through + 1:
            break
        through = max(through, last)
    return through


def state_of(row: Row, running: bytes | None) -> EpochState:
    """See the module.

    Args:
        running: the agent's latest epoch.
    """
    if row["closed_at"] is not None or row["told_last_seq"] is not None:
        return "closed"
    return "open" if row["epoch"] == running and row["agent_status"] == "enrolled" else "unknown_tail"


def last_seq_of(row: Row) -> int:
    """The last seq that there was, as far as anybody has said."""
    last: int = max(row["ledger_last"] or 0, row["folded_through"], row["told_last_seq"] or 0)
    return last


async def page(connection: Connection, agent_id: UUID, limit: int, offset: int) -> tuple[list[Row], int]:
    """An agent's epochs, latest first, and how many there are."""
    rows = await connection.fetch(_PAGE, agent_id, limit, offset)
    total: int = await connection.fetchval(_COUNT, agent_id)
    return rows, total


async def one(connection: Connection, agent_id: UUID, epoch: bytes) -> Row | None:
    """An epoch."""
    return await connection.fetchrow(_ONE, agent_id, epoch)


async def latest(connection: Connection, agent_id: UUID) -> bytes | None:
    """The epoch that began last."""
    found: bytes | None = await connection.fetchval(_LATEST, agent_id)
    return found


async def committed(connection: Connection, epoch_id: int, folded_through: int) -> list[Range]:
    """The batches that are stored here."""
    rows = await connection.fetch(_KNOWN, epoch_id)
    folded = [Range(1, folded_through)] if folded_through else []
    return folded + [Range(row["first"], row["last"]) for row in rows]


async def explained(connection: Connection, agent_id: UUID, epoch: bytes) -> list[Range]:
    """The batches of which a gap record says why they never come."""
    rows = await connection.fetch(_EXPLAINED, agent_id, epoch.hex())
    return [Range(row["first"], row["last"]) for row in rows]


async def gaps(connection: Connection, epoch_id: int) -> Sequence[Row]:
    """The latest gap records of an epoch."""
    return await connection.fetch(_GAPS, epoch_id)


async def close(connection: Connection, epoch_id: int, closed_by: UUID, reason: str) -> bool:
    """Say why nothing more will come. Returns: whether nobody had said so before."""
    return await connection.fetchval(_CLOSE, epoch_id, closed_by, reason) is not None
