"""Readings as the contract's JSON, one object a reading.

A page of 20,000 is put together from columns: what is the same for many readings (sensor, signal, status, profile) is
serialised once, times and floats go through numpy and orjson a column at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias
from uuid import UUID

import numpy as np
import orjson

from hub.telemetry.catalogue import Catalogue, Series
from hub.telemetry.extras import BLOCK_BITS, Extras
from hub.telemetry.membership import Membership, label
from hub.telemetry.scan import Rows
from shared.readings import Float64, Int64, reason_of, status_of

Outcome: TypeAlias = tuple[int, int, int, bool]
"""What a point's end depends on: status byte, profile, which session (-1 for none), and whether that holds it back."""

_NO_SENSOR = UUID(int=0)
_POINT = b'{"id":%d,%b"timestamp":"%b","raw_value":%b,"physical_value":%b,"ingested_at":%b,%b'


def encode_points(rows: Rows, catalogue: Catalogue, extras: Extras) -> list[bytes]:
    """Each row as a JSON object; empty bytes for a row whose series was deleted."""
    if not len(rows):
        return []
    heads = {ref: _head(catalogue.series.get(ref)) for ref in np.unique(rows.series).tolist()}
    tails: dict[Outcome, bytes] = {}
    memberships = extras.memberships
    outcomes = _outcomes(rows, catalogue, memberships)
    ingested = {block: b'"%b"' % timestamp_text(at_us).encode() for block, at_us in extras.ingested_us.items()}
    points: list[bytes] = []
    columns = zip(
        rows.id.tolist(),
        rows.series.tolist(),
        _times(rows.time_us),
        _numbers(rows.raw),
        _numbers(rows.physical),
        outcomes,
        strict=True,
    )
    for id_, series, time, raw, physical, outcome in columns:
        tail = tails.get(outcome)
        if tail is None:
            tail = tails[outcome] = _tail(outcome, catalogue, memberships, {})
        head = heads[series]
        points.append(
            head and _POINT % (id_, head, time, raw, physical, ingested.get(id_ >> BLOCK_BITS, b"null"), tail)
        )
    if extras.metas:
        for index in np.flatnonzero(rows.has_meta).tolist():
            meta = extras.metas.get((int(rows.series[index]), int(rows.time_us[index])))
            if meta and points[index]:
                tail = _tail(outcomes[index], catalogue, memberships, meta)
                points[index] = points[index].removesuffix(tails[outcomes[index]]) + tail
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


def _outcomes(rows: Rows, catalogue: Catalogue, memberships: Sequence[Membership]) -> list[Outcome]:
    size = len(rows)
    if not memberships:
        return list(zip(rows.status.tolist(), rows.profile.tolist(), [-1] * size, [False] * size, strict=True))
    refs, place = np.unique(rows.series, return_inverse=True)
    series = [catalogue.series.get(ref) for ref in refs.tolist()]
    sensors = [one.sensor_id if one else _NO_SENSOR for one in series]
    labels = label(rows, sensors, place.astype(np.intp), memberships)
    columns = (rows.status, rows.profile, labels.place, labels.held)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _tail(outcome: Outcome, catalogue: Catalogue, memberships: Sequence[Membership], meta: dict[str, Any]) -> bytes:
    status, profile, place, held = outcome
    profile_id = catalogue.profiles.get(profile)
    session = memberships[place] if place >= 0 else None
    system = system_meta(status)
    if session is not None and held:
        system = {
            "__system": system.get("__system", {}) | {"late": True, "capture_session_id": str(session.session_id)}
        }
        session = None
    fields = {
        "conversion_status": status_label(status),
        "conversion_profile_id": profile_id and str(profile_id),
        "run_id": session and str(session.run_id),
        "capture_session_id": session and str(session.session_id),
        "meta": meta | system,
    }
    return orjson.dumps(fields)[1:]


def _times(time_us: Int64) -> list[bytes]:
    texts = np.datetime_as_string(time_us.view("datetime64[us]"), timezone="UTC")
    characters = texts.view(np.uint32).astype(np.uint8)  # all ASCII; numpy encodes three times as long
    encoded: list[bytes] = characters.view(f"S{texts.itemsize // 4}").tolist()
    return encoded


def _numbers(values: Float64) -> list[bytes]:
    return orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
