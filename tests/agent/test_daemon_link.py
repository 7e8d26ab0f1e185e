"""The running agent and the hub, with a real broker between them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import pytest

from agent.configuration import load_settings
from agent.daemon import run
from agent.hub_link import credentials, link
from agent.hub_link.credentials import Credentials, MqttAccess
from agent.hub_link.link import HubLink
from agent.identity import load_agent_id
from agent.settings import Settings
from agent.status import StatusFiles
from drivers.simulators.modbus import ModbusSimulator, SimulatedRegister
from shared import clock as clock_module
from shared import topics
from shared.columns import DecodedColumns
from shared.messages import Binding, Config, Live, Profile, decode, encode
from shared.readings import Status
from shared.records import ClockRecord
from tests.agent.hub_link.fake_hub import BrokerHub, FakeHub
from tests.fixtures.servers import Mosquitto

TABLE = {"table": [{"raw": 0.0, "physical": 0.0}, {"raw": 10.0, "physical": 5.0}]}
PROFILE = Profile(UUID(int=1), "1", "lookup_table", TABLE)


@pytest.fixture
def bench() -> Iterator[ModbusSimulator]:
    with ModbusSimulator([SimulatedRegister("holding", 0, "uint16", 7)]) as simulator:
        yield simulator


@pytest.fixture
def mosquitto(new_mosquitto: Callable[[], Mosquitto]) -> Mosquitto:
    """A broker of its own: what an agent says of itself is retained."""
    broker = new_mosquitto()
    broker.start()
    return broker


@pytest.fixture
def settings(tmp_path: Path, bench: ModbusSimulator, mosquitto: Mosquitto) -> Settings:
    path = tmp_path / "agent.toml"
    path.write_text(
        f"""
        [agent]
        data_dir = '{tmp_path / "data"}'
        shutdown_s = 20
        [hub]
        retry_s_max = 0.5
        [devices.bench]
        driver = "modbus-tcp"
        host = "127.0.0.1"
        port = {bench.port}
        interval_s = 0.05
        flush_interval_s = 0.1
        points.level = {{ register = "holding:0" }}
        """
    )
    settings = load_settings(path)
    agent_id = load_agent_id(settings.data_dir)
    # The hub's own user may use every topic; what an agent may is tested where the hub provisions it.
    access = MqttAccess(mosquitto.host, mosquitto.port, mosquitto.username, mosquitto.password)
    credentials.store(settings.data_dir, Credentials(agent_id, UUID(int=8), "bench-pc", access))
    return settings


class Site:
    """An agent, a broker and a hub, running."""

    def __init__(self, settings: Settings, mosquitto: Mosquitto) -> None:
        self.settings = settings
        self.agent_id = load_agent_id(settings.data_dir)
        self.fake = FakeHub()
        self.hub = BrokerHub(self.fake, mosquitto.host, mosquitto.port, mosquitto.username, mosquitto.password)

    async def run(self, check: Callable[[Site], Awaitable[None]]) -> None:
        """Run all three until `check` is done; then stop the agent, as a signal would."""
        stop = asyncio.Event()
        async with asyncio.timeout(40):
            async with asyncio.TaskGroup() as group:
                hub = group.create_task(self.hub.run(), name="hub")
                agent = group.create_task(run(self.settings, stop=stop), name="agent")
                try:
                    await check(self)
                finally:
                    stop.set()
                    await agent
                    hub.cancel()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(15):
            while not condition():
                await asyncio.sleep(0.05)

    async def configure(self, config: Config) -> None:
        await self.hub.send(topics.down(self.agent_id, "config"), encode(config), retain=True)

    def stored(self) -> list[DecodedColumns]:
        contents = [batch.content for batch in self.fake.ledger.values()]
        return [content for content in contents if isinstance(content, DecodedColumns) and len(content.columns)]

    def live_physical(self) -> set[float | None]:
        return {value.physical for payload in self.hub.live for value in decode(payload, Live).values}


@pytest.fixture
def site(settings: Settings, mosquitto: Mosquitto) -> Site:
    return Site(settings, mosquitto)


async def test_a_profile_that_the_hub_publishes_converts_from_the_next_samples_on(site: Site) -> None:
    async def check(site: Site) -> None:
        await site.until(lambda: bool(site.hub.live))
        assert site.live_physical() == {None}
        await site.configure(Config(4, 4, [Binding("bench.level", profiles=[PROFILE])]))
        await site.until(lambda: 3.5 in site.live_physical())
        await site.until(lambda: any(state.generation == 4 for state in site.hub.states))

    await site.run(check)
    statuses = {status for each in site.stored() for status in each.columns.status.tolist()}
    assert statuses == {Status.RAW_ONLY, Status.CONVERTED}
    assert {batch.header.generation for batch in site.fake.ledger.values()} >= {0, 4}


async def test_a_stop_delivers_what_was_taken_and_says_goodbye(site: Site) -> None:
    async def check(site: Site) -> None:
        await site.until(lambda: sum(len(each.columns) for each in site.stored()) > 20)

    await site.run(check)
    status = StatusFiles(site.settings.data_dir).read()
    assert status is not None
    taken = status.state.devices[0].readings
    assert sum(len(each.columns) for each in site.stored()) == taken
    assert site.hub.states[-1].status == "offline"
    assert any(device.name == "bench" for state in site.hub.states for device in state.devices)


async def test_a_stop_goes_on_delivering_to_a_slow_hub_for_a_while(site: Site) -> None:
    site.fake.window_batches = 1
    site.fake.delay_s_max = 0.5

    async def check(site: Site) -> None:
        await site.until(lambda: len(site.fake.ledger) > 10)

    await site.run(check)
    status = StatusFiles(site.settings.data_dir).read()
    assert status is not None
    assert sum(len(each.columns) for each in site.stored()) == status.state.devices[0].readings


async def test_a_step_of_the_systems_clock_is_told_to_the_hub(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    step_ns = 0
    stepping = SimpleNamespace(
        time_ns=lambda: time.time_ns() + step_ns, monotonic_ns=time.monotonic_ns, monotonic=time.monotonic
    )
    monkeypatch.setattr(clock_module, "time", stepping)
    monkeypatch.setattr(link, "TIME_LOOK_S", 0.1)

    def measured() -> dict[int, ClockRecord]:
        records = [record for record in site.fake.records(ClockRecord) if isinstance(record, ClockRecord)]
        return {record.segment: record for record in records if record.source == "hub"}

    async def check(site: Site) -> None:
        nonlocal step_ns
        await site.until(lambda: 1 in measured())
        step_ns = 3600 * 10**9
        await site.until(lambda: 2 in measured())

    await site.run(check)
    assert measured()[1].step_us == 0
    assert abs(measured()[2].step_us - 3_600_000_000) < 5_000_000


async def test_a_bug_in_the_link_does_not_end_sampling(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = HubLink.run
    crashes = iter([True])

    async def buggy(self: HubLink) -> None:
        if next(crashes, False):
            raise ZeroDivisionError("a bug")
        await plain(self)

    monkeypatch.setattr(HubLink, "run", buggy)

    async def check(site: Site) -> None:
        await site.until(lambda: sum(len(each.columns) for each in site.stored()) > 20)

    await site.run(check)
    assert "link_crashed" in caplog.messages


async def test_every_segment_opens_with_what_the_system_says_of_its_clock(site: Site) -> None:
    def opened() -> list[ClockRecord]:
        records = [record for record in site.fake.records(ClockRecord) if isinstance(record, ClockRecord)]
        return [record for record in records if record.source != "hub"]

    async def check(site: Site) -> None:
        await site.until(lambda: bool(opened()))

    await site.run(check)
    [record] = opened()
    assert (record.segment, record.offset_us, record.step_us) == (1, 0, 0)
