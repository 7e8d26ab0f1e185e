"""Readings of one signal as columns of numbers: the compact form of a message over WebSocket.

    {"timestamp_us": [1772452800000000, …], "raw_value": [20.5, …], "signal": "value"}

Times are microseconds since 1970, UTC. All columns are equally long. Everything else is as in `POST /api/v1/telemetry`.
"""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
import numpy as np

from hub.errors import invalid
from hub.ingest import nonfinite
from hub.ingest.arrivals import Submission
from hub.ingest.body import READINGS_MAX, Signal, decoded, own_meta
from shared.readings import DEFAULT_SIGNAL, Columns, Status

TIME_US_MIN, TIME_US_MAX = -62_135_596_800_000_000, 253_402_300_799_999_999
"""Years 1 to 9999, as RFC 3339 has them."""

_Length = msgspec.Meta(min_length=1, max_length=READINGS_MAX)
Moment = Annotated[int, msgspec.Meta(ge=TIME_US_MIN, le=TIME_US_MAX)]


class ColumnBody(msgspec.Struct, forbid_unknown_fields=True):
    """Readings of one signal."""

    timestamp_us: Annotated[list[Moment], _Length]
    raw_value: Annotated[list[float], _Length]
    physical_value: Annotated[list[float | None], _Length] | None = None
    signal: Signal | None = None
    sensor_id: UUID | None = None
    project_id: UUID | None = None
    run_id: UUID | None = None
    capture_session_id: UUID | None = None
    meta: dict[str, Any] | None = None


_decoder = msgspec.json.Decoder(ColumnBody)


def decode_columns(content: bytes) -> ColumnBody:
    """The body. Raises: Problem 400 for what is not JSON, 422 naming the field that is wrong."""
    body, is_strict = decoded(content, _decoder, _keys)
    if not is_strict:
        nonfinite.require_finite(body.meta, "meta")
    for name, column in (("raw_value", body.raw_value), ("physical_value", body.physical_value)):
        if column is not None and len(column) != len(body.timestamp_us):
            raise invalid(name, f"has {len(column)} values for {len(body.timestamp_us)} timestamps")
    return body


def _keys(body: ColumnBody) -> int:
    given = sum(getattr(body, name) is not None for name in ColumnBody.__struct_fields__)
    return given + len(body.meta or ())


def submission_of_columns(body: ColumnBody, sensor_id: UUID) -> Submission:
    """The readings, sorted by time. Raises: Problem 422."""
    meta = own_meta(body.meta, "meta")
    signal = body.signal if body.signal is not None else meta.get("signal", DEFAULT_SIGNAL)
    if not isinstance(signal, str) or not 1 <= len(signal) <= 200 or "\0" in signal:
        raise invalid("signal", "must be a text of 1 to 200 characters, without NUL")
    time_us = np.array(body.timestamp_us, np.int64)
    order = np.argsort(time_us, kind="stable")
    size = len(order)
    values = body.physical_value or [None] * size
    physical = np.array(values, np.float64)  # None becomes NaN
    given = np.array([value is not None for value in values], np.bool_)
    columns = Columns(
        np.ones(size, np.uint32),
        time_us[order],
        np.array(body.raw_value, np.float64)[order],
        physical[order],
        np.where(given, np.uint8(Status.CLIENT_PROVIDED), np.uint8(Status.RAW_ONLY))[order],
        np.zeros(size, np.uint32),
    )
    metas = tuple((row, meta) for row in range(size)) if meta else ()
    return Submission(sensor_id, (signal,), columns, metas, session_id=body.capture_session_id)
