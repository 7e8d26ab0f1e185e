"""Waveforms: what a simulated quantity does over time, from a table of a TOML file.

::

    { kind = "sine", offset = 3.2, amplitude = 0.4, period_s = 30 }         also phase (0 … 1 of a period)
    { kind = "saw", low = 0, high = 10, period_s = 60 }
    { kind = "pulse", low = 0, high = 1, period_s = 10, duty = 0.5 }
    { kind = "noise", sigma = 0.02, interval_s = 0.1, seed = 7 }            Gaussian, a new value every interval
    { kind = "walk", start = 20, step = 0.05, low = 15, high = 25, interval_s = 1, seed = 3 }
    { kind = "csv", file = "run.csv", column = "Pressure", interval_s = 1 }  delimiter, loop (true), by header or number
    { kind = "constant", value = 4.0 }
    { kind = "sum", parts = [ {…}, {…} ] }

A waveform depends on time alone (seconds since the simulation began): the same seed gives the same values whenever and
however often they are asked for.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol

from msgspec import Meta, Struct

from shared.errors import ConfigurationError
from shared.tables import nearest_hint, parse_table

Period = Annotated[float, Meta(gt=0)]
SUM_PARTS_MAX = 20
WALK_STEPS_MAX = 10_000_000


class Waveform(Protocol):
    """A quantity over time."""

    def __call__(self, t_s: float, /) -> float:
        """The value at `t_s` ≥ 0 seconds since the simulation began."""
        ...


class Constant(Struct, kw_only=True):
    """Always the same."""

    value: float

    def __call__(self, t_s: float, /) -> float:
        return self.value


class Sine(Struct, kw_only=True):
    """offset + amplitude · sin(2π (t / period + phase))."""

    amplitude: float = 1.0
    period_s: Period
    offset: float = 0.0
    phase: float = 0.0

    def __call__(self, t_s: float, /) -> float:
        return self.offset + self.amplitude * math.sin(2 * math.pi * (t_s / self.period_s + self.phase))


class Saw(Struct, kw_only=True):
    """Rises from low to high within a period, then falls back at once."""

    low: float = 0.0
    high: float = 1.0
    period_s: Period

    def __call__(self, t_s: float, /) -> float:
        return self.low + (self.high - self.low) * (t_s / self.period_s % 1.0)


class Pulse(Struct, kw_only=True):
    """High for the first `duty` (0 … 1) of each period, then low."""

    low: float = 0.0
    high: float = 1.0
    period_s: Period
    duty: Annotated[float, Meta(ge=0, le=1)] = 0.5

    def __call__(self, t_s: float, /) -> float:
        return self.high if t_s / self.period_s % 1.0 < self.duty else self.low


class Noise(Struct, kw_only=True):
    """Gaussian noise, constant within each interval."""

    sigma: float
    interval_s: Period = 0.1
    seed: int = 0

    def __call__(self, t_s: float, /) -> float:
        return self.sigma * _gaussian(self.seed, math.floor(t_s / self.interval_s))


class WalkTable(Struct, kw_only=True):
    """The settings of a `Walk`."""

    start: float = 0.0
    step: float
    low: float = -math.inf
    high: float = math.inf
    interval_s: Period = 1.0
    seed: int = 0


class Walk:
    """A random walk: a Gaussian step every interval, reflected at low and high. Asking for an earlier time is slow."""

    def __init__(self, settings: WalkTable) -> None:
        self._settings = settings
        self._cell = 0
        self._value = settings.start

    def __call__(self, t_s: float, /) -> float:
        settings = self._settings
        cell = max(min(math.floor(t_s / settings.interval_s), WALK_STEPS_MAX), 0)
        if cell < self._cell:
            self._cell, self._value = 0, settings.start
        value = self._value
        for step in range(self._cell + 1, cell + 1):
            value += settings.step * _gaussian(settings.seed, step)
            value = 2 * settings.low - value if value < settings.low else value
            value = 2 * settings.high - value if value > settings.high else value
            value = min(max(value, settings.low), settings.high)
        self._cell, self._value = cell, value
        return value


class Replay(Struct, kw_only=True):
    """The rows of a CSV column, one an interval; after the last, from the start again, or the last one for ever."""

    values: Sequence[float]
    interval_s: float
    loop: bool

    def __call__(self, t_s: float, /) -> float:
        row = max(math.floor(t_s / self.interval_s), 0)
        return self.values[row % len(self.values) if self.loop else min(row, len(self.values) - 1)]


class Sum(Struct, kw_only=True):
    """All parts together."""

    parts: Sequence[Waveform]

    def __call__(self, t_s: float, /) -> float:
        return sum(part(t_s) for part in self.parts)


class _ReplayTable(Struct, kw_only=True):
    file: str
    column: str | int
    interval_s: Period = 1.0
    delimiter: Annotated[str, Meta(min_length=1, max_length=1)] = ","
    loop: bool = True


class _SumTable(Struct, kw_only=True):
    parts: list[dict[str, Any]]


_SIMPLE: dict[str, type[Constant | Sine | Saw | Pulse | Noise]] = {
    "constant": Constant,
    "sine": Sine,
    "saw": Saw,
    "pulse": Pulse,
    "square": Pulse,
    "noise": Noise,
}


def waveform(table: Mapping[str, Any], *, key: Sequence[str] = (), folder: Path | None = None) -> Waveform:
    """The waveform that a table describes.

    Args:
        key: path of keys to the table, for messages.
        folder: relative CSV files are looked for here, by default in the current folder.

    Raises: ConfigurationError that names the key.
    """
    kind = table.get("kind")
    rest = {name: value for name, value in table.items() if name != "kind"}
    if kind == "sum":
        return _sum(rest, key, folder)
    if kind == "csv":
        return _replay(rest, key, folder)
    if kind == "walk":
        walk = parse_table(rest, WalkTable, key=key)
        if not walk.low <= walk.start <= walk.high:
            raise ConfigurationError(f"{'.'.join(key)}: start is not between low and high", key=(*key, "start"))
        return Walk(walk)
    if kind in _SIMPLE:
        return parse_table(rest, _SIMPLE[kind], key=key)
    known = [*_SIMPLE, "walk", "csv", "sum"]
    raise ConfigurationError(
        f"{'.'.join(key) or 'waveform'}: unknown kind of waveform {kind!r}",
        key=(*key, "kind"),
        hint=nearest_hint(str(kind), known),
    )


def _sum(table: Mapping[str, Any], key: Sequence[str], folder: Path | None) -> Sum:
    parts = parse_table(table, _SumTable, key=key).parts
    if not 1 <= len(parts) <= SUM_PARTS_MAX:
        raise ConfigurationError(f"{'.'.join(key)}: a sum has 1 to {SUM_PARTS_MAX} parts", key=(*key, "parts"))
    return Sum(parts=[waveform(part, key=(*key, "parts", str(i)), folder=folder) for i, part in enumerate(parts)])


def _replay(table: Mapping[str, Any], key: Sequence[str], folder: Path | None) -> Replay:
    settings = parse_table(table, _ReplayTable, key=key)
    path = (folder or Path()) / settings.file
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            values = _column(csv.reader(file, delimiter=settings.delimiter), settings.column, key)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(f"cannot replay {path}: {error}", key=(*key, "file")) from None
    if not values:
        raise ConfigurationError(f"{path} has no rows", key=(*key, "file"))
    return Replay(values=values, interval_s=settings.interval_s, loop=settings.loop)


def _column(rows: Any, column: str | int, key: Sequence[str]) -> list[float]:
    values: list[float] = []
    index = column if isinstance(column, int) else None
    for number, row in enumerate(rows, start=1):
        if index is None:
            if column not in row:
                raise ConfigurationError(
                    f"no column `{column}`", key=(*key, "column"), hint=nearest_hint(str(column), row)
                )
            index = row.index(column)
            continue
        try:
            values.append(float(row[index]))
        except (ValueError, IndexError):
            raise ConfigurationError(f"row {number} has no number in column {column}", key=(*key, "column")) from None
    return values


def _mixed(seed: int, cell: int) -> int:
    """splitmix64 (Steele, Lea, Flood 2014): 64 well mixed bits from two numbers."""
    mask = (1 << 64) - 1
    z = (seed * 0x9E3779B97F4A7C15 + cell * 0xBF58476D1CE4E5B9 + 0x9E3779B97F4A7C15) & mask
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
    return z ^ z >> 31


def _gaussian(seed: int, cell: int) -> float:
    """A standard normal number that depends on seed and cell alone (Box–Muller)."""
    bits = _mixed(seed, cell)
    radius = math.sqrt(-2 * math.log(((bits >> 32) + 1) / 2**32))
    return radius * math.cos(2 * math.pi * (bits & 0xFFFFFFFF) / 2**32)
