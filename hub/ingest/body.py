"""The body of `POST /api/v1/telemetry`, decoded strictly and quickly, into columns."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar
from uuid import UUID

import msgspec
import numpy as np

from hub.declared import distinct_keys
from hub.errors import Problem, invalid
from hub.ingest import nonfinite
from hub.ingest.arrivals import Submission
from shared.readings import DEFAULT_SIGNAL, Columns, Status

READINGS_MAX = 10_000
SIGNALS_PER_POST_MAX = 200
RESERVED = "__system"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_KEY = re.compile(rb'"\s*:')
_PATH = re.compile(r" - at `\$\.?(.*?)`$")

_Body = TypeVar("_Body", bound=msgspec.Struct)
Signal = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class ReadingBody(msgspec.Struct, forbid_unknown_fields=True):
    """One reading."""

    timestamp: Annotated[datetime, msgspec.Meta(tz=True)]
    raw_value: float
    physical_value: float | None = None
    signal: Signal | None = None
    meta: dict[str, Any] | None = None


class TelemetryBody(msgspec.Struct, forbid_unknown_fields=True):
    """A post of one sensor."""

    sensor_id: UUID
    readings: Annotated[list[ReadingBody], msgspec.Meta(min_length=1, max_length=READINGS_MAX)]
    project_id: UUID | None = None
    run_id: UUID | None = None
    capture_session_id: UUID | None = None
    meta: dict[str, Any] | None = None


_decoder = msgspec.json.Decoder(TelemetryBody)


def decode_body(content: bytes) -> TelemetryBody:
    """The body. Raises: Problem 400 for what is not JSON, 422 naming the field that is wrong."""
    body, is_strict = decoded(content, _decoder, _keys)
    if not is_strict:
        nonfinite.require_finite(body.meta, "meta")
        for row, reading in enumerate(body.readings):
            nonfinite.require_finite(reading.meta, f"readings[{row}].meta")
    return body


def decoded(content: bytes, decoder: msgspec.json.Decoder[_Body], keys: Callable[[_Body], int]) -> tuple[_Body, bool]:
    """A body whose values may be NaN or infinite.

    Args:
        keys: how many the body has if none stands twice, nor for a default.

    Returns: the body, and whether it is JSON; if it is not, its meta has still to be looked at.
    Raises: Problem 400, 422.
    """
    with naming_mistakes():
        try:
            body = decoder.decode(content)
        except msgspec.DecodeError as error:
            if not nonfinite.may_be_why(error, content):
                raise
            return msgspec.convert(nonfinite.loads(content), decoder.type), False
        require_distinct(content, keys(body))
        return body, True


@contextmanager
def naming_mistakes() -> Iterator[None]:
    """Raises: Problem 400 for what is not JSON, 422 naming the field that is wrong."""
    try:
        yield
    except msgspec.ValidationError as error:
        message = str(error)
        found = _PATH.search(message)
        plain = _PATH.sub("", message)
        raise invalid(found.group(1) if found else "body", plain[0].lower() + plain[1:]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, f"the body is not JSON: {error}", code="bad_request") from None


def require_distinct(content: bytes, keys: int) -> None:
    """See that no key stands twice; a closer look is taken where there are not so many as expected.

    Args:
        keys: how many there are if none stands twice, nor for a default.
    """
    if len(_KEY.findall(content)) != keys:
        json.loads(content, object_pairs_hook=distinct_keys)


def _keys(body: TelemetryBody) -> int:
    """How many keys the body has if none stands in it twice, nor for a value that it has anyway."""
    optional = (body.project_id, body.run_id, body.capture_session_id, body.meta)
    return (
        2
        + sum(value is not None for value in optional)
        + len(body.meta or ())
        + sum(
            2
            + (one.physical_value is not None)
            + (one.signal is not None)
            + (0 if one.meta is None else 1 + len(one.meta))
            for one in body.readings
        )
    )


def submission_of(body: TelemetryBody) -> Submission:
    """The readings as columns, sorted by signal and time. Raises: Problem 422."""
    batch_meta = own_meta(body.meta, "meta")
    metas = [_merged(batch_meta, reading.meta, row) for row, reading in enumerate(body.readings)]
    names = [_signal(reading, meta, row) for row, (reading, meta) in enumerate(zip(body.readings, metas, strict=True))]
    signals = tuple(sorted(set(names)))
    if len(signals) > SIGNALS_PER_POST_MAX:
        raise invalid("readings", f"{len(signals)} signals in one post, at most {SIGNALS_PER_POST_MAX}")
    places = {signal: place for place, signal in enumerate(signals, start=1)}
    series = np.array([places[name] for name in names], np.uint32)
    time_us = np.array([(reading.timestamp - _EPOCH) // _MICROSECOND for reading in body.readings], np.int64)
    order = np.lexsort((time_us, series))
    columns = _columns(body.readings, series, time_us)
    kept = tuple((row, metas[at]) for row, at in enumerate(order.tolist()) if metas[at])
    return Submission(body.sensor_id, signals, _ordered(columns, order), kept, session_id=body.capture_session_id)


def _columns(readings: Sequence[ReadingBody], series: Any, time_us: Any) -> Columns:
    provided = [reading.physical_value for reading in readings]
    given = np.array([value is not None for value in provided], np.bool_)
    return Columns(
        series,
        time_us,
        np.array([reading.raw_value for reading in readings], np.float64),
        np.array([np.nan if value is None else value for value in provided], np.float64),
        np.where(given, np.uint8(Status.CLIENT_PROVIDED), np.uint8(Status.RAW_ONLY)),
        np.zeros(len(readings), np.uint32),
    )


def _ordered(columns: Columns, order: Any) -> Columns:
    return Columns(
        columns.series[order],
        columns.timestamp_us[order],
        columns.raw[order],
        columns.physical[order],
        columns.status[order],
        columns.profile[order],
    )


def own_meta(meta: dict[str, Any] | None, field: str) -> dict[str, Any]:
    """What the client may say; `__system` belongs to the hub."""
    if not meta:
        return {}
    if "\\u0000" in msgspec.json.encode(meta).decode():
        raise invalid(field, "must not contain a NUL character")
    return {key: value for key, value in meta.items() if key != RESERVED}


def _merged(batch: dict[str, Any], own: dict[str, Any] | None, row: int) -> dict[str, Any]:
    return batch if not own else {**batch, **own_meta(own, f"readings[{row}].meta")}


def _signal(reading: ReadingBody, meta: dict[str, Any], row: int) -> str:
    if reading.signal is not None:
        signal: Any = reading.signal
    else:
        signal = meta.get("signal", DEFAULT_SIGNAL)
        if not isinstance(signal, str) or not 1 <= len(signal) <= 200:
            raise invalid(f"readings[{row}].meta.signal", "must be a text of 1 to 200 characters")
    if "\0" in signal:
        raise invalid(f"readings[{row}].signal", "must not contain a NUL character")
    return str(signal)
