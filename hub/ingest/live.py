"""The live lane: latest values of agents, to the hub's watchers at once and to dashboards over MQTT.

Values of sensors that are not bound are dropped; a sensor that was just registered is looked up again after a moment.
Over MQTT each signal is published for each project of its sensor, retained and conflated: at most `live_rate_hz_max`
times a second, all together at most `live_messages_per_s_max`; beyond that values come later, and no
queue grows.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TypeAlias
from uuid import UUID

from hub.broker.lanes import UpMessage
from hub.database.pool import Pool, acquire
from hub.ingest.acknowledge import Publisher
from hub.settings import HubSettings
from hub.telemetry.live import LiveHub, LiveReading
from shared import messages, topics
from shared.clock import Clock
from shared.columns import TIMESTAMP_US_MAX
from shared.errors import LinkUnavailable, StorageUnavailable, WireError
from shared.messages import Live, LiveValue, ProjectLive
from shared.readings import reason_of, status_of

LOOK_AGAIN_S = 1.0
KNOWN_S = 30.0
PUBLISHED_AT_ONCE = 40
"""Of a round, before others get their turn: about a millisecond."""
VALUES_MAX = 20_000

log = logging.getLogger(__name__)

_SENSORS = """
select b.sensor_name, b.sensor_id, s.display_unit,
       array(select p.project_id from sensor_projects p where p.sensor_id = s.id) as projects,
       array(
           select p.project_id from sensor_projects p join project_policies o on o.project_id = p.project_id
           where p.sensor_id = s.id and not o.viewers_see_raw
       ) as without_raw
from agent_bindings b
join sensors s on s.id = b.sensor_id and s.status <> 'decommissioned'
join agents a on a.id = b.agent_id and a.status = 'enrolled'
where b.agent_id = $1 and b.state = 'bound'
"""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Key: TypeAlias = tuple[UUID, UUID, str]
"""Project, sensor, signal."""


@dataclass(frozen=True, slots=True)
class _Sensor:
    """`without_raw` are those of its projects that show viewers no raw values: all members read the same topics."""

    id: UUID
    projects: tuple[UUID, ...]
    without_raw: frozenset[UUID]
    display_unit: str


@dataclass(frozen=True, slots=True)
class _Roster:
    """An agent's sensors by name, and when they were looked up."""

    sensors: Mapping[str, _Sensor]
    at_s: float


class LiveLane:
    """Takes messages of the live lane.

    Args:
        pool: to look up sensors.
        live: the hub's own watchers.
        publisher: towards dashboards.
    """

    def __init__(self, settings: HubSettings, pool: Pool, live: LiveHub, publisher: Publisher, clock: Clock) -> None:
        self._pool = pool
        self._live = live
        self._publisher = publisher
        self._clock = clock
        self._interval_s = 1 / settings.live_rate_hz_max
        self._messages_per_round = max(1, round(settings.live_messages_per_s_max * self._interval_s))
        self._rosters: dict[UUID, _Roster] = {}
        self._pending: dict[Key, LiveReading] = {}
        self._filled = asyncio.Event()
        self.unknown = 0
        """Values of sensors that nobody knows."""
        self.garbage = 0
        """Messages that could not be read."""

    def forget(self) -> None:
        """Sensors, bindings or projects have changed: look them up again."""
        self._rosters.clear()

    async def receive(self, message: UpMessage) -> None:
        """Pass the values of one message on."""
        try:
            values = messages.decode(message.payload, Live).values[:VALUES_MAX]
        except WireError:
            self.garbage += 1
            return
        roster = await self._roster(message.agent_id, {value.sensor for value in values})
        readings = []
        for value in values:
            sensor = roster.get(value.sensor)
            if sensor is None or not _is_sound(value):
                self.unknown += 1
                continue
            reading = LiveReading(
                sensor.id,
                value.signal,
                value.timestamp_us,
                _finite(value.raw),
                _finite(value.physical),
                value.status,
                value.unit if value.physical is None else sensor.display_unit,
            )
            readings.append(reading)
            for project_id in sensor.projects:
                shown = replace(reading, raw=None) if project_id in sensor.without_raw else reading
                self._pending[project_id, sensor.id, value.signal] = shown
        if readings:
            self._live.offer(readings)
            self._filled.set()

    async def run(self) -> None:
        """Publish for dashboards until cancelled."""
        while True:
            await self._filled.wait()
            chosen = [(key, self._pending.pop(key)) for key in list(self._pending)[: self._messages_per_round]]
            if not self._pending:
                self._filled.clear()
            for place, ((project_id, sensor_id, signal), reading) in enumerate(chosen, start=1):
                topic = topics.live(project_id, sensor_id, signal)
                try:
                    await self._publisher.publish(topic, messages.encode(_project_live(reading)), retain=True)
                except LinkUnavailable:
                    break
                if place % PUBLISHED_AT_ONCE == 0:
                    await asyncio.sleep(0)
            await asyncio.sleep(self._interval_s)

    async def _roster(self, agent_id: UUID, names: set[str]) -> Mapping[str, _Sensor]:
        known = self._rosters.get(agent_id)
        age_s = math.inf if known is None else self._clock.monotonic_s() - known.at_s
        if known is not None and age_s < KNOWN_S and (age_s < LOOK_AGAIN_S or names <= known.sensors.keys()):
            return known.sensors
        try:
            async with acquire(self._pool) as connection:
                rows = await connection.fetch(_SENSORS, agent_id)
        except StorageUnavailable:
            return known.sensors if known is not None else {}
        sensors = {
            row["sensor_name"]: _Sensor(
                row["sensor_id"], tuple(row["projects"]), frozenset(row["without_raw"]), row["display_unit"]
            )
            for row in rows
        }
        self._rosters[agent_id] = _Roster(sensors, self._clock.monotonic_s())
        return sensors


def _is_sound(value: LiveValue) -> bool:
    try:
        status_of(value.status)
        reason_of(value.status)
    except ValueError:
        return False
    return 0 <= value.timestamp_us <= TIMESTAMP_US_MAX and 0 < len(value.signal) <= 200


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _project_live(reading: LiveReading) -> ProjectLive:
    moment = _EPOCH + timedelta(microseconds=reading.timestamp_us)
    return ProjectLive(
        t=moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        sensor=str(reading.sensor_id),
        signal=reading.signal,
        raw=reading.raw,
        physical=reading.physical,
        unit=reading.unit,
        status=status_of(reading.status).label,
    )
