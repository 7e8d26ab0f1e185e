"""Agents are told of every change within a moment, whoever made it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hub.agents.configure import Configurator, fitting
from hub.database.ids import uuid7
from hub.database.pool import Pool, transaction
from hub.telemetry.moments import to_us
from shared import messages
from shared.clock import AnchoredClock
from shared.errors import LinkUnavailable
from shared.messages import Binding, Config, Profile
from tests.fixtures.readings import Bench, bench
from tests.hub.recalculation.test_tasks import draft, path
from tests.hub.sessions.agents import Delivery
from tests.hub.sessions.conftest import Lab, lab

__all__ = ["bench", "lab"]


class Link:
    """Keeps the latest configuration of each agent, as a broker does."""

    def __init__(self) -> None:
        self.retained: dict[str, Config] = {}
        self.count = 0
        self.away = False
        self.connected: list[Callable[[], None]] = []
        self.arrived = asyncio.Event()

    def on_connected(self, callback: Callable[[], None]) -> None:
        self.connected.append(callback)

    async def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        if self.away:
            raise LinkUnavailable("away")
        assert retain
        self.retained[topic] = messages.decode(payload, Config)
        self.count += 1
        self.arrived.set()

    async def until(self, agent_id: UUID, done: Callable[[Config], bool]) -> Config:
        topic = f"labrelay/v1/agents/{agent_id}/down/config"
        async with asyncio.timeout(20):
            while topic not in self.retained or not done(self.retained[topic]):
                self.arrived.clear()
                await self.arrived.wait()
        return self.retained[topic]


@asynccontextmanager
async def _configuring(pool: Pool, link: Link) -> AsyncIterator[Configurator]:
    configurator = Configurator(pool, link, AnchoredClock())
    task = asyncio.create_task(configurator.run())
    try:
        yield configurator
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _agent(bench: Bench, sensor_id: UUID | None = None) -> UUID:
    agent_id = uuid7()
    async with transaction(bench.pool) as connection:
        await connection.execute(
            "insert into agents (id, project_id, name, mqtt_username) values ($1, $2, $3, '')",
            agent_id,
            bench.project_id,
            str(agent_id),
        )
        if sensor_id is not None:
            await connection.execute("insert into agent_bindings values ($1, 'oven', $2, 'bound')", agent_id, sensor_id)
    return agent_id


async def _publish_profile(bench: Bench, sensor_id: UUID) -> UUID:
    profile_id = uuid7()
    async with transaction(bench.pool) as connection:
        await connection.execute(
            """
            insert into conversion_profiles (id, sensor_id, version, kind, payload, status, published_at)
            values ($1, $2, $3, 'linear', $4, 'active', now())
            """,
            profile_id,
            sensor_id,
            str(profile_id),
            {"a": 2.0, "b": 1.0},
        )
    return profile_id


async def test_a_published_profile_reaches_the_agent_with_a_higher_generation(bench: Bench) -> None:
    sensor_id, link = await bench.sensor(), Link()
    agent_id = await _agent(bench, sensor_id)
    async with _configuring(bench.pool, link):
        before = await link.until(agent_id, lambda config: bool(config.bindings))
        assert before.bindings == [Binding("oven", sensor_id)]
        await asyncio.sleep(0.3)
        profile_id = await _publish_profile(bench, sensor_id)
        after = await link.until(agent_id, lambda config: bool(config.bindings and config.bindings[0].profiles))
    (profile,) = after.bindings[0].profiles
    assert (profile.id, profile.kind, profile.payload) == (profile_id, "linear", {"a": 2.0, "b": 1.0})
    assert after.generation > before.generation


async def test_a_name_whose_sensor_is_gone_stays_deleted(bench: Bench) -> None:
    sensor_id, link = await bench.sensor(), Link()
    agent_id = await _agent(bench, sensor_id)
    async with _configuring(bench.pool, link):
        await link.until(agent_id, lambda config: bool(config.bindings))
        async with transaction(bench.pool) as connection:
            await connection.execute("delete from sensors")
        config = await link.until(agent_id, lambda config: config.bindings[0].state == "deleted")
    assert config.bindings == [Binding("oven", None, "deleted")]


async def test_an_agent_is_told_when_its_sensor_goes_out_of_service_and_when_it_is_back(bench: Bench) -> None:
    sensor_id, link = await bench.sensor(), Link()
    agent_id = await _agent(bench, sensor_id)
    async with _configuring(bench.pool, link):
        for status, state in (("decommissioned", "decommissioned"), ("active", "bound")):
            async with transaction(bench.pool) as connection:
                await connection.execute("update sensors set status = $1", status)
            config = await link.until(
                agent_id, lambda config, state=state: bool(config.bindings) and config.bindings[0].state == state
            )
            assert config.bindings[0].sensor_id == sensor_id


async def test_everything_is_published_anew_when_the_broker_is_back(bench: Bench) -> None:
    link = Link()
    agent_id = await _agent(bench)
    async with _configuring(bench.pool, link):
        first = await link.until(agent_id, lambda _: True)
        link.retained.clear()
        for callback in link.connected:
            callback()
        again = await link.until(agent_id, lambda _: True)
    assert again.generation == first.generation


async def test_what_could_not_be_published_is_published_later(bench: Bench) -> None:
    link = Link()
    link.away = True
    agent_id = await _agent(bench)
    async with _configuring(bench.pool, link) as configurator:
        configurator.touch([agent_id])
        await asyncio.sleep(0.3)
        link.away = False
        await link.until(agent_id, lambda _: True)


async def test_retired_agents_are_left_alone(bench: Bench) -> None:
    link = Link()
    retired, other = await _agent(bench), await _agent(bench)
    async with transaction(bench.pool) as connection:
        await connection.execute("update agents set status = 'retired' where id = $1", retired)
    async with _configuring(bench.pool, link) as configurator:
        configurator.touch([retired])
        await link.until(other, lambda _: True)
    assert len(link.retained) == 1


def test_a_configuration_that_is_too_large_goes_without_past_profiles() -> None:
    rows = [{"raw": float(place), "physical": float(place)} for place in range(10_000)]
    profiles = [
        Profile(uuid7(), str(version), "lookup_table", {"table": rows}, version, version + 1) for version in range(20)
    ]
    payload = fitting(Config(1, 1, [Binding("oven", uuid7(), "bound", profiles)]))
    assert len(payload) <= messages.MESSAGE_BYTES_MAX
    assert [one.version for one in messages.decode(payload, Config).bindings[0].profiles] == ["19"]


async def test_an_agent_is_told_of_a_session_until_it_has_taken_all_up_to_its_end(bench: Bench) -> None:
    sensor_id, link, session_id = await bench.sensor("oven"), Link(), uuid7()
    agent_id = await _agent(bench, sensor_id)
    stopped = datetime.now(UTC)
    async with _configuring(bench.pool, link) as configurator:
        assert (await link.until(agent_id, lambda config: bool(config.bindings))).windows == []
        await _session(bench, session_id, sensor_id, stopped - timedelta(minutes=1))
        (open_one,) = (await link.until(agent_id, lambda config: bool(config.windows))).windows
        assert (open_one.capture_session_id, open_one.sensors, open_one.stopped_us) == (session_id, ["oven"], None)
        async with transaction(bench.pool) as connection:
            await connection.execute("update session_sensors set time_to = $1", stopped)
        (over,) = (await link.until(agent_id, lambda config: config.windows[0].stopped_us is not None)).windows
        assert over.stopped_us == round(stopped.timestamp() * 1e6)
        async with transaction(bench.pool) as connection:
            await connection.execute(
                "insert into epochs (agent_id, epoch, taken_through) values ($1, $2, $3)", agent_id, b"e" * 16, stopped
            )
        configurator.touch([agent_id])
        await link.until(agent_id, lambda config: config.windows == [])


async def _session(bench: Bench, session_id: UUID, sensor_id: UUID, started: datetime) -> None:
    """A session that runs, with one sensor."""
    experiment_id, run_id = uuid7(), uuid7()
    async with transaction(bench.pool) as connection:
        await connection.execute(
            "insert into experiments (id, project_id, owner_id, name) select $1, id, owner_id, 'e' from projects "
            "where id = $2",
            experiment_id,
            bench.project_id,
        )
        await connection.execute(
            "insert into runs (id, experiment_id, project_id, name) values ($1, $2, $3, 'r')",
            run_id,
            experiment_id,
            bench.project_id,
        )
        await connection.execute(
            "insert into capture_sessions (id, run_id, project_id, ordinal_number, status, started_at) "
            "values ($1, $2, $3, 1, 'running', $4)",
            session_id,
            run_id,
            bench.project_id,
            started,
        )
        await connection.execute(
            "insert into session_sensors (session_id, sensor_id, time_from) values ($1, $2, $3)",
            session_id,
            sensor_id,
            started,
        )


async def test_agents_are_told_of_the_sessions_that_a_profile_was_split_off_for(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    default, off = await draft(lab, oven, "default", 2.0), await draft(lab, oven, "split", 10.0)
    run = await lab.run((oven,))
    await lab.owner.post(f"{path(oven)}/{default}/publish")
    body = {"split": {"run_ids": [run]}, "valid_from": "2026-03-02T12:00:00Z"}
    assert (await lab.owner.post(f"{path(oven)}/{off}/publish", json=body)).status_code == 200
    delivery, link = Delivery(lab.hub, lab.project), Link()
    await delivery.enrol("oven")

    def stretches(config: Config) -> list[tuple[str, int | None, int | None]]:
        return [(str(one.id), one.valid_from_us, one.valid_to_us) for one in config.bindings[0].profiles]

    async with _configuring(lab.hub.services.pool, link):
        before = await link.until(delivery.agent.id, lambda config: bool(config.bindings))
        assert stretches(before) == [(default, None, None)]
        session = await lab.started(run)
        started_us = to_us(datetime.fromisoformat(session["started_at"]))
        told = await link.until(delivery.agent.id, lambda config: len(config.bindings[0].profiles) == 2)
        assert stretches(told) == [(off, started_us, None), (default, None, None)]
        stopped = (await lab.owner.post(f"{lab.path(session)}/stop")).json()
        stopped_us = to_us(datetime.fromisoformat(stopped["stopped_at"]))
        told = await link.until(
            delivery.agent.id, lambda config: config.bindings[0].profiles[0].valid_to_us is not None
        )
        assert stretches(told) == [(off, started_us, stopped_us), (default, None, None)]


async def test_agents_are_told_the_split_that_came_into_force_last(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    drafts = [await draft(lab, oven, version, factor) for version, factor in (("1", 10.0), ("2", 100.0))]
    runs = [await lab.run((oven,)), await lab.run()]
    await lab.started(runs[0])
    for profile, named in zip(reversed(drafts), (runs, runs[:1]), strict=True):
        body = {"split": {"run_ids": named}, "valid_from": "2026-03-02T12:00:00Z"}
        assert (await lab.owner.post(f"{path(oven)}/{profile}/publish", json=body)).status_code == 200
    delivery, link = Delivery(lab.hub, lab.project), Link()
    await delivery.enrol("oven")
    async with _configuring(lab.hub.services.pool, link):
        told = await link.until(delivery.agent.id, lambda config: bool(config.bindings and config.bindings[0].profiles))
    assert [str(one.id) for one in told.bindings[0].profiles] == drafts[:1]


async def test_agents_are_told_nothing_of_sessions_that_ended_long_ago(lab: Lab) -> None:
    oven, now = await lab.sensor("oven"), datetime.now(UTC)
    default, off = await draft(lab, oven, "default", 2.0), await draft(lab, oven, "split", 10.0)
    run = await lab.run((oven,))
    ago = [now - timedelta(minutes=minutes) for minutes in (200, 100, 40, 20)]
    for started, stopped in (ago[:2], ago[2:]):
        await lab.started(run, started_at=started.isoformat(), stopped_at=stopped.isoformat())
    await lab.owner.post(f"{path(oven)}/{default}/publish")
    body = {"split": {"run_ids": [run]}, "valid_from": (now - timedelta(days=1)).isoformat()}
    assert (await lab.owner.post(f"{path(oven)}/{off}/publish", json=body)).status_code == 200
    delivery, link = Delivery(lab.hub, lab.project), Link()
    await delivery.enrol("oven")
    async with _configuring(lab.hub.services.pool, link):
        told = await link.until(delivery.agent.id, lambda config: bool(config.bindings and config.bindings[0].profiles))
    windows = [(str(one.id), one.valid_from_us, one.valid_to_us) for one in told.bindings[0].profiles]
    assert windows == [(off, to_us(ago[2]), to_us(ago[3])), (default, None, None)]
