"""What the contract says of profiles, splits and recalculations, worked out in lists and loops; nothing of the product.

Times are microseconds. Ids are whatever the hub has given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace

SINCE_EVER_US, NEVER_US = -(1 << 62), 1 << 62


@dataclass
class Profile:
    """One that was published.

    Attributes:
        runs, sessions: what it was split off for; both None for a default.
        is_scheduled, is_active: neither, for one that is deprecated.
    """

    id: str
    sensor: str
    factor: float
    published_us: int
    from_us: int = SINCE_EVER_US
    to_us: int = NEVER_US
    runs: Collection[str] | None = None
    sessions: Collection[str] | None = None
    is_scheduled: bool = False
    is_active: bool = False

    @property
    def is_split(self) -> bool:
        return self.runs is not None or self.sessions is not None

    @property
    def decided_us(self) -> int:
        """When it was decided on; a split comes into force no sooner than it holds."""
        return max(self.published_us, self.from_us) if self.is_split else self.published_us

    def is_for(self, session: Session) -> bool:
        return session.id in (self.sessions or ()) or session.run in (self.runs or ())

    def end(self, at_us: int) -> None:
        """It holds no longer than this."""
        self.is_active, self.to_us = False, max(self.from_us, min(self.to_us, at_us))


@dataclass
class Session:
    """A session; while it is a draft it has no sensors, and covers nothing."""

    id: str
    run: str
    sensors: Collection[str] = ()
    from_us: int = NEVER_US
    to_us: int = NEVER_US

    @property
    def is_draft(self) -> bool:
        return self.from_us == NEVER_US

    def covers(self, sensor: str, at_us: int) -> bool:
        return sensor in self.sensors and self.from_us <= at_us < self.to_us


@dataclass(frozen=True)
class Ruling:
    """A recalculation: its profile holds for what it is about, from what was before it was asked for.

    Attributes:
        sessions: as they were then; None for one of all readings.
    """

    profile: Profile
    decided_us: int
    from_us: int
    to_us: int
    sessions: Collection[Session] | None

    def is_about(self, sensor: str, at_us: int, named: str | None) -> bool:
        if sensor != self.profile.sensor or not self.from_us <= at_us < min(self.to_us, self.decided_us):
            return False
        if self.sessions is None:
            return True
        return any(one.id == named if named else one.covers(sensor, at_us) for one in self.sessions)


@dataclass(frozen=True)
class Reading:
    """One that is stored.

    Attributes:
        named: the session that its post said it is for.
        profile: what it was converted with.
        provided: a physical value that came with it.
    """

    sensor: str
    at_us: int
    raw: float
    named: str | None
    profile: Profile | None
    provided: float | None = None

    @property
    def physical(self) -> float | None:
        return self.as_of(self.profile)

    def as_of(self, profile: Profile | None) -> float | None:
        """What another profile would have made of it."""
        if self.provided is not None:
            return self.provided
        return None if profile is None else profile.factor * self.raw


@dataclass
class Model:
    """All that was done in one laboratory."""

    profiles: list[Profile] = field(default_factory=list)
    """In the order in which they were published."""
    sessions: dict[str, Session] = field(default_factory=dict)
    rulings: list[Ruling] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)

    def publish(self, profile: Profile) -> None:
        """Put it in force, or keep it for later."""
        self.profiles.append(profile)
        if not profile.is_scheduled:
            self._activate(profile)

    def pass_time(self, now_us: int) -> None:
        """What was scheduled until now is put in force."""
        for one in sorted(self.profiles, key=lambda one: one.from_us):
            if one.is_scheduled and one.from_us <= now_us:
                self._activate(one)

    def deprecate(self, profile: Profile, now_us: int) -> None:
        """Take it out of use; what was scheduled only has never been."""
        if profile.is_scheduled:
            self.profiles.remove(profile)
        elif profile.is_active:
            profile.end(now_us)

    def _activate(self, profile: Profile) -> None:
        profile.is_scheduled, profile.is_active = False, True
        others = [one for one in self.profiles if one.is_active and one is not profile]
        for one in (other for other in others if other.sensor == profile.sensor):
            if one.is_split == profile.is_split and (not one.is_split or self._is_covered(one, profile)):
                one.end(profile.from_us)

    def _is_covered(self, split: Profile, other: Profile) -> bool:
        """Whether another split names all that this one names and that is there."""
        runs = set(split.runs or ()) - set(other.runs or ())
        sessions = [self.sessions[one] for one in split.sessions or () if one in self.sessions]
        return not runs and all(other.is_for(one) for one in sessions)

    def recalculate(self, ruling: Ruling) -> None:
        """Stored readings are converted again; what comes later obeys."""
        then = None if ruling.sessions is None else [replace(one) for one in ruling.sessions]
        ruling = replace(ruling, sessions=then)
        self.rulings.append(ruling)
        self.readings = [self.ruled(one, ruling) for one in self.readings]

    def ruled(self, one: Reading, ruling: Ruling) -> Reading:
        """A reading that was there, after a recalculation."""
        named = one.named if one.named in self.sessions else None
        is_about = one.provided is None and ruling.is_about(one.sensor, one.at_us, named)
        return replace(one, profile=ruling.profile) if is_about else one

    def take(
        self, sensor: str, at_us: int, raw: float, named: str | None = None, provided: float | None = None
    ) -> None:
        """A reading comes."""
        profile = None if provided is not None else self.in_force(sensor, at_us, named)
        self.readings.append(Reading(sensor, at_us, raw, named, profile, provided))

    def in_force(self, sensor: str, at_us: int, named: str | None = None) -> Profile | None:
        """What converts a reading that comes now."""
        holding = [one for one in self.profiles if one.sensor == sensor and one.from_us <= at_us < one.to_us]
        session = self.session_of(sensor, at_us, named)
        splits = [one for one in holding if session is not None and one.is_for(session)]
        published = sorted(splits, key=lambda one: one.decided_us)[-1:] or [one for one in holding if not one.is_split]
        ruled = [one for one in self.rulings if one.is_about(sensor, at_us, named)]
        if ruled:
            published = [one for one in published if one.decided_us > ruled[-1].decided_us] or [ruled[-1].profile]
        return max(published, key=lambda one: one.from_us, default=None)

    def session_of(self, sensor: str, at_us: int, named: str | None) -> Session | None:
        """The one that a reading belongs to."""
        if named in self.sessions:
            return self.sessions[named]
        fitting = [one for one in self.sessions.values() if one.covers(sensor, at_us)]
        assert len(fitting) <= 1
        return fitting[0] if fitting else None

    def is_taken(self, sensor: str, from_us: int, to_us: int) -> bool:
        """Whether a session has this sensor at some time from `from_us` to before `to_us`."""
        return any(
            sensor in one.sensors and max(from_us, one.from_us) < min(to_us, one.to_us)
            for one in self.sessions.values()
        )

    def members(self, session_id: str) -> list[Reading]:
        """The readings of a session."""
        own = [(one, self.session_of(one.sensor, one.at_us, one.named)) for one in self.readings]
        return [one for one, session in own if session is not None and session.id == session_id]

    def certified(self, session_id: str) -> dict[str, dict[str | None, int]]:
        """How many readings of a session had which profile, by sensor."""
        found: dict[str, Counter[str | None]] = {}
        for one in self.members(session_id):
            found.setdefault(one.sensor, Counter())[one.profile.id if one.profile else None] += 1
        return {sensor: dict(counts) for sensor, counts in found.items()}
