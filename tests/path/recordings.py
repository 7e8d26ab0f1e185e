"""The recordings of a real test bench, read without any of our code, and a reference conversion in plain Python."""

from __future__ import annotations

import csv
import os
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COLUMNS = {
    "accelerometer_1": "Accelerometer1RMS",
    "accelerometer_2": "Accelerometer2RMS",
    "current": "Current",
    "pressure": "Pressure",
    "temperature": "Temperature",
    "thermocouple": "Thermocouple",
    "voltage": "Voltage",
    "flow": "Volume Flow RateRMS",
}
"""Our points and the recording's columns, in the order of their registers."""

LINEAR: dict[str, dict[str, float]] = {
    "accelerometer_1": {"a": 9.80665, "b": 0.0},
    "accelerometer_2": {"a": 9.80665, "b": -0.125},
    "current": {"a": 1000.0, "b": 0.5},
    "voltage": {"a": 0.1, "b": -1.5},
    "flow": {"a": 1 / 60, "b": 0.0},
}
LOOKUP: dict[str, list[tuple[float, float]]] = {
    "pressure": [(-1.0, 0.0), (0.0, 101.3), (0.1, 111.7), (0.5, 150.9), (2.0, 300.1)],
    "temperature": [(60.0, 333.15), (70.0, 343.05), (75.5, 348.7), (80.0, 353.3)],
    "thermocouple": [(25.0, 1.0), (25.9, 1.036), (26.2, 1.0485)],
}


@dataclass(frozen=True)
class Recording:
    """One file: its name and its rows, as the columns of `COLUMNS`."""

    name: str
    rows: list[list[float]]


def recordings_folder() -> Path | None:
    """Where the recordings are: `LABRELAY_TEST_RECORDINGS`, or beside the checkout."""
    given = os.environ.get("LABRELAY_TEST_RECORDINGS")
    folder = Path(given) if given else Path(__file__).parents[3] / "shared" / "data" / "skab"
    return folder if folder.is_dir() else None


def read_recordings(folder: Path) -> list[Recording]:
    """All files, sorted by name."""
    found = []
    for file in sorted(folder.glob("valve1-*.csv")):
        with file.open(newline="") as lines:
            rows = [[float(row[column]) for column in COLUMNS.values()] for row in csv.DictReader(lines, delimiter=";")]
        found.append(Recording(file.stem.replace("-", "_"), rows))
    return found


def profile_of(point: str) -> tuple[str, dict[str, Any]]:
    """Kind and payload of a point's conversion profile."""
    if point in LINEAR:
        return "linear", LINEAR[point]
    return "lookup_table", {"table": [{"raw": raw, "physical": physical} for raw, physical in LOOKUP[point]]}


def reference(point: str) -> Callable[[float], float]:
    """What the contract says that the physical value is, in plain Python."""
    if point in LINEAR:
        a, b = LINEAR[point]["a"], LINEAR[point]["b"]
        return lambda raw: a * raw + b
    table = LOOKUP[point]
    knots = [raw for raw, _ in table]

    def interpolate(raw: float) -> float:
        if raw <= knots[0]:
            return table[0][1]
        if raw >= knots[-1]:
            return table[-1][1]
        right = bisect_right(knots, raw)
        (x0, y0), (x1, y1) = table[right - 1], table[right]
        return (y1 - y0) / (x1 - x0) * (raw - x0) + y0

    return interpolate
