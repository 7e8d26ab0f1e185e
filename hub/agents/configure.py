"""Configuration of agents: which sensor each of their names is, the profiles in force, and the sessions that run.

Changes are heard from PostgreSQL (`labrelay_changed`, raised by triggers in the changing transaction), so whichever hub
or script made them; after a lost connection everything is published anew. The generation rises with every change, in
the transaction that reads what is published. All of it is published anew whenever the hub (re)connects to the broker.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from hub.agents import configure_sql as sql
from hub.agents.splits import with_splits
from hub.database.pool import Connection, Pool, acquire, transaction
from hub.telemetry.moments import to_us
from shared import messages, topics
from shared.clock import Clock
from shared.errors import LinkUnavailable, StorageUnavailable
from shared.messages import Binding, CaptureWindow, Config, Profile

CHANNEL = "labrelay_changed"
SETTLE_S = 0.05
"""Changes that follow one another within this time are published together."""
LISTEN_CHECK_S = 5.0
_RETRY_S = 1.0

log = logging.getLogger(__name__)


class Link(Protocol):
    """The broker link, as far as it is needed here."""

    async def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        """Raises: LinkUnavailable."""
        ...

    def on_connected(self, callback: Callable[[], None]) -> None:
        """Call after each connection."""
        ...


class Configurator:
    """Keeps the retained configuration of every agent up to date."""

    def __init__(self, pool: Pool, link: Link, clock: Clock) -> None:
        self._pool = pool
        self._link = link
        self._clock = clock
        self._on_change: list[Callable[[], None]] = []
        self._changed_agents: set[UUID] = set()
        self._changed_sensors: set[UUID] = set()
        self._all = True
        self._wake = asyncio.Event()
        self.published = 0
        """Configurations published since the hub started."""
        link.on_connected(self._publish_all)

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call `callback` for each change, for those who keep what they know of sensors."""
        self._on_change.append(callback)

    def touch(self, agent_ids: Iterable[UUID]) -> None:
        """Something that these agents should know has changed."""
        self._changed_agents.update(agent_ids)
        self._wake.set()

    def sensors_changed(self, sensor_ids: Iterable[UUID]) -> None:
        """Sensors or their profiles have changed; whose agents are concerned is looked up."""
        self._changed_sensors.update(sensor_ids)
        self._wake.set()

    async def run(self) -> None:
        """Listen and publish until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(), name="configuration listener")
            group.create_task(self._work(), name="configuration publisher")

    def _publish_all(self) -> None:
        self._all = True
        self._wake.set()

    async def _listen(self) -> None:
        while True:
            try:
                async with acquire(self._pool) as connection:
                    await connection.add_listener(CHANNEL, self._on_notification)
                    try:
                        self._publish_all()  # what was changed while nobody listened
                        while True:
                            await asyncio.sleep(LISTEN_CHECK_S)
                            await connection.execute("select 1")
                    finally:
                        if not connection.is_closed():
                            await connection.remove_listener(CHANNEL, self._on_notification)
            except StorageUnavailable as error:
                log.info("event=changes_unheard reason=%r", error.message)
                await asyncio.sleep(_RETRY_S * random.uniform(0.5, 1.0))

    def _on_notification(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        kind, _, text = str(payload).partition(":")
        try:
            changed = UUID(text)
        except ValueError:
            return
        for callback in self._on_change:
            callback()
        if kind == "agent":
            self.touch([changed])
        else:
            self.sensors_changed([changed])

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(SETTLE_S)
            self._wake.clear()
            try:
                await self._publish_changed()
            except (StorageUnavailable, LinkUnavailable) as error:
                log.info("event=configuration_waits reason=%r", error.message)
                self._wake.set()
                await asyncio.sleep(_RETRY_S * random.uniform(0.5, 1.0))

    async def _publish_changed(self) -> None:
        """Publish what waits; what fails waits on."""
        changed, sensors, everyone = set(self._changed_agents), set(self._changed_sensors), self._all
        async with acquire(self._pool) as connection:
            if sensors:
                changed |= {row["agent_id"] for row in await connection.fetch(sql.AGENTS_OF_SENSORS, list(sensors))}
            standing = {row["id"] for row in await connection.fetch(sql.AGENTS)} - changed if everyone else set()
        self._changed_agents |= changed
        self._changed_sensors -= sensors
        for agent_id in sorted(changed):
            await self._publish(agent_id, rises=True)
            self._changed_agents.discard(agent_id)
        for agent_id in sorted(standing):
            await self._publish(agent_id, rises=False)
        if everyone:
            self._all = False

    async def _publish(self, agent_id: UUID, *, rises: bool) -> None:
        async with transaction(self._pool, isolation="repeatable_read") as connection:
            generation = await connection.fetchval(sql.RAISE if rises else sql.GENERATION, agent_id)
            if generation is None:
                return
            bindings = await _bindings(connection, agent_id)
            windows = await _windows(connection, agent_id)
        payload = fitting(Config(generation, self._clock.now_us(), bindings, windows))
        await self._link.publish(topics.down(agent_id, "config"), payload, qos=1, retain=True)
        self.published += 1


async def _bindings(connection: Connection, agent_id: UUID) -> list[Binding]:
    profiles = _by_sensor(await connection.fetch(sql.PROFILES, agent_id))
    splits = _by_sensor(await connection.fetch(sql.SPLITS, agent_id))
    found = []
    for row in await connection.fetch(sql.BINDINGS, agent_id):
        told = with_splits(profiles.get(row["sensor_id"], []), splits.get(row["sensor_id"], []))
        found.append(Binding(row["sensor_name"], row["sensor_id"], row["state"], told))
    return found


def _by_sensor(rows: Iterable[Any]) -> dict[UUID, list[Profile]]:
    found: dict[UUID, list[Profile]] = {}
    for row in rows:
        valid_from_us, valid_to_us = _us(row["valid_from"]), _us(row["valid_to"])
        profile = Profile(row["id"], row["version"], row["kind"], row["payload"], valid_from_us, valid_to_us)
        found.setdefault(row["sensor_id"], []).append(profile)
    return found


async def _windows(connection: Connection, agent_id: UUID) -> list[CaptureWindow]:
    return [
        CaptureWindow(row["session_id"], row["sensors"], to_us(row["time_from"]), _us(row["time_to"]))
        for row in await connection.fetch(sql.WINDOWS, agent_id)
    ]


def fitting(config: Config) -> bytes:
    """The message, without past profiles where it would be too large with them: the hub then converts what is old."""
    payload = messages.encode(config)
    if len(payload) <= messages.MESSAGE_BYTES_MAX:
        return payload
    log.warning("event=configuration_too_large bytes=%d sensors=%d", len(payload), len(config.bindings))
    lasting = [Binding(one.sensor, one.sensor_id, one.state, one.profiles[-1:]) for one in config.bindings]
    payload = messages.encode(Config(config.generation, config.hub_time_us, lasting, config.windows))
    if len(payload) <= messages.MESSAGE_BYTES_MAX:
        return payload
    bare = [Binding(one.sensor, one.sensor_id, one.state) for one in config.bindings]
    return messages.encode(Config(config.generation, config.hub_time_us, bare, config.windows))


def _us(moment: datetime | None) -> int | None:
    return None if moment is None else to_us(moment)
