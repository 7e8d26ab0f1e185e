"""Counters and gauges for `/metrics`, in Prometheus' text format (version 0.0.4).

A part asks the registry for its metrics once and keeps them; a gauge may instead be a function that is asked when the
page is read. Label values come from small fixed sets, never from input.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeVar

Labels = Mapping[str, str]
SECONDS: tuple[float, ...] = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bucket bounds for durations in seconds."""


_M = TypeVar("_M", "Counter", "Gauge", "Histogram")


class Counter:
    """A number that only rises; one a combination of labels."""

    kind: Literal["counter"] = "counter"

    def __init__(self, name: str, description: str) -> None:
        self.name = name
        self.help = description
        self._values: dict[str, float] = {}

    def add(self, amount: float = 1, **labels: str) -> None:
        """Count `amount` more."""
        key = _rendered(labels)
        self._values[key] = self._values.get(key, 0) + amount

    def value(self, **labels: str) -> float:
        """What was counted so far."""
        return self._values.get(_rendered(labels), 0)

    def samples(self) -> list[tuple[str, str, float]]:
        return [("", key, value) for key, value in self._values.items()] or [("", "", 0.0)]


class Gauge:
    """A number that goes up and down, set or asked for."""

    kind: Literal["gauge"] = "gauge"

    def __init__(self, name: str, description: str, ask: Callable[[], float] | None = None) -> None:
        self.name = name
        self.help = description
        self._ask = ask
        self._value = 0.0

    def set(self, value: float) -> None:
        """The number as it is now."""
        self._value = value

    def samples(self) -> list[tuple[str, str, float]]:
        return [("", "", self._value if self._ask is None else self._ask())]


class Histogram:
    """How values are distributed over fixed buckets."""

    kind: Literal["histogram"] = "histogram"

    def __init__(self, name: str, description: str, bounds: Sequence[float] = SECONDS) -> None:
        self.name = name
        self.help = description
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def samples(self) -> list[tuple[str, str, float]]:
        rows: list[tuple[str, str, float]] = []
        total = 0
        for bound, count in zip((*self._bounds, math.inf), self._counts, strict=True):
            total += count
            rows.append(("_bucket", _rendered({"le": _number(bound)}), float(total)))
        return [*rows, ("_sum", "", self._sum), ("_count", "", float(total))]


class Metrics:
    """All metrics of a hub; asking twice for a name gives the same metric."""

    def __init__(self) -> None:
        self._metrics: dict[str, Counter | Gauge | Histogram] = {}

    def counter(self, name: str, description: str) -> Counter:
        """A counter; its name ends in `_total`."""
        found = self._metrics.setdefault(name, Counter(name, description))
        return _of_kind(found, Counter)

    def gauge(self, name: str, description: str, ask: Callable[[], float] | None = None) -> Gauge:
        """A gauge; its name ends in its unit."""
        found = self._metrics.setdefault(name, Gauge(name, description, ask))
        return _of_kind(found, Gauge)

    def histogram(self, name: str, description: str, bounds: Sequence[float] = SECONDS) -> Histogram:
        """A histogram; its name ends in its unit."""
        found = self._metrics.setdefault(name, Histogram(name, description, bounds))
        return _of_kind(found, Histogram)

    def render(self) -> str:
        """The page."""
        lines: list[str] = []
        for metric in self._metrics.values():
            lines += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}"]
            lines += [f"{metric.name}{suffix}{labels} {_number(value)}" for suffix, labels, value in metric.samples()]
        return "\n".join(lines) + "\n"


def _of_kind(metric: Counter | Gauge | Histogram, kind: type[_M]) -> _M:
    if not isinstance(metric, kind):
        raise TypeError(f"{metric.name} is a {metric.kind} already")
    return metric


def _rendered(labels: Labels) -> str:
    if not labels:
        return ""
    pairs = ",".join(f'{name}="{_escaped(labels[name])}"' for name in sorted(labels))
    return f"{{{pairs}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if math.isfinite(value) and value == int(value) and abs(value) < 1e15 else repr(value)
