"""Buckets of readings as another profile would have them: summed up here, reading by reading, as none are kept."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hub.database.pool import Connection
from hub.errors import invalid
from hub.telemetry.as_of import AsOf
from hub.telemetry.buckets import Buckets
from hub.telemetry.catalogue import Catalogue
from hub.telemetry.moments import to_datetime
from hub.telemetry.scan import Rows, Where, scan_by_time
from hub.telemetry.sums import SUMMABLE_MAX
from shared.readings import Float64, Int64

READINGS_MAX = 5_000_000
_PAGE_ROWS = 100_000


@dataclass(slots=True)
class _Sums:
    """Values of one kind, summed up; an extreme is None while there are none."""

    count: int = 0
    total: float = 0.0
    low: float | None = None
    high: float | None = None

    def add(self, count: int, total: float, low: float, high: float) -> None:
        if count:
            self.count += count
            self.total += total
            self.low = low if self.low is None else min(self.low, low)
            self.high = high if self.high is None else max(self.high, high)

    def named(self, kind: str) -> dict[str, Any]:
        average = self.total / self.count if self.count else None
        return {f"avg_{kind}": average, f"min_{kind}": self.low, f"max_{kind}": self.high}


@dataclass(slots=True)
class _Bucket:
    samples: int = 0
    raw: _Sums = field(default_factory=_Sums)
    physical: _Sums = field(default_factory=_Sums)


async def read_buckets_as_of(
    connection: Connection, catalogue: Catalogue, where: Where, interval_us: int, profile: AsOf
) -> Buckets:
    """All buckets that hold readings, by series, then time.

    Args:
        where: readings of the profile's sensor, over a range of time with both ends.

    Raises: Problem 422 for more than `READINGS_MAX` readings; StorageUnavailable.
    """
    found: Buckets = []
    left = READINGS_MAX
    for series_id in where.series or ():
        buckets: dict[int, _Bucket] = {}
        rest = replace(where, series=(series_id,))
        while True:
            rows = await scan_by_time(connection, rest, limit=_PAGE_ROWS)
            left -= len(rows)
            if left < 0:
                raise invalid(
                    "as_of_profile", f"converts at most {READINGS_MAX} readings at once; take a shorter range"
                )
            _add(buckets, rows, interval_us, profile)
            if len(rows) < _PAGE_ROWS:
                break
            rest = replace(rest, time_from_us=int(rows.time_us[-1]) + 1)
        found += _answers(buckets, series_id, catalogue)
    return found


def _add(buckets: dict[int, _Bucket], rows: Rows, interval_us: int, profile: AsOf) -> None:
    if not len(rows):
        return
    place = rows.time_us // interval_us
    starts = np.flatnonzero(np.diff(place, prepend=place[0] - 1))
    sizes = np.diff(np.append(starts, len(place)))
    physical = profile.convert(rows.raw, rows.physical, rows.status).physical
    columns = zip((place[starts] * interval_us).tolist(), sizes.tolist(), *_summed(rows.raw, starts), strict=True)
    of_physical = zip(*_summed(physical, starts), strict=True)
    for (from_us, size, *raw), physical_sums in zip(columns, of_physical, strict=True):
        bucket = buckets.setdefault(from_us, _Bucket())
        bucket.samples += size
        bucket.raw.add(*raw)
        bucket.physical.add(*physical_sums)


def _summed(values: Float64, starts: Int64) -> tuple[list[Any], ...]:
    """Count, sum, least and greatest of each stretch, of the values that there are."""
    there = ~np.isnan(values)
    summable = np.where(np.abs(values) > SUMMABLE_MAX, np.copysign(np.inf, values), values)
    with np.errstate(invalid="ignore"):  # infinities of both signs
        sums = np.add.reduceat(np.where(there, summable, 0.0), starts).tolist()
    return (
        np.add.reduceat(there.astype(np.int64), starts).tolist(),
        sums,
        np.minimum.reduceat(np.where(there, values, np.inf), starts).tolist(),
        np.maximum.reduceat(np.where(there, values, -np.inf), starts).tolist(),
    )


def _answers(buckets: dict[int, _Bucket], series_id: int, catalogue: Catalogue) -> Buckets:
    series = catalogue.series[series_id]
    return [
        {
            "bucket": to_datetime(from_us),
            "sensor_id": str(series.sensor_id),
            "signal": series.signal,
            "capture_session_id": None,
            "sample_count": bucket.samples,
            **bucket.raw.named("raw"),
            **bucket.physical.named("physical"),
        }
        for from_us, bucket in sorted(buckets.items())
    ]
