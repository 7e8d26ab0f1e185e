"""The live lane: values reach watchers and dashboards at once, and no queue grows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from hub.broker.lanes import UpMessage
from hub.database.pool import transaction
from hub.ingest.live import LOOK_AGAIN_S, LiveLane
from hub.telemetry.live import LiveHub
from shared import messages
from shared.messages import Live, LiveValue
from tests.hub.ingest.conftest import NOW_US, Agent, Room


class Dashboard:
    """Keeps what is retained."""

    def __init__(self) -> None:
        self.retained: dict[str, dict[str, object]] = {}
        self.count = 0

    async def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        self.retained[topic] = json.loads(payload)
        self.count += 1


@asynccontextmanager
async def _lane(room: Room, live: LiveHub, dashboard: Dashboard) -> AsyncIterator[LiveLane]:
    lane = LiveLane(room.settings, room.bench.pool, live, dashboard, room.clock)
    task = asyncio.create_task(lane.run())
    try:
        yield lane
    finally:
        task.cancel()
        await asyncio.wait([task])


def _message(agent: Agent, *values: LiveValue) -> UpMessage:
    return UpMessage(agent.id, "live", messages.encode(Live(list(values))), False)


async def _bind(room: Room, agent: Agent, sensor_id: UUID) -> None:
    async with transaction(room.bench.pool) as connection:
        await connection.execute("insert into agent_bindings values ($1, 'oven', $2, 'bound')", agent.id, sensor_id)
        await connection.execute("update sensors set display_unit = 'K' where id = $1", sensor_id)


async def test_values_reach_watchers_and_dashboards(room: Room) -> None:
    agent, sensor_id = await room.agent(), await room.bench.sensor()
    await _bind(room, agent, sensor_id)
    live, dashboard = LiveHub(clock=room.clock), Dashboard()
    async with _lane(room, live, dashboard) as lane:
        await lane.receive(_message(agent, LiveValue("oven", "value", NOW_US, 1.0, 3.0, 1, "°C")))
        (reading,) = live.latest(frozenset([sensor_id]))
        assert (reading.signal, reading.raw, reading.physical, reading.unit) == ("value", 1.0, 3.0, "K")
        async with asyncio.timeout(10):
            while not dashboard.retained:
                await asyncio.sleep(0.01)
    ((topic, value),) = dashboard.retained.items()
    assert topic == f"labrelay/v1/projects/{room.bench.project_id}/live/{sensor_id}/value"
    assert (value["raw"], value["physical"], value["status"], value["unit"]) == (1.0, 3.0, "converted", "K")
    assert str(value["t"]).endswith("Z")


async def test_dashboards_of_a_project_that_shows_viewers_no_raw_values_get_none(room: Room) -> None:
    agent, sensor_id = await room.agent(), await room.bench.sensor()
    await _bind(room, agent, sensor_id)
    async with transaction(room.bench.pool) as connection:
        statement = "insert into project_policies (project_id, viewers_see_raw) values ($1, false)"
        await connection.execute(statement, room.bench.project_id)
    live, dashboard = LiveHub(clock=room.clock), Dashboard()
    async with _lane(room, live, dashboard) as lane:
        await lane.receive(_message(agent, LiveValue("oven", "value", NOW_US, 1.0, 3.0, 1, "°C")))
        async with asyncio.timeout(10):
            while not dashboard.retained:
                await asyncio.sleep(0.01)
    (value,) = dashboard.retained.values()
    assert (value["raw"], value["physical"]) == (None, 3.0)
    (reading,) = live.latest(frozenset([sensor_id]))
    assert reading.raw == 1.0


async def test_a_raw_value_has_the_instruments_unit(room: Room) -> None:
    agent, sensor_id = await room.agent(), await room.bench.sensor()
    await _bind(room, agent, sensor_id)
    live = LiveHub(clock=room.clock)
    async with _lane(room, live, Dashboard()) as lane:
        await lane.receive(_message(agent, LiveValue("oven", "value", NOW_US, 1.0, None, 0, "mV")))
    (reading,) = live.latest(frozenset([sensor_id]))
    assert (reading.physical, reading.unit) == (None, "mV")


async def test_fast_values_are_conflated_for_dashboards(room: Room) -> None:
    agent, sensor_id = await room.agent(), await room.bench.sensor()
    await _bind(room, agent, sensor_id)
    dashboard = Dashboard()
    async with _lane(room, LiveHub(clock=room.clock), dashboard) as lane:
        for step in range(500):
            await lane.receive(_message(agent, LiveValue("oven", "value", NOW_US + step, float(step), None, 0)))
        async with asyncio.timeout(10):
            while not any(value["raw"] == 499.0 for value in dashboard.retained.values()):
                await asyncio.sleep(0.01)
    assert dashboard.count < 100


async def test_unknown_sensors_are_dropped_until_they_are_bound(room: Room) -> None:
    agent, sensor_id = await room.agent(), await room.bench.sensor()
    live = LiveHub(clock=room.clock)
    value = LiveValue("oven", "value", NOW_US, 1.0, None, 0)
    async with _lane(room, live, Dashboard()) as lane:
        await lane.receive(_message(agent, value))
        assert (lane.unknown, live.latest(frozenset([sensor_id]))) == (1, [])
        await _bind(room, agent, sensor_id)
        room.clock.advance_s(LOOK_AGAIN_S)
        await lane.receive(_message(agent, value))
        assert len(live.latest(frozenset([sensor_id]))) == 1


async def test_garbage_and_unsound_values_are_counted(room: Room) -> None:
    agent, sensor_id = await room.agent(), await room.bench.sensor()
    await _bind(room, agent, sensor_id)
    live = LiveHub(clock=room.clock)
    async with _lane(room, live, Dashboard()) as lane:
        await lane.receive(UpMessage(agent.id, "live", b"\xff", False))
        await lane.receive(_message(agent, LiveValue("oven", "value", -1, 1.0, None, 0)))
        await lane.receive(_message(agent, LiveValue("oven", "value", NOW_US, 1.0, None, 255)))
        assert (lane.garbage, lane.unknown) == (1, 2)
    assert live.latest(frozenset([sensor_id])) == []
