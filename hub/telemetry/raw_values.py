"""Raw values, left out for viewers whom a project does not show them (`hub.access.policies.raw_hidden_from`)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from hub.telemetry.buckets import Buckets
from hub.telemetry.live import SensorIds
from hub.telemetry.scan import Rows


def without_raw(rows: Rows, series: Collection[int] | None = None) -> Rows:
    """The rows, without the raw values of these series, or of all."""
    if series is not None and not len(series):
        return rows
    hidden = np.ones(len(rows), np.bool_) if series is None else np.isin(rows.series, list(series))
    return replace(rows, raw=np.where(hidden, np.nan, rows.raw))


def buckets_without_raw(buckets: Buckets, sensors: SensorIds) -> Buckets:
    """The buckets, without what those of these sensors say of raw values."""
    hidden = set(map(str, sensors))
    nothing = {"avg_raw": None, "min_raw": None, "max_raw": None}
    return [bucket | nothing if bucket["sensor_id"] in hidden else bucket for bucket in buckets]
