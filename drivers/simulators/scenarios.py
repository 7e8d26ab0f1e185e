"""What goes wrong on the way: transformations of a stream of (time, value), step by step.

::

    { kind = "burst", every_s = 30, length_s = 5 }       holds readings back for 5 s, then sends them at once
    { kind = "dropout", every_s = 60, length_s = 10 }    sends nothing for 10 s
    { kind = "out_of_order", window = 4, seed = 1 }      shuffles each four readings
    { kind = "late", every_s = 60, delay_s = 20 }        one reading a period comes 20 s after its time
    { kind = "spikes", probability = 0.01, magnitude = 50, seed = 1 }

A scenario takes one reading and gives out those that are to be sent now, with their own times. It is as deterministic
as the stream that it is fed.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, Protocol

from msgspec import Meta, Struct

from shared.errors import ConfigurationError
from shared.tables import nearest_hint, parse_table

HELD_MAX = 10_000
"""As many readings a scenario holds back; beyond, it lets the oldest go."""


class Reading(NamedTuple):
    """A value and its own time, in seconds since the simulation began."""

    t_s: float
    value: float


class Scenario(Protocol):
    """One thing that happens to a stream."""

    def step(self, reading: Reading) -> list[Reading]:
        """Take a reading; return those that are to be sent now."""
        ...

    def flush(self) -> list[Reading]:
        """Return what is still held back, as at the end of the stream."""
        ...


class _Holding:
    """Readings held back, at most `HELD_MAX`."""

    def __init__(self) -> None:
        self._held: list[Reading] = []

    def _hold(self, reading: Reading) -> list[Reading]:
        self._held.append(reading)
        return [self._held.pop(0)] if len(self._held) > HELD_MAX else []

    def flush(self) -> list[Reading]:
        released, self._held = self._held, []
        return released


class Window(Struct, kw_only=True):
    """The last `length_s` of every `every_s` seconds."""

    every_s: Annotated[float, Meta(gt=0)]
    length_s: Annotated[float, Meta(gt=0)]

    def covers(self, t_s: float) -> bool:
        """Whether the time lies in the window."""
        return t_s % self.every_s >= self.every_s - self.length_s


class Burst(_Holding):
    """Holds readings back during the window, then sends them at once."""

    def __init__(self, window: Window) -> None:
        super().__init__()
        self._window = window

    def step(self, reading: Reading) -> list[Reading]:
        if self._window.covers(reading.t_s):
            return self._hold(reading)
        return [*self.flush(), reading]


class Dropout:
    """Loses readings during the window."""

    def __init__(self, window: Window) -> None:
        self._window = window

    def step(self, reading: Reading) -> list[Reading]:
        return [] if self._window.covers(reading.t_s) else [reading]

    def flush(self) -> list[Reading]:
        return []


class OutOfOrder(_Holding):
    """Shuffles every `window` readings."""

    def __init__(self, window: int, seed: int) -> None:
        super().__init__()
        self._window = window
        self._random = random.Random(seed)

    def step(self, reading: Reading) -> list[Reading]:
        released = self._hold(reading)
        return released + self.flush() if len(self._held) >= self._window else released

    def flush(self) -> list[Reading]:
        released = super().flush()
        self._random.shuffle(released)
        return released


class Late(_Holding):
    """Keeps the first reading of each `every_s` seconds for `delay_s`."""

    def __init__(self, every_s: float, delay_s: float) -> None:
        super().__init__()
        self._every_s = every_s
        self._delay_s = delay_s
        self._period = -1

    def step(self, reading: Reading) -> list[Reading]:
        due = [held for held in self._held if held.t_s + self._delay_s <= reading.t_s]
        self._held = [held for held in self._held if held.t_s + self._delay_s > reading.t_s]
        period = int(reading.t_s // self._every_s)
        if period == self._period:
            return [*due, reading]
        self._period = period
        return due + self._hold(reading)


class Spikes:
    """Adds ± `magnitude` to a reading now and then."""

    def __init__(self, probability: float, magnitude: float, seed: int) -> None:
        self._probability = probability
        self._magnitude = magnitude
        self._random = random.Random(seed)

    def step(self, reading: Reading) -> list[Reading]:
        if self._random.random() >= self._probability:
            return [reading]
        return [reading._replace(value=reading.value + self._random.choice((-1, 1)) * self._magnitude)]

    def flush(self) -> list[Reading]:
        return []


class Chain:
    """Scenarios one after the other."""

    def __init__(self, scenarios: Sequence[Scenario]) -> None:
        self._scenarios = tuple(scenarios)

    def step(self, reading: Reading) -> list[Reading]:
        return self._pass([reading], 0)

    def flush(self) -> list[Reading]:
        released: list[Reading] = []
        for index, scenario in enumerate(self._scenarios):
            released += self._pass(scenario.flush(), index + 1)
        return released

    def _pass(self, readings: list[Reading], first: int) -> list[Reading]:
        for scenario in self._scenarios[first:]:
            readings = [sent for reading in readings for sent in scenario.step(reading)]
        return readings


def apply(stream: Iterable[Reading], scenario: Scenario) -> Iterator[Reading]:
    """The stream as the scenario leaves it, to its end."""
    for reading in stream:
        yield from scenario.step(reading)
    yield from scenario.flush()


class _OutOfOrderTable(Struct, kw_only=True):
    window: Annotated[int, Meta(ge=2, le=HELD_MAX)]
    seed: int = 0


class _LateTable(Struct, kw_only=True):
    every_s: Annotated[float, Meta(gt=0)]
    delay_s: Annotated[float, Meta(gt=0)]


class _SpikesTable(Struct, kw_only=True):
    probability: Annotated[float, Meta(ge=0, le=1)]
    magnitude: float
    seed: int = 0


def scenario(table: Mapping[str, Any], *, key: Sequence[str] = ()) -> Scenario:
    """The scenario that a table describes. Raises: ConfigurationError that names the key."""
    kind = table.get("kind")
    rest = {name: value for name, value in table.items() if name != "kind"}
    match kind:
        case "burst":
            return Burst(parse_table(rest, Window, key=key))
        case "dropout":
            return Dropout(parse_table(rest, Window, key=key))
        case "out_of_order":
            shuffle = parse_table(rest, _OutOfOrderTable, key=key)
            return OutOfOrder(shuffle.window, shuffle.seed)
        case "late":
            late = parse_table(rest, _LateTable, key=key)
            return Late(late.every_s, late.delay_s)
        case "spikes":
            spikes = parse_table(rest, _SpikesTable, key=key)
            return Spikes(spikes.probability, spikes.magnitude, spikes.seed)
    raise ConfigurationError(
        f"{'.'.join(key) or 'scenario'}: unknown kind of scenario {kind!r}",
        key=(*key, "kind"),
        hint=nearest_hint(str(kind), ["burst", "dropout", "out_of_order", "late", "spikes"]),
    )
