"""What a profile would make of values, or of a sensor's latest readings. Writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import numpy as np
import orjson
from pydantic import BaseModel, Field, model_validator

from hub.fields import Body, QueryText
from hub.telemetry.as_of import AsOf
from hub.telemetry.moments import Moment
from hub.telemetry.scan import Rows
from shared.readings import Float64, Reason, Status, UInt8

READINGS_MAX = 100_000
READINGS_DEFAULT = 1_000
_NUMPY = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z
_LABELS = np.array([(Status(byte & 15).label if byte & 15 < len(Status) else "") for byte in range(256)], object)
_REASONS = np.array([(Reason(byte >> 4).label if 0 < byte >> 4 < len(Reason) else None) for byte in range(256)], object)


RawValue = Annotated[float, Field(strict=True)]


class Preview(Body):
    """What to try the profile on: values, or else the sensor's latest readings within a range of time."""

    values: list[RawValue] | None = Field(None, min_length=1, max_length=READINGS_MAX, description="Raw values.")
    time_from: Moment | None = Field(None, description="Readings from this time on.")
    time_to: Moment | None = Field(None, description="Readings up to and including this time.")
    signal: QueryText | None = Field(None, description="Readings of this signal only.")
    limit: int | None = Field(
        None, strict=True, ge=1, le=READINGS_MAX, description=f"The latest so many; {READINGS_DEFAULT}."
    )
    sensor_id: UUID | None = Field(None, description="The path's, if given.")
    project_id: UUID | None = Field(None, description="The sensor's primary one, if given.")

    @model_validator(mode="after")
    def _one_or_the_other(self) -> Preview:
        chosen = (self.time_from, self.time_to, self.signal, self.limit)
        if self.values is not None and any(one is not None for one in chosen):
            raise ValueError("values: leave out what chooses readings")
        if self.time_from is not None and self.time_to is not None and self.time_from > self.time_to:
            raise ValueError("time_from: must not be after time_to")
        return self


class Previewed(BaseModel):
    """Columns of equal length, by time, then signal; `timestamp`, `signal` and what is now only for readings."""

    timestamp: list[datetime] | None = None
    signal: list[str] | None = None
    raw_value: list[float | None]
    physical_value: list[float | None] = Field(description="With this profile.")
    conversion_status: list[str] = Field(description="With this profile.")
    reason: list[str | None] = Field(description="Why a conversion failed.")
    current_physical_value: list[float | None] | None = Field(None, description="As it is stored.")
    current_conversion_status: list[str] | None = None
    changed: int | None = Field(None, description="How many of the readings would have another value or status.")


@dataclass(frozen=True, slots=True)
class Readings:
    """Stored readings to try a profile on.

    Attributes:
        signals: by series.
    """

    rows: Rows
    signals: dict[int, str]
    raw_hidden: bool


def of_values(profile: AsOf, values: list[float]) -> bytes:
    """What the profile makes of raw values, as JSON."""
    raw = np.array(values, np.float64)
    found = profile.convert(raw, np.full(len(raw), np.nan), np.zeros(len(raw), np.uint8))
    return _json({"raw_value": raw, **_physical(found.physical, found.status)})


def of_readings(profile: AsOf, readings: Readings) -> bytes:
    """What the profile makes of stored readings, beside what they are, as JSON."""
    rows = readings.rows
    found = profile.convert(rows.raw, rows.physical, rows.status)
    same = (rows.physical == found.physical) | (np.isnan(rows.physical) & np.isnan(found.physical))
    refs, place = np.unique(rows.series, return_inverse=True)
    names = np.array([readings.signals[ref] for ref in refs.tolist()], object)
    return _json(
        {
            "timestamp": rows.time_us.view("datetime64[us]"),
            "signal": names[place].tolist(),
            "raw_value": np.full(len(rows), np.nan) if readings.raw_hidden else rows.raw,
            **_physical(found.physical, found.status),
            "current_physical_value": rows.physical,
            "current_conversion_status": _LABELS[rows.status].tolist(),
            "changed": int((~same | (rows.status != found.status)).sum()),
        }
    )


def _physical(physical: Float64, status: UInt8) -> dict[str, Any]:
    return {
        "physical_value": physical,
        "conversion_status": _LABELS[status].tolist(),
        "reason": _REASONS[status].tolist(),
    }


def _json(columns: dict[str, Any]) -> bytes:
    """Column by column: on a thread of its own, it keeps all others waiting for no longer than one takes."""
    parts: list[bytes] = []
    for name, column in columns.items():
        parts += (b"," if parts else b"{", orjson.dumps(name), b":", orjson.dumps(column, option=_NUMPY))
    return b"".join([*parts, b"}"])
