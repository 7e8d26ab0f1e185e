"""Readings summed up in buckets of equal length, aligned to 1970-01-01 UTC.

Whole minutes come from the one-minute aggregates, but for those that are marked as dirty, which together with what
is left at both ends come from the readings; all in one statement, so that marks, aggregates and readings are of one
moment. Buckets that are not whole minutes come from the readings alone. A minute without readings keeps its aggregate,
marked or not: retention has dropped them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias

import asyncpg

from hub.database.pool import Connection, translated
from hub.telemetry.catalogue import Catalogue
from hub.telemetry.moments import to_datetime, to_us
from hub.telemetry.sums import average, sum_of

BUCKETS_MAX = 20_000
PER_SERIES_DEFAULT_MAX = 1500
"""Buckets a series that an interval chosen by us gives at most."""
TIMEOUT_S = 30.0
MINUTE_US = 60_000_000
_LADDER_US = tuple(MINUTE_US * minutes for minutes in (1, 5, 15, 60, 360, 1440, 7 * 1440, 30 * 1440, 366 * 1440))

Buckets: TypeAlias = list[dict[str, Any]]

_PARTS = f"""
    count(*) as sample_count,
    count(raw) as raw_count, {sum_of("raw")} as sum_raw, min(raw) as min_raw, max(raw) as max_raw,
    count(physical) as physical_count, {sum_of("physical")} as sum_physical,
    min(physical) as min_physical, max(physical) as max_physical
"""
_RESULT = """
    sample_count, sum_raw, raw_count, min_raw, max_raw, sum_physical, physical_count, min_physical, max_physical
"""

_FROM_READINGS = f"""
select bucket, series_id, {_RESULT} from (
    select date_bin($4, time, timestamptz 'epoch') as bucket, series_id, {_PARTS}
    from readings r where series_id = any($1) and time >= $2 and time < $3 and {{belongs}}
    group by 1, 2
) b
order by bucket {{direction}}, series_id limit $5
"""

# $2 … $3 is what was asked for, $6 … $7 the whole minutes in it.
_FROM_MINUTES = f"""
with dirty as materialized (
    select distinct series_id, bucket
    from dirty_minutes, unnest(series_ids) series_id, generate_series(
        greatest(bucket_from, $6::timestamptz),
        least(bucket_to, $7::timestamptz - interval '1 minute'),
        interval '1 minute'
    ) bucket
    where series_ids && $1 and bucket_to >= $6 and bucket_from < $7 and series_id = any($1)
), fresh as materialized (
    select d.series_id, d.bucket, r.*
    from dirty d cross join lateral (
        select {_PARTS} from readings
        where series_id = d.series_id and time >= d.bucket and time < d.bucket + interval '1 minute'
        having count(*) > 0
    ) r
), parts as (
    select series_id, bucket as time, sample_count, raw_count, sum_raw, min_raw, max_raw,
           physical_count, sum_physical, min_physical, max_physical
    from aggregates_1m a
    where series_id = any($1) and bucket >= $6 and bucket < $7
      and not exists (select from fresh f where f.series_id = a.series_id and f.bucket = a.bucket)
    union all
    select * from fresh
    union all
    select series_id, date_bin($4, time, timestamptz 'epoch'), {_PARTS}
    from readings where series_id = any($1) and time >= $2 and time < $6 group by 1, 2
    union all
    select series_id, date_bin($4, time, timestamptz 'epoch'), {_PARTS}
    from readings where series_id = any($1) and time >= $7 and time < $3 group by 1, 2
)
select bucket, series_id, {_RESULT} from (
    select date_bin($4, time, timestamptz 'epoch') as bucket, series_id,
           sum(sample_count)::bigint as sample_count,
           sum(raw_count) as raw_count, sum(sum_raw) as sum_raw, min(min_raw) as min_raw, max(max_raw) as max_raw,
           sum(physical_count) as physical_count, sum(sum_physical) as sum_physical,
           min(min_physical) as min_physical, max(max_physical) as max_physical
    from parts group by 1, 2
) b
where sample_count > 0
order by bucket {{direction}}, series_id limit $5
"""

_EXTENT = """
select min(found.first), max(found.last) from unnest($1::int[]) one, lateral (
    select least((select time from readings where series_id = one order by time limit 1),
                 (select bucket from aggregates_1m where series_id = one order by bucket limit 1)) as first,
           greatest((select time from readings where series_id = one order by time desc limit 1),
                    (select bucket + interval '59.999999 seconds'
                     from aggregates_1m where series_id = one order by bucket desc limit 1)) as last
) found
"""


@dataclass(frozen=True, slots=True)
class Extent:
    """A half-open stretch of time in UTC microseconds."""

    from_us: int
    to_us: int

    def within(self, from_us: int | None, to_us: int | None) -> Extent | None:
        """What of it lies in a half-open range (None for open ends), None if nothing does."""
        first = self.from_us if from_us is None else max(self.from_us, from_us)
        last = self.to_us if to_us is None else min(self.to_us, to_us)
        return Extent(first, last) if first < last else None


async def extent_of(connection: Connection, series: list[int]) -> Extent | None:
    """From the first reading of these series to behind the last, None where there are none."""
    with translated():
        record = await connection.fetchrow(_EXTENT, series, timeout=TIMEOUT_S)
    if record is None or record[0] is None:
        return None
    return Extent(to_us(record[0]), to_us(record[1]) + 1)


def default_interval_us(extent: Extent, series: int) -> int:
    """The shortest of our intervals that gives neither too many buckets a series nor too many in all."""
    per_series = max(1, min(PER_SERIES_DEFAULT_MAX, BUCKETS_MAX // max(1, series)))
    span_us = extent.to_us - extent.from_us
    return next((one for one in _LADDER_US if span_us <= one * (per_series - 1)), _LADDER_US[-1])


async def read_buckets(
    connection: Connection,
    catalogue: Catalogue,
    series: list[int],
    extent: Extent,
    interval_us: int,
    limit: int,
    *,
    belongs: str = "",
    descending: bool = False,
) -> Buckets:
    """The first `limit` buckets that hold readings, by time, then series; the latest ones first where `descending`.

    Args:
        belongs: what else holds for the readings, as SQL about `r`.

    Raises: StorageUnavailable.
    """
    bounds = to_datetime(extent.from_us), to_datetime(extent.to_us)
    arguments = (series, *bounds, timedelta(microseconds=interval_us), limit)
    inner_from_us = -(-extent.from_us // MINUTE_US) * MINUTE_US
    inner_to_us = extent.to_us // MINUTE_US * MINUTE_US
    direction = "desc" if descending else "asc"
    with translated():
        if belongs or interval_us % MINUTE_US or inner_from_us >= inner_to_us:
            statement = _FROM_READINGS.format(belongs=belongs or "true", direction=direction)
            records = await connection.fetch(statement, *arguments, timeout=TIMEOUT_S)
        else:
            inner = to_datetime(inner_from_us), to_datetime(inner_to_us)
            statement = _FROM_MINUTES.format(direction=direction)
            records = await connection.fetch(statement, *arguments, *inner, timeout=TIMEOUT_S)
    return [_bucket(record, catalogue) for record in records]


def _bucket(record: asyncpg.Record, catalogue: Catalogue) -> dict[str, Any]:
    bucket, series_id, samples, sum_raw, raw_count, min_raw, max_raw, sum_physical, physical_count, *extremes = record
    series = catalogue.series[series_id]
    return {
        "bucket": bucket,
        "sensor_id": str(series.sensor_id),
        "signal": series.signal,
        "capture_session_id": None,
        "sample_count": samples,
        "avg_raw": average(sum_raw, raw_count),
        "min_raw": min_raw,
        "max_raw": max_raw,
        "avg_physical": average(sum_physical, physical_count),
        "min_physical": extremes[0],
        "max_physical": extremes[1],
    }
