"""Readings as the contract's JSON, one object a reading.

A page of 20,000 is put together from columns: what is the same for many readings (sensor, signal, status, profile) is
serialised once, times and floats go through numpy and orjson a column at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from hub.telemetry.catalogue import Catalogue, Series
from hub.telemetry.extras import BLOCK_BITS, Extras, Metas
from hub.telemetry.scan import Rows
from shared.readings import Float64, Int64, reason_of, status_of

_POINT = b'{"id":%d,%b"timestamp":"%b","raw_value":%b,"physical_value":%b,"ingested_at":%b,%b'


def encode_points(rows: Rows, catalogue: Catalogue, extras: Extras) -> list[bytes]:
    """Each row as a JSON object; empty bytes for a row whose series was deleted."""
    if not len(rows):
        return []
    heads = {ref: _head(catalogue.series.get(ref)) for ref in np.unique(rows.series).tolist()}
    tails: dict[tuple[int, int], bytes] = {}
    ingested = {block: b'"%b"' % timestamp_text(at_us).encode() for block, at_us in extras.ingested_us.items()}
    points: list[bytes] = []
    columns = zip(
        rows.id.tolist(),
        rows.series.tolist(),
        _times(rows.time_us),
        _numbers(rows.raw),
        _numbers(rows.physical),
        zip(rows.status.tolist(), rows.profile.tolist(), strict=True),
        strict=True,
    )
    for id_, series, time, raw, physical, outcome in columns:
        tail = tails.get(outcome)
        if tail is None:
            tail = tails[outcome] = _tail(outcome, catalogue, {})
        head = heads[series]
        points.append(
            head and _POINT % (id_, head, time, raw, physical, ingested.get(id_ >> BLOCK_BITS, b"null"), tail)
        )
    if extras.metas:
        _add_metas(points, rows, catalogue, extras.metas, tails)
    return points


def status_label(status: int) -> str:
    """The contract's word for a status byte."""
    return status_of(status).label


def system_meta(status: int) -> dict[str, Any]:
    """What the hub adds to the meta of a reading: why it failed."""
    reason = reason_of(status)
    return {"__system": {"reason": reason.label}} if reason else {}


def timestamp_text(time_us: int) -> str:
    """RFC 3339, UTC, microseconds."""
    return f"{np.datetime64(time_us, 'us')}Z"


def _head(series: Series | None) -> bytes:
    if series is None:
        return b""
    fields = {"project_id": str(series.project_id), "sensor_id": str(series.sensor_id), "signal": series.signal}
    return orjson.dumps(fields)[1:-1] + b","


def _tail(outcome: tuple[int, int], catalogue: Catalogue, meta: dict[str, Any]) -> bytes:
    status, profile = outcome
    profile_id = catalogue.profiles.get(profile)
    fields = {
        "conversion_status": status_label(status),
        "conversion_profile_id": profile_id and str(profile_id),
        "run_id": None,
        "capture_session_id": None,
        "meta": meta | system_meta(status),
    }
    return orjson.dumps(fields)[1:]


def _add_metas(
    points: list[bytes], rows: Rows, catalogue: Catalogue, metas: Metas, tails: dict[tuple[int, int], bytes]
) -> None:
    for index in np.flatnonzero(rows.has_meta).tolist():
        meta = metas.get((int(rows.series[index]), int(rows.time_us[index])))
        if meta and points[index]:
            outcome = int(rows.status[index]), int(rows.profile[index])
            points[index] = points[index].removesuffix(tails[outcome]) + _tail(outcome, catalogue, meta)


def _times(time_us: Int64) -> list[bytes]:
    texts = np.datetime_as_string(time_us.view("datetime64[us]"), timezone="UTC")
    encoded: list[bytes] = np.char.encode(texts, "ascii").tolist()
    return encoded


def _numbers(values: Float64) -> list[bytes]:
    return orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
