"""Live values: the latest of every signal, fanned out to whoever watches.

Values come from the agents' live lane, ahead of what is still spooled, and are never stored. A signal's value only ever
moves forward in time. Watchers are woken for changes of what they watch, in frames, and get what changed since they
last looked; one who is slow gets the latest of each signal and never a queue (conflation), so that nothing here grows
with time.

Limits: `SIGNALS_MAX` signals; values of further ones are counted in `refused` and not kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias
from uuid import UUID

from shared.clock import AnchoredClock, Clock

SIGNALS_MAX = 100_000
FRAME_INTERVAL_S = 0.02
"""Watchers are woken at most this often. Agents send at most ten messages a second, but not all at the same moment."""
FRAME_INTERVAL_S_MAX = 0.1
_FRAME_S_PER_WATCHER = 0.0002
"""Where many watch, frames are longer: waking one costs about half of this."""
_PICKS_MAX = 64

log = logging.getLogger(__name__)

SensorIds: TypeAlias = frozenset[UUID]
NO_SENSORS: SensorIds = frozenset()


@dataclass(frozen=True, slots=True)
class LiveReading:
    """The latest value of one signal.

    Attributes:
        timestamp_us: when the instrument was read, by the hub's clock.
        raw, physical: None where there is no value.
        status: a status byte (`shared.readings`).
    """

    sensor_id: UUID
    signal: str
    timestamp_us: int
    raw: float | None
    physical: float | None
    status: int
    unit: str = ""
    """Of the physical value where there is one, else of the raw value."""


@dataclass(slots=True)
class _Latest:
    reading: LiveReading
    frame: int


@dataclass(frozen=True, slots=True)
class _Frame:
    """What changed in one interval, by sensor; `picks` holds what watchers of the same sensors have found in it."""

    number: int
    by_sensor: dict[UUID, list[LiveReading]]
    picks: dict[SensorIds, list[LiveReading]] = field(default_factory=dict)

    def pick(self, sensor_ids: SensorIds) -> list[LiveReading]:
        found = self.picks.get(sensor_ids)
        if found is None:
            found = _readings_of(sensor_ids, self.by_sensor)
            if len(self.picks) < _PICKS_MAX:
                self.picks[sensor_ids] = found
        return found


class LiveHub:
    """The latest value of every signal. Used from one event loop.

    Args:
        clock: for `heard_us`.
        frame_interval_s: how long changes are at least gathered before watchers are woken again.
    """

    def __init__(self, *, clock: Clock | None = None, frame_interval_s: float = FRAME_INTERVAL_S) -> None:
        self._clock = clock or AnchoredClock()
        self._frame_interval_s = frame_interval_s
        self._latest: dict[UUID, dict[str, _Latest]] = {}
        self._signals = 0
        self._heard_us: dict[UUID, int] = {}
        self._changed: dict[tuple[UUID, str], _Latest] = {}
        self._offered = asyncio.Event()
        self._watches: set[Watch] = set()
        self._frame = _Frame(0, {})
        self.refused = 0
        """Values not kept because there were `SIGNALS_MAX` signals already."""

    def offer(self, readings: Iterable[LiveReading]) -> None:
        """Take values in; one that is not newer than what is known of its signal changes nothing."""
        now_us = self._clock.now_us()
        for reading in readings:
            signals = self._latest.setdefault(reading.sensor_id, {})
            latest = signals.get(reading.signal)
            if latest is None:
                if self._signals >= SIGNALS_MAX:
                    self._refuse()
                    continue
                latest = signals[reading.signal] = _Latest(reading, 0)
                self._signals += 1
            elif reading.timestamp_us <= latest.reading.timestamp_us:
                continue
            latest.reading = reading
            latest.frame = self._frame.number + 1
            self._heard_us[reading.sensor_id] = now_us
            self._changed[reading.sensor_id, reading.signal] = latest
        if self._changed:
            self._offered.set()

    def latest(self, sensor_ids: SensorIds) -> list[LiveReading]:
        """The latest values of these sensors."""
        return self._since(sensor_ids, -1)

    def heard_us(self, sensor_id: UUID) -> int | None:
        """When (UTC, microseconds) a new value of this sensor last came in, None if none did since this hub started."""
        return self._heard_us.get(sensor_id)

    def forget(self, sensor_id: UUID) -> None:
        """Drop a sensor that was deleted."""
        self._signals -= len(self._latest.pop(sensor_id, {}))
        self._heard_us.pop(sensor_id, None)
        for key in [key for key in self._changed if key[0] == sensor_id]:
            del self._changed[key]

    def watch(self, wake: asyncio.Event, sensor_ids: SensorIds) -> Watch:
        """A watcher who has seen nothing yet, to be entered as a context manager; its first `take` gives all values.

        Args:
            wake: set whenever there may be something to take.
            sensor_ids: what it watches, until it takes something else.
        """
        return Watch(self, wake, sensor_ids)

    async def run(self) -> None:
        """Wake watchers, at once at a first change and then in frames, until cancelled."""
        while True:
            await self._offered.wait()
            self._offered.clear()
            by_sensor: dict[UUID, list[LiveReading]] = {}
            for latest in self._changed.values():
                by_sensor.setdefault(latest.reading.sensor_id, []).append(latest.reading)
            self._changed.clear()
            self._frame = _Frame(self._frame.number + 1, by_sensor)
            woken = sum([watch.look(self._frame) for watch in self._watches])
            crowded_s = min(woken * _FRAME_S_PER_WATCHER, FRAME_INTERVAL_S_MAX)
            await asyncio.sleep(max(self._frame_interval_s, crowded_s))

    def _since(self, sensor_ids: SensorIds, frame: int) -> list[LiveReading]:
        by_sensor = {
            sensor: [latest.reading for latest in self._latest[sensor].values() if latest.frame > frame]
            for sensor in sensor_ids
            if sensor in self._latest
        }
        return _readings_of(sensor_ids, by_sensor)

    def _refuse(self) -> None:
        if not self.refused:
            log.warning("event=live_signals_full signals_max=%d", SIGNALS_MAX)
        self.refused += 1


class Watch:
    """One watcher's place. Not shared between tasks."""

    def __init__(self, hub: LiveHub, wake: asyncio.Event, sensor_ids: SensorIds) -> None:
        self._hub = hub
        self._wake = wake
        self._sensor_ids = sensor_ids
        self._seen = -2  # neither the current frame nor the one before

    def __enter__(self) -> Watch:
        self._hub._watches.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._hub._watches.discard(self)

    def look(self, frame: _Frame) -> bool:
        """Wake the watcher if the frame, the latest, holds something for it. Returns: whether it does."""
        if frame.pick(self._sensor_ids):
            self._wake.set()
            return True
        if self._seen == frame.number - 1:
            self._seen = frame.number
        return False

    def take(self, sensor_ids: SensorIds) -> list[LiveReading]:
        """The latest values of these sensors that changed since the last `take`."""
        self._sensor_ids = sensor_ids
        frame = self._hub._frame
        seen, self._seen = self._seen, frame.number
        if seen == frame.number:
            return []
        if seen == frame.number - 1:
            return frame.pick(sensor_ids)
        return self._hub._since(sensor_ids, seen)


def _readings_of(sensor_ids: SensorIds, by_sensor: dict[UUID, list[LiveReading]]) -> list[LiveReading]:
    if len(by_sensor) < len(sensor_ids):
        return [reading for sensor, readings in by_sensor.items() if sensor in sensor_ids for reading in readings]
    return [reading for sensor in sensor_ids for reading in by_sensor.get(sensor, ())]
