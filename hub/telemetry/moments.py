"""Moments and stretches of time as the API takes them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_PLUS_LOST = re.compile(r" (?=\d\d:?\d\d$)")
_NUMBER = re.compile(r"[-+]?[\d._]*(e[-+]?\d+)?", re.IGNORECASE)
_INTERVAL = re.compile(r"(\d{1,9}) ?(ms|s|m|h|d|seconds?|minutes?|hours?|days?|min|sec)?")
_UNITS_US = {"ms": 1000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_NAMES = (("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1000))


def _dated(value: Any) -> Any:
    """A `+` that was not escaped in a query arrives as a blank. A bare number is no date: `2026` would be 1970."""
    if isinstance(value, int | float) or (isinstance(value, str) and _NUMBER.fullmatch(value.strip())):
        raise ValueError("must be a date and time (RFC 3339), not a number")
    return _PLUS_LOST.sub("+", value) if isinstance(value, str) else value


def _in_utc(moment: datetime) -> datetime:
    """The same moment in UTC: what has no offset would else be taken for the hub's own local time."""
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("must lie within the years 1 to 9999 in UTC") from None


Moment = Annotated[datetime, BeforeValidator(_dated), AfterValidator(_in_utc)]
"""A time in a query: RFC 3339; UTC where no offset is given."""


def to_us(moment: datetime) -> int:
    """UTC microseconds of a time, which is UTC if it does not say."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - _UNIX_EPOCH) // _MICROSECOND


def to_datetime(time_us: int) -> datetime:
    """The aware time of UTC microseconds. Raises: OverflowError outside the years 1 … 9999."""
    return _UNIX_EPOCH + timedelta(microseconds=time_us)


def text_of(moment: datetime) -> str:
    """A UTC time as answers and events have it."""
    return moment.isoformat().replace("+00:00", "Z")


def parse_interval(text: str) -> int:
    """Microseconds of `500ms`, `10s`, `1m`, `6h`, `1d`, `5 minutes`, or plain seconds. Raises: ValueError."""
    found = _INTERVAL.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError("an interval is a number and a unit, such as 10s, 1m, 6h or 1d")
    unit = found.group(2) or "s"
    interval_us = int(found.group(1)) * _UNITS_US["ms" if unit == "ms" else unit[0]]
    if not 1000 <= interval_us <= 366 * _UNITS_US["d"]:
        raise ValueError("an interval lies between 1ms and 366d")
    return interval_us


def interval_text(interval_us: int) -> str:
    """The shortest way to write an interval that `parse_interval` reads."""
    name, unit_us = next((name, unit_us) for name, unit_us in _NAMES if interval_us % unit_us == 0)
    return f"{interval_us // unit_us}{name}"
