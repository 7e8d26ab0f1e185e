"""What the contract says of sessions, readings and certificates, worked out in lists and loops; nothing of the product.

Times are microseconds, moments numbers of steps. A reading came by one of two ways: `agents` or `posts`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

NEVER_US = 1 << 62
UNPLACED, CONFLICTING, ARCHIVED = "clock_unsynchronised", "conflicting_value", "archived_session"


@dataclass
class Session:
    """A session and all that was done to it."""

    run: str
    sensors: list[str]
    from_us: int
    policy: str | None
    to_us: int = NEVER_US
    stopped: int | None = None
    backfills: list[tuple[int, int | None]] = field(default_factory=list)
    archived: bool = False

    @property
    def is_backfilling(self) -> bool:
        return bool(self.backfills) and self.backfills[-1][1] is None

    def covers(self, sensor: str, at_us: int) -> bool:
        return sensor in self.sensors and self.from_us <= at_us < self.to_us

    def counts(self, reading: Reading) -> bool:
        """Whether a reading that belongs to it counts."""
        if self.stopped is None or reading.step < self.stopped:
            return True
        if (self.policy or ("attach" if reading.way == "agents" else "hold")) == "attach":
            return True
        return any(reading.step >= begun if done is None else reading.step < done for begun, done in self.backfills)


@dataclass(frozen=True)
class Reading:
    """One that is stored."""

    step: int
    sensor: str
    way: str
    at_us: int
    value: float
    named: int | None


@dataclass(frozen=True)
class Parcel:
    """Readings of one sensor that come together, by their time.

    Attributes:
        seq: of the batch that brings them, None for a post.
        named: the session that a post says they are for.
    """

    sensor: str
    way: str
    readings: Sequence[tuple[int, float]]
    seq: int | None = None
    named: int | None = None


@dataclass(frozen=True)
class Aside:
    """Readings of a parcel that were set aside for one reason; of an unknown clock, by that clock."""

    parcel: Parcel
    reason: str


@dataclass
class Stretch:
    """A clock segment.

    Attributes:
        number: within its process.
        offset_us: what is right is the clock's time plus this.
        correction_us: what the hub has to add; None where it cannot know.
        step_us: by how much the clock was stepped as it began.
    """

    number: int
    offset_us: int
    correction_us: int | None
    step_us: int = 0

    def placed_us(self, at_us: int) -> int:
        """A time by this clock as the hub has it."""
        return at_us + (self.correction_us or 0)


@dataclass(frozen=True)
class Loss:
    """A gap record: readings by sensor that never come, None where nobody can say how many.

    Attributes:
        begun: by which clock it begins; where nobody knows that one, it is taken to be like the one it ends by.
        ended: by which it ends, which is another one where a process had died.
    """

    cause: str
    clock_from_us: int
    clock_to_us: int
    counts: Mapping[str, int] | None
    begun: Stretch
    ended: Stretch

    @property
    def from_us(self) -> int:
        known = self.ended if self.begun.correction_us is None else self.begun
        return known.placed_us(self.clock_from_us)

    @property
    def to_us(self) -> int:
        return max(self.from_us, self.ended.placed_us(self.clock_to_us))


@dataclass
class Model:
    """All that was done in one laboratory."""

    sessions: list[Session] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    repeats: list[tuple[str, Reading]] = field(default_factory=list)
    """By which way a reading came once more."""
    asides: list[Aside] = field(default_factory=list)
    discarded: list[Aside] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)

    def is_taken(self, sensor: str, from_us: int, to_us: int) -> bool:
        """Whether a session has this sensor at some time from `from_us` to before `to_us`."""
        return any(sensor in one.sensors and max(from_us, one.from_us) < min(to_us, one.to_us) for one in self.sessions)

    def take(self, step: int, parcel: Parcel) -> None:
        """Readings come: each is stored, a repeat, or set aside."""
        aside: dict[str, list[tuple[int, float]]] = {}
        for at_us, value in parcel.readings:
            there = [one for one in self.readings if (one.sensor, one.at_us) == (parcel.sensor, at_us)]
            if parcel.named is None and any(one.archived and one.covers(parcel.sensor, at_us) for one in self.sessions):
                aside.setdefault(ARCHIVED, []).append((at_us, value))
            elif there and there[0].value != value:
                aside.setdefault(CONFLICTING, []).append((at_us, value))
            elif there:
                self.repeats.append((parcel.way, there[0]))
            else:
                self.readings.append(Reading(step, parcel.sensor, parcel.way, at_us, value, parcel.named))
        for reason, readings in aside.items():
            self.set_aside(parcel, reason, readings)

    def set_aside(self, parcel: Parcel, reason: str, readings: Sequence[tuple[int, float]]) -> None:
        """Readings of a parcel are kept with a reason."""
        self.asides.append(Aside(Parcel(parcel.sensor, parcel.way, readings, parcel.seq), reason))

    def discard(self, aside: Aside) -> None:
        """Somebody gives up what was set aside."""
        self.asides.remove(aside)
        if aside.reason != UNPLACED:
            self.discarded.append(aside)

    def session_of(self, reading: Reading) -> int | None:
        """The number of the session that a reading belongs to."""
        if reading.named is not None:
            return reading.named
        fitting = [place for place, one in enumerate(self.sessions) if one.covers(reading.sensor, reading.at_us)]
        assert len(fitting) <= 1
        return fitting[0] if fitting else None

    def members(self, number: int, *, with_held: bool = True) -> list[Reading]:
        """The readings of a session."""
        session = self.sessions[number]
        own = [one for one in self.readings if self.session_of(one) == number]
        return own if with_held else [one for one in own if session.counts(one)]

    def certificate(self, number: int) -> dict[str, dict[str, Any]]:
        """What is certified of each sensor of a session."""
        session, members = self.sessions[number], self.members(number)
        sensors = [*session.sensors, *(one.sensor for one in members)]
        return {sensor: self._certified(number, sensor) for sensor in sensors}

    def _certified(self, number: int, sensor: str) -> dict[str, Any]:
        session = self.sessions[number]
        times = [one.at_us for one in self.members(number) if one.sensor == sensor]
        return {
            "agents": self._tally(number, sensor, "agents"),
            "posts": self._tally(number, sensor, "posts"),
            "missing": _missing(session, sensor, self.losses) if sensor in session.sensors else [],
            "waiting_for_clock": sum(
                len(one.parcel.readings) for one in self.asides if (one.reason, one.parcel.sensor) == (UNPLACED, sensor)
            ),
            "first_at": min(times, default=None),
            "last_at": max(times, default=None),
        }

    def _tally(self, number: int, sensor: str, way: str) -> dict[str, Any]:
        session = self.sessions[number]
        own = [one for one in self.members(number) if (one.sensor, one.way) == (sensor, way)]
        again = [one for by, one in self.repeats if (one.sensor, by) == (sensor, way)]
        aside = Counter(one.reason for one in self._within(session, sensor, way, self.asides) if one.reason != UNPLACED)
        aside["discarded"] = len(self._within(session, sensor, way, self.discarded))
        counts: dict[str, Any] = {
            "stored": len(own),
            "held": sum(not session.counts(one) for one in own),
            "repeated": sum(self.session_of(one) == number for one in again),
            "set_aside": dict(+aside),
        }
        return counts | {"taken": counts["stored"] + counts["repeated"] + aside.total()}

    @staticmethod
    def _within(session: Session, sensor: str, way: str, asides: Iterable[Aside]) -> list[Aside]:
        """One entry for each reading that was set aside and would be of the session by its time."""
        return [
            one
            for one in asides
            for at_us, _ in one.parcel.readings
            if (one.parcel.sensor, one.parcel.way) == (sensor, way) and session.covers(sensor, at_us)
        ]


def buckets_of(readings: Iterable[Reading], interval_us: int) -> dict[tuple[str, int], tuple[int, float, float, float]]:
    """(count, least, greatest, sum) by sensor and beginning of the bucket."""
    found: dict[tuple[str, int], list[float]] = {}
    for one in readings:
        found.setdefault((one.sensor, one.at_us // interval_us * interval_us), []).append(one.value)
    return {key: (len(values), min(values), max(values), sum(values)) for key, values in found.items()}


def _missing(session: Session, sensor: str, losses: Iterable[Loss]) -> list[dict[str, Any]]:
    """What never comes, by cause in their order."""
    causes: dict[str, list[Loss]] = {}
    for one in losses:
        concerns = one.counts is None or sensor in one.counts
        if concerns and one.from_us < session.to_us and one.to_us >= session.from_us:
            causes.setdefault(one.cause, []).append(one)
    return [
        {
            "cause": cause,
            "gaps": len(some),
            "readings": sum(one.counts[sensor] for one in some if one.counts is not None),
            "uncounted": sum(one.counts is None for one in some),
            "time_from": min(one.from_us for one in some),
            "time_to": max(one.to_us for one in some),
            "reaches_beyond": any(one.from_us < session.from_us or one.to_us > session.to_us for one in some),
        }
        for cause, some in sorted(causes.items())
    ]
