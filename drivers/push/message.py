"""What a sender says, as pure functions on bytes: JSON objects in, values with their times and reasons out.

::

    {"point": "temp", "value": 21.5}
    {"point": "flow", "value": 3, "timestamp": "2026-03-01T12:00:00.25Z", "signal": "main", "unit": "l/min"}
    {"values": {"a": 1, "b": 2}, "timestamp": 1772366400.25}

A timestamp is RFC 3339 with its zone, an integer of microseconds, or a float of seconds since 1970; without one, the
moment of arrival. `true` and `false` are 1 and 0; `null` is a reading that the instrument itself calls bad. `NaN` and
`Infinity`, which JSON does not have but Python writes, become failed readings.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Struct

from shared.errors import InvalidAnswer
from shared.readings import Reason
from shared.tables import known_keys, nearest_hint

Name = Annotated[str, Meta(min_length=1, max_length=100)]
Value = int | float | bool | None
EARLIEST_US = 946_684_800_000_000
"""2000-01-01: an earlier time is a number in another unit."""
LATEST_US = 4_102_444_800_000_000
"""2100-01-01."""
VALUES_MAX = 1_000
EXCERPT_CHARACTERS = 80


class Said(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One JSON object as it is sent."""

    point: Name | None = None
    value: Value | msgspec.UnsetType = msgspec.UNSET
    values: Annotated[dict[Name, Value], Meta(min_length=1, max_length=VALUES_MAX)] | None = None
    timestamp: int | float | str | None = None
    signal: Name | None = None
    unit: Annotated[str, Meta(max_length=50)] | None = None


class Entry(NamedTuple):
    """One value of one point; signal, unit and time are None where the sender gave none."""

    point: str
    signal: str | None
    unit: str | None
    raw: float
    reason: Reason
    timestamp_us: int | None


_decoder = msgspec.json.Decoder(Said)


def parse_line(line: bytes) -> list[Entry]:
    """The values in one JSON object. Raises: InvalidAnswer."""
    try:
        said = _decoder.decode(line)
    except (msgspec.MsgspecError, RecursionError) as error:
        said = _said(_lenient(line, error))
    return _entries(said)


def parse_body(body: bytes) -> list[list[Entry]]:
    """The values in a JSON array of objects, in one object, or in lines of objects.

    Raises: InvalidAnswer for the first that is wrong, with its number.
    """
    text = body.strip()
    if text.startswith(b"["):
        items = _decoded(text)
        return [_numbered(number, lambda item=item: _entries(_said(item))) for number, item in enumerate(items, 1)]
    try:
        return [parse_line(text)]
    except InvalidAnswer:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2:
            raise
    return [_numbered(number, lambda line=line: parse_line(line)) for number, line in enumerate(lines, 1)]


def _numbered(number: int, parse: Any) -> list[Entry]:
    try:
        entries: list[Entry] = parse()
    except InvalidAnswer as error:
        raise InvalidAnswer(f"object {number}: {error.message}", hint=error.hint) from None
    return entries


def _decoded(text: bytes) -> Sequence[Any]:
    try:
        items = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        items = _lenient(text, error)
    assert isinstance(items, list)
    return items


def _lenient(text: bytes, error: Exception) -> Any:
    """What Python's `json` makes of text that strict JSON refuses, if that is for NaN and Infinity alone."""
    if b"NaN" in text or b"Infinity" in text or "out of range" in str(error):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            pass
    raise InvalidAnswer(
        f"{_plain(error)} in {_excerpt(text)}", hint=_hint(error) or 'e.g. {"point": "temp", "value": 21.5}'
    ) from None


def _said(item: Any) -> Said:
    try:
        return msgspec.convert(item, Said)
    except msgspec.ValidationError as error:
        raise InvalidAnswer(_plain(error), hint=_hint(error)) from None


def _entries(said: Said) -> list[Entry]:
    timestamp_us = None if said.timestamp is None else _timestamp_us(said.timestamp)
    if said.values is not None:
        if said.point is not None or said.value is not msgspec.UNSET:
            raise InvalidAnswer("`values` stands beside neither `point` nor `value`")
        named = list(said.values.items())
    elif said.point is None or isinstance(said.value, msgspec.UnsetType):
        missing = "point" if said.point is None else "value"
        raise InvalidAnswer(f"no `{missing}`", hint='e.g. {"point": "temp", "value": 21.5}')
    else:
        named = [(said.point, said.value)]
    for name in (*(name for name, _ in named), *filter(None, [said.signal])):
        if not name.isprintable() or name != name.strip():
            raise InvalidAnswer(f"{name!r} is no name", hint="printable characters, no blanks around them")
    return [Entry(name, said.signal, said.unit, *_judged(value), timestamp_us) for name, value in named]


def _judged(value: Value) -> tuple[float, Reason]:
    if value is None:
        return math.nan, Reason.INSTRUMENT
    try:
        raw = float(value)
    except OverflowError:
        return math.nan, Reason.NOT_REPRESENTABLE
    if math.isnan(raw):
        return math.nan, Reason.NOT_A_NUMBER
    if math.isinf(raw):
        return math.nan, Reason.INFINITE
    if isinstance(value, int) and int(raw) != value:
        return math.nan, Reason.NOT_REPRESENTABLE
    return raw, Reason.NONE


def _timestamp_us(timestamp: int | float | str) -> int:
    if isinstance(timestamp, str):
        stamp_us = _rfc3339_us(timestamp)
    elif isinstance(timestamp, int):
        stamp_us = timestamp
    elif math.isfinite(timestamp):
        stamp_us = round(timestamp * 1e6)
    else:
        raise InvalidAnswer(f"timestamp {timestamp} is no time")
    if not EARLIEST_US <= stamp_us <= LATEST_US:
        raise InvalidAnswer(
            f"timestamp {timestamp} is not between 2000 and 2100",
            hint="an integer is microseconds since 1970, a number with a point is seconds",
        )
    return stamp_us


def _rfc3339_us(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidAnswer(f"timestamp {text[:40]!r} is no time", hint="e.g. 2026-03-01T12:00:00.25Z") from None
    if moment.tzinfo is None:
        raise InvalidAnswer(f"timestamp {text!r} has no zone", hint=f"UTC is {text}Z")
    whole_s = int(moment.replace(microsecond=0).timestamp())
    return whole_s * 1_000_000 + moment.microsecond


def _plain(error: Exception) -> str:
    message = "nested too deeply" if isinstance(error, RecursionError) else str(error)
    return message[:1].lower() + message[1:]


def _hint(error: Exception) -> str:
    unknown = str(error).partition("unknown field `")[2].partition("`")[0]
    return nearest_hint(unknown, known_keys(Said)) if unknown else ""


def _excerpt(text: bytes) -> str:
    shown = repr(text[:EXCERPT_CHARACTERS])[1:]
    return f"{shown} …" if len(text) > EXCERPT_CHARACTERS else shown
