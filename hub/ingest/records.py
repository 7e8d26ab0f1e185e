"""Batches that are not readings: dictionaries, openings of epochs, gaps and clock offsets, into their tables."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from hub.database.pool import Connection
from shared.columns import TIMESTAMP_US_MAX
from shared.records import ClockRecord, Dictionary, Gap, Opening, Record
from shared.wire import Header

DICTIONARY_ENTRIES_MAX = 100_000
"""Series references in one epoch; more is no dictionary but an attack."""

_DICTIONARY_SERIES = """
insert into dictionary_series (epoch_id, ref, sensor_name, signal, unit)
select $1, * from unnest($2::bigint[], $3::text[], $4::text[], $5::text[])
on conflict (epoch_id, ref) do nothing
"""
_DICTIONARY_PROFILES = """
insert into dictionary_profiles (epoch_id, ref, profile_id)
select $1, * from unnest($2::bigint[], $3::uuid[])
on conflict (epoch_id, ref) do nothing
"""
_STANDING_SERIES = """
select ref, sensor_name, signal from dictionary_series where epoch_id = $1 and ref = any($2::bigint[])
"""
_STANDING_PROFILES = "select ref, profile_id from dictionary_profiles where epoch_id = $1 and ref = any($2::bigint[])"
_SIZE = "select count(*) from dictionary_series where epoch_id = $1"
_OPENING = """
update epochs
set previous_epoch = $2, previous_last_seq = $3, started_at = $4, version = $5, host = $6
where id = $1
"""
_GAP = """
insert into gaps (epoch_id, seq, cause, time_from, time_to, readings, record, clock_segment)
values ($1, $2, $3, $4, $5, $6, $7, $8)
"""
_CLOCK = """
insert into clock_segments (epoch_id, segment, opened_us, offset_us, uncertainty_us, measured_us, step_us, source)
values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict (epoch_id, segment) do update
set opened_us = excluded.opened_us, offset_us = excluded.offset_us, uncertainty_us = excluded.uncertainty_us,
    measured_us = excluded.measured_us, step_us = excluded.step_us, source = excluded.source
where (excluded.source = 'hub', excluded.measured_us) >= (clock_segments.source = 'hub', clock_segments.measured_us)
"""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INT64 = 1 << 63
_UINT32_MAX = (1 << 32) - 1


def is_storable(record: Record) -> bool:
    """Whether PostgreSQL can hold every text in it (it holds no NUL), and every number is in range."""
    if b"\\u0000" in msgspec.json.encode(record):
        return False
    if isinstance(record, ClockRecord):
        numbers = (record.opened_us, record.offset_us, record.uncertainty_us, record.measured_us, record.step_us)
        return 0 <= record.segment <= _UINT32_MAX and all(-_INT64 <= number < _INT64 for number in numbers)
    if isinstance(record, Gap):
        return -_INT64 <= record.readings < _INT64
    return True


async def contradicts(connection: Connection, epoch_id: int, dictionary: Dictionary) -> bool:
    """Whether it gives another meaning to a reference that has one, in the table or in itself, or is too large."""
    series: dict[int, tuple[str, str]] = {}
    for entry in dictionary.series:
        if series.setdefault(entry.ref, (entry.sensor, entry.signal)) != (entry.sensor, entry.signal):
            return True
    profiles = {entry.ref: entry.profile_id for entry in dictionary.profiles}
    if any(profiles[entry.ref] != entry.profile_id for entry in dictionary.profiles):
        return True
    if series:
        for row in await connection.fetch(_STANDING_SERIES, epoch_id, list(series)):
            if series[row["ref"]] != (row["sensor_name"], row["signal"]):
                return True
        if await connection.fetchval(_SIZE, epoch_id) + len(series) > DICTIONARY_ENTRIES_MAX:
            return True
    if profiles:
        for row in await connection.fetch(_STANDING_PROFILES, epoch_id, list(profiles)):
            if profiles[row["ref"]] != row["profile_id"]:
                return True
    return False


async def add_dictionary(connection: Connection, epoch_id: int, dictionary: Dictionary) -> None:
    """Add to an epoch's dictionary; what is there already stays."""
    if dictionary.series:
        await connection.execute(
            _DICTIONARY_SERIES,
            epoch_id,
            [entry.ref for entry in dictionary.series],
            [entry.sensor for entry in dictionary.series],
            [entry.signal for entry in dictionary.series],
            [entry.unit for entry in dictionary.series],
        )
    if dictionary.profiles:
        refs = [entry.ref for entry in dictionary.profiles]
        await connection.execute(
            _DICTIONARY_PROFILES, epoch_id, refs, [entry.profile_id for entry in dictionary.profiles]
        )


async def add_records(connection: Connection, records: Sequence[tuple[int, Header, Record]]) -> None:
    """Note openings, gaps and clock offsets.

    Args:
        records: epoch id, the batch's header and its record, already in the ledger.
    """
    for epoch_id, header, record in records:
        if isinstance(record, Opening):
            await _add_opening(connection, epoch_id, record)
        elif isinstance(record, Gap):
            await _add_gap(connection, epoch_id, header, record)
        elif isinstance(record, ClockRecord):
            numbers = (record.opened_us, record.offset_us, record.uncertainty_us, record.measured_us, record.step_us)
            await connection.execute(_CLOCK, epoch_id, record.segment, *numbers, record.source)


async def _add_opening(connection: Connection, epoch_id: int, opening: Opening) -> None:
    previous = bytes.fromhex(opening.previous_epoch) or None
    last_seq = opening.previous_last_seq if previous else None
    started = moment(opening.started_us)
    await connection.execute(_OPENING, epoch_id, previous, last_seq, started, opening.version[:100], opening.host[:255])


async def _add_gap(connection: Connection, epoch_id: int, header: Header, gap: Gap) -> None:
    count = gap.readings if gap.readings >= 0 else None
    times = moment(gap.from_us), moment(gap.to_us)
    record = msgspec.to_builtins(gap)
    await connection.execute(_GAP, epoch_id, header.seq, gap.cause, *times, count, record, header.clock_segment)


def moment(time_us: int) -> datetime:
    """An aware datetime; what lies outside 1970 … 9999 is moved to its end."""
    return _EPOCH + timedelta(microseconds=min(max(time_us, 0), TIMESTAMP_US_MAX))
