"""Which profile is in force for which sensor at which time, as the hub told last, kept on disk.

The configuration that the hub publishes is stored as it came, so that an agent which starts without a link converts
exactly as before.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from uuid import UUID

from agent.files import replace_file
from agent.logging import event_log
from shared.conversion import Compiled, compile_profile
from shared.errors import CorruptBatch, LimitExceeded, ProfileError
from shared.messages import Binding, CaptureWindow, Config, Profile, decode, encode

SINCE_EVER_US = -(1 << 63)
FOR_EVER_US = (1 << 63) - 1

OUT_OF_SERVICE = ("decommissioned", "deleted")
"""States of sensors that are not read any more: nothing of them can become a reading."""

_log = event_log("profiles")


@dataclass(frozen=True, slots=True)
class InForce:
    """A profile and the time in which it holds: from `from_us` until before `to_us`. None where there is none."""

    from_us: int
    to_us: int
    profile_id: UUID | None = None
    compiled: Compiled | None = None


RAW_FOR_EVER = InForce(SINCE_EVER_US, FOR_EVER_US)


class Timeline:
    """The profiles of one sensor over time, without overlap: where two hold, the one that began later does.

    Args:
        stretches: in any order.
    """

    __slots__ = ("_starts", "_stretches")

    def __init__(self, stretches: Sequence[InForce] = ()) -> None:
        edges = sorted({SINCE_EVER_US, *(s.from_us for s in stretches), *(s.to_us for s in stretches)} - {FOR_EVER_US})
        self._starts = edges
        self._stretches = [
            _holding_at(stretches, start, end) for start, end in zip(edges, [*edges[1:], FOR_EVER_US], strict=True)
        ]

    def at(self, timestamp_us: int) -> InForce:
        """What holds at a time, and for how long around it."""
        return self._stretches[bisect.bisect_right(self._starts, timestamp_us) - 1]


def _holding_at(stretches: Sequence[InForce], start_us: int, end_us: int) -> InForce:
    holding = [stretch for stretch in stretches if stretch.from_us <= start_us < stretch.to_us]
    if not holding:
        return InForce(start_us, end_us)
    latest = max(holding, key=lambda stretch: stretch.from_us)
    return InForce(start_us, end_us, latest.profile_id, latest.compiled)


@dataclass(frozen=True, slots=True)
class Bindings:
    """What one configuration says, ready for use. Immutable.

    Attributes:
        generation: of the configuration, 0 before the first.
        timelines: by sensor name.
        windows: open capture sessions.
        refused: sensor names that the hub does not take (decommissioned, deleted, or too many), with the reason.
    """

    generation: int = 0
    timelines: Mapping[str, Timeline] = field(default_factory=lambda: MappingProxyType({}))
    windows: tuple[CaptureWindow, ...] = ()
    refused: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def is_out_of_service(self, sensor: str) -> bool:
        """Whether its readings are to be left untaken."""
        return self.refused.get(sensor) in OUT_OF_SERVICE

    def at(self, sensor: str, timestamp_us: int) -> InForce:
        """What holds for a sensor at a time."""
        timeline = self.timelines.get(sensor)
        return RAW_FOR_EVER if timeline is None else timeline.at(timestamp_us)


class ProfileStore:
    """The latest configuration, in memory and in `path`. One thread applies, any thread reads `current`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._config: Config | None = None
        self.current = Bindings()

    def profile(self, profile_id: UUID) -> Compiled | None:
        """A profile of the latest configuration by its id, None if it is not there (any more) or unusable."""
        config = self._config
        for binding in [] if config is None else config.bindings:
            for profile in binding.profiles:
                if profile.id == profile_id:
                    found = _in_force(binding.sensor, profile)
                    return None if found is None else found.compiled
        return None

    def load(self) -> None:
        """Take up what was stored. A file that cannot be used is reported and left for the next configuration."""
        try:
            config = decode(self._path.read_bytes(), Config)
        except FileNotFoundError:
            return
        except (OSError, CorruptBatch, LimitExceeded) as error:
            _log.warning("stored_configuration_unreadable", file=self._path, error=error)
            return
        self._config = config
        self.current = bindings_of(config)
        _log.info("stored_configuration_loaded", generation=config.generation, sensors=len(config.bindings))

    def apply(self, config: Config) -> bool:
        """Put a configuration in force and store it; False for one older than that in force.

        A lower generation from a later time is that of a database restored from a backup, and counts. A disk that
        cannot be written is reported; the configuration is in force all the same.
        """
        before = self._config
        if before is not None and not _supersedes(config, before):
            return False
        self._config = config
        refused_before, self.current = self.current.refused, bindings_of(config)
        _tell_refused(refused_before, self.current.refused)
        try:
            replace_file(self._path, encode(config))
        except OSError as error:
            _log.warning("configuration_not_stored", file=self._path, error=error)
        _log.info("configuration_applied", generation=config.generation, sensors=len(config.bindings))
        return True


def _tell_refused(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    for sensor, reason in sorted(now.items() - before.items()):
        _log.warning("sensor_not_taken", sensor=sensor, reason=reason)
    for sensor in sorted(before.keys() - now.keys()):
        _log.info("sensor_taken_again", sensor=sensor)


def _supersedes(config: Config, before: Config) -> bool:
    return config.generation > before.generation or config.hub_time_us > before.hub_time_us


def bindings_of(config: Config) -> Bindings:
    """A configuration made ready. Profiles that do not compile are reported and left out: the hub converts."""
    return Bindings(
        generation=config.generation,
        timelines=MappingProxyType({binding.sensor: _timeline(binding) for binding in config.bindings}),
        windows=tuple(config.windows),
        refused=MappingProxyType({b.sensor: b.state for b in config.bindings if b.state != "bound"}),
    )


def _timeline(binding: Binding) -> Timeline:
    stretches = (_in_force(binding.sensor, profile) for profile in binding.profiles)
    return Timeline([stretch for stretch in stretches if stretch is not None])


def _in_force(sensor: str, profile: Profile) -> InForce | None:
    try:
        compiled = compile_profile(profile.kind, profile.payload)
    except ProfileError as error:
        _log.warning("profile_unusable", sensor=sensor, profile=profile.id, version=profile.version, error=error)
        return None
    return InForce(
        SINCE_EVER_US if profile.valid_from_us is None else profile.valid_from_us,
        FOR_EVER_US if profile.valid_to_us is None else profile.valid_to_us,
        profile.id,
        compiled,
    )
