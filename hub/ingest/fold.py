"""Folding the ledger: entries of a day ago become one row an epoch and hour, with what was stored of each series.

Invariants
    * An epoch is folded from its first seq upwards, and never past its lowest open one. So "at or below
      `epochs.folded_through`" means known, without a row to look up: such a batch is acknowledged, not stored again.
    * What gap records say will never come counts as known; batches in a clock segment without a place are open.
    * The rows go in one transaction with the new mark and a new generation of the catalogue: an ingest transaction that
      began before it finds the generation changed, and looks again.

After folding a batch cannot be told from another one with its identity: its checksum is gone. So entries are kept for
`KEEP_S`, as long as agents keep acknowledged batches: what can still come again is compared.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hub.agents.epochs import Range, explained
from hub.database.pool import Connection, transaction
from hub.database.storage import Storage
from shared.clock import Clock
from shared.wire import Kind

KEEP_S = 86_400.0
EPOCHS_MAX = 200
ENTRIES_PER_EPOCH_MAX = 2000
ENTRIES_MAX = 10_000
"""At once: ingest waits while they go."""
TIMEOUT_S = 60.0
ROUNDS_MAX = 50
NEAR_IDS = 65_536
"""Batches whose readings lie closer than this are counted in one pass over the ids."""
_LOCK = 0x6C61_6272_0007

log = logging.getLogger(__name__)

_EPOCHS = """
select e.id, e.agent_id, e.epoch, e.folded_through
from epochs e
cross join lateral (select seq, committed_at from ledger l where l.epoch_id = e.id order by seq limit 1) as oldest
where oldest.committed_at < $1 and (oldest.seq <= e.folded_through + 1 or exists (
    select from gaps g join epochs x on x.id = g.epoch_id
    where x.agent_id = e.agent_id and jsonb_array_length(g.record -> 'batches') > 0
))
order by oldest.committed_at limit $2
"""
_ENTRIES = f"""
select l.seq, date_trunc('hour', l.committed_at, 'UTC') as hour, l.committed_at < $2 as is_due,
       l.readings, l.stored, l.repeated, l.set_aside, l.clock_segment, l.first_id, l.last_id, k.correction_us,
       l.kind = {int(Kind.DATA)} and k.epoch_id is null as is_open,
       case when l.taken_through_us > 0 then l.taken_through_us + k.correction_us end as through_us
from ledger l
left join clock_corrections k on k.epoch_id = l.epoch_id and k.segment = l.clock_segment
where l.epoch_id = $1
order by l.seq limit {ENTRIES_PER_EPOCH_MAX}
"""
_SERIES = """
select r.place, r.series_id, count(*) as readings
from (
    select width_bucket(id, $1::bigint[]) as place, id, series_id from readings where id between $3 and $4
) as r
where r.id <= ($2::bigint[])[r.place]
group by r.place, r.series_id
"""
_CHANGE = "select pg_advisory_xact_lock(1280459057, 1), nextval('catalogue_generation')"
_DELETE = "delete from ledger where epoch_id = $1 and seq = any($2::bigint[])"
_MARK = """
update epochs
set folded_through = greatest(folded_through, $2),
    folded_taken_through = greatest(folded_taken_through, timestamptz 'epoch' + $3 * interval '1 microsecond')
where id = $1
"""
_STANDING = "select series from ledger_folded where epoch_id = $1 and hour = $2"
_FOLD = """
insert into ledger_folded as f
    (epoch_id, hour, first_seq, last_seq, batches, readings, stored, repeated, set_aside, series)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
on conflict (epoch_id, hour) do update
set first_seq = least(f.first_seq, excluded.first_seq), last_seq = greatest(f.last_seq, excluded.last_seq),
    batches = f.batches + excluded.batches, readings = f.readings + excluded.readings,
    stored = f.stored + excluded.stored, repeated = f.repeated + excluded.repeated,
    set_aside = f.set_aside + excluded.set_aside, series = excluded.series
"""
_CORRECTED = """
insert into corrected_ids (first_id, last_id, epoch_id, segment) values ($1, $2, $3, $4) on conflict do nothing
"""


@dataclass(slots=True)
class _Prefix:
    """What can be folded of one epoch: entries in the order of their seq, and the last seq that is then known."""

    epoch_id: int
    through: int
    entries: list[Any] = field(default_factory=list)


class LedgerFolding:
    """Folds, by one hub at a time."""

    def __init__(self, storage: Storage, clock: Clock, *, keep_s: float = KEEP_S) -> None:
        self._storage = storage
        self._clock = clock
        self._keep_s = keep_s

    async def work(self) -> None:
        """Fold what is due, as far as it is done in a while. Raises: StorageUnavailable."""
        for _ in range(ROUNDS_MAX):
            if not await self.once():
                return

    async def once(self) -> int:
        """Fold some. Returns: how many entries are gone, 0 if another hub is at it. Raises: StorageUnavailable."""
        cutoff = datetime.fromtimestamp(self._clock.now_us() / 1e6, UTC) - timedelta(seconds=self._keep_s)
        async with transaction(self._storage.pool) as connection:
            if not await connection.fetchval("select pg_try_advisory_xact_lock($1)", _LOCK):
                return 0
            await connection.execute(f"set local statement_timeout = {round(TIMEOUT_S * 1000)}")
            prefixes = await _prefixes(connection, cutoff)
            if not prefixes:
                return 0
            series = await _count_series(connection, prefixes)
            await connection.execute(_CHANGE)
            for prefix in prefixes:
                await _fold(connection, prefix, series)
        folded = sum(len(prefix.entries) for prefix in prefixes)
        log.info("event=ledger_folded entries=%d epochs=%d", folded, len(prefixes))
        return folded


async def _prefixes(connection: Connection, cutoff: datetime) -> list[_Prefix]:
    """What can be folded now, as far as `ENTRIES_MAX` lets."""
    found: list[_Prefix] = []
    room = ENTRIES_MAX
    for epoch in await connection.fetch(_EPOCHS, cutoff, EPOCHS_MAX):
        prefix = await _prefix(connection, epoch, cutoff)
        if prefix.entries:
            found.append(prefix)
        room -= len(prefix.entries)
        if room <= 0:
            break
    return found


async def _prefix(connection: Connection, epoch: Any, cutoff: datetime) -> _Prefix:
    agent_id: UUID = epoch["agent_id"]
    gone = sorted(await explained(connection, agent_id, epoch["epoch"]))
    prefix = _Prefix(epoch["id"], _through(epoch["folded_through"], gone))
    for entry in await connection.fetch(_ENTRIES, epoch["id"], cutoff):
        if entry["seq"] > prefix.through + 1 or not entry["is_due"] or entry["is_open"]:
            break
        prefix.entries.append(entry)
        prefix.through = _through(max(prefix.through, entry["seq"]), gone)
    return prefix


def _through(known: int, gone: Sequence[Range]) -> int:
    """The last known seq, with the ranges (rising) that follow on it."""
    for first, last in gone:
        if first > known + 1:
            break
        known = max(known, last)
    return known


async def _count_series(
    connection: Connection, prefixes: Sequence[_Prefix]
) -> dict[tuple[int, datetime], Counter[int]]:
    """Stored readings by series, for each epoch and hour."""
    batches = sorted(
        (entry["first_id"], entry["last_id"], (prefix.epoch_id, entry["hour"]))
        for prefix in prefixes
        for entry in prefix.entries
        if entry["first_id"] is not None and entry["last_id"] is not None
    )
    counts: dict[tuple[int, datetime], Counter[int]] = defaultdict(Counter)
    for near in _near(batches):
        firsts, lasts = [one[0] for one in near], [one[1] for one in near]
        for row in await connection.fetch(_SERIES, firsts, lasts, firsts[0], max(lasts), timeout=TIMEOUT_S):
            counts[near[row["place"] - 1][2]][row["series_id"]] += row["readings"]
    return counts


def _near(batches: Sequence[tuple[int, int, Any]]) -> Iterator[list[tuple[int, int, Any]]]:
    """Batches in stretches of ids worth one pass each."""
    stretch: list[tuple[int, int, Any]] = []
    for batch in batches:
        if stretch and batch[0] - stretch[-1][1] > NEAR_IDS:
            yield stretch
            stretch = []
        stretch.append(batch)
    if stretch:
        yield stretch


async def _fold(connection: Connection, prefix: _Prefix, series: dict[tuple[int, datetime], Counter[int]]) -> None:
    by_hour: dict[datetime, list[Any]] = defaultdict(list)
    for entry in prefix.entries:
        by_hour[entry["hour"]].append(entry)
    for hour, entries in by_hour.items():
        standing = await connection.fetchval(_STANDING, prefix.epoch_id, hour) or {}
        counts = series.get((prefix.epoch_id, hour), Counter()) + Counter(
            {int(key): value for key, value in standing.items()}
        )
        await connection.execute(
            _FOLD,
            prefix.epoch_id,
            hour,
            entries[0]["seq"],
            entries[-1]["seq"],
            len(entries),
            *(sum(entry[name] for entry in entries) for name in ("readings", "stored", "repeated", "set_aside")),
            {str(key): value for key, value in sorted(counts.items())},
        )
    corrected = _corrected(prefix)
    if corrected:
        await connection.executemany(_CORRECTED, corrected)
    await connection.execute(_DELETE, prefix.epoch_id, [entry["seq"] for entry in prefix.entries])
    through_us = max((entry["through_us"] for entry in prefix.entries if entry["through_us"] is not None), default=None)
    await connection.execute(_MARK, prefix.epoch_id, prefix.through, through_us)


def _corrected(prefix: _Prefix) -> list[tuple[int, int, int, int]]:
    """Ids of readings whose times were moved, in as few ranges as possible: first, last, epoch, segment."""
    found: list[tuple[int, int, int, int]] = []
    moved = [entry for entry in prefix.entries if entry["correction_us"] and entry["first_id"] is not None]
    for entry in sorted(moved, key=lambda entry: int(entry["first_id"])):
        one = (entry["first_id"], entry["last_id"], prefix.epoch_id, entry["clock_segment"])
        if found and found[-1][1] + 1 == one[0] and found[-1][3] == one[3]:
            found[-1] = (found[-1][0], *one[1:])
        else:
            found.append(one)
    return found
