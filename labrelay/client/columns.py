"""Readings as numpy columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True)
class Readings:
    """Parallel columns, in the order in which the hub gave them (by `id`).

    Attributes:
        id: int64 (n,), rises in the order of commits; a cursor.
        time: datetime64[us] (n,), UTC.
        raw: float64 (n,), NaN for a failed reading without a value.
        physical: float64 (n,), NaN where there is none.
        status: str (n,): `raw_only`, `converted`, `client_provided` or `conversion_failed`.
        sensor_id: str (n,).
        signal: str (n,).
    """

    id: NDArray[np.int64]
    time: NDArray[np.datetime64]
    raw: NDArray[np.float64]
    physical: NDArray[np.float64]
    status: NDArray[np.str_]
    sensor_id: NDArray[np.str_]
    signal: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.raw)

    def columns(self) -> dict[str, NDArray[Any]]:
        """The columns by name, e.g. for `pandas.DataFrame(readings.columns())`."""
        return {name: getattr(self, name) for name in self.__slots__}

    def of_signal(self, signal: str) -> Readings:
        """Those of one signal."""
        chosen = self.signal == signal
        return Readings(**{name: column[chosen] for name, column in self.columns().items()})


def from_points(pages: Iterable[Sequence[dict[str, Any]]]) -> Readings:
    """The points of some pages of an answer as columns."""
    points = [point for page in pages for point in page]
    return Readings(
        id=np.array([point["id"] for point in points], np.int64),
        time=np.array([point["timestamp"].rstrip("Z") for point in points], "datetime64[us]"),
        raw=_floats(point["raw_value"] for point in points),
        physical=_floats(point["physical_value"] for point in points),
        status=np.array([point["conversion_status"] for point in points], np.str_),
        sensor_id=np.array([point["sensor_id"] for point in points], np.str_),
        signal=np.array([point["signal"] for point in points], np.str_),
    )


def _floats(values: Iterable[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def to_readings(
    raw: ArrayLike, time: ArrayLike | Sequence[datetime] | None, physical: ArrayLike | None, signal: str | None
) -> list[dict[str, Any]]:
    """Columns as the hub takes them. Raises: ValueError when their lengths differ or a time is not one."""
    values = np.atleast_1d(np.asarray(raw, np.float64))
    count = len(values)
    columns: dict[str, list[Any]] = {"timestamp": _timestamps(time, count), "raw_value": values.tolist()}
    if physical is not None:
        columns["physical_value"] = np.atleast_1d(np.asarray(physical, np.float64)).tolist()
    if signal is not None:
        columns["signal"] = [signal] * count
    for name, column in columns.items():
        if len(column) != count:
            raise ValueError(f"{len(column)} values of {name}, but {count} of raw_value")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _timestamps(time: ArrayLike | Sequence[datetime] | None, count: int) -> list[str]:
    if time is None:
        if count > 1:
            raise ValueError("more than one reading needs times")
        return [datetime.now(UTC).isoformat()]
    listed = np.atleast_1d(np.asarray(time, dtype=object)).tolist() if not isinstance(time, np.ndarray) else time
    return [timestamp(moment) for moment in listed]


def timestamp(moment: object) -> str:
    """RFC 3339 from a text, a datetime64 (UTC) or an aware datetime. Raises: ValueError."""
    if isinstance(moment, str):
        return moment
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise ValueError(f"{moment!r} has no time zone: use datetime.now(UTC) or .replace(tzinfo=…)")
        return moment.astimezone(UTC).isoformat()
    if isinstance(moment, np.datetime64):
        return f"{moment.astype('datetime64[us]')}Z"
    raise ValueError(f"{moment!r} is not a time: give a text, an aware datetime or a datetime64")
