"""The whole link against a real Mosquitto."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import UUID

import aiomqtt
import pytest

from agent.hub_link import credentials as stored
from agent.hub_link.credentials import Credentials, MqttAccess
from agent.hub_link.link import HubLink
from agent.hub_link.live import LiveLane
from agent.hub_link.settings import HubSettings
from agent.spool.connection import SpoolDamaged
from agent.spool.writer import SpoolWriter
from shared import topics
from shared.clock import AnchoredClock
from shared.messages import Command, Config, Live, decode, encode
from shared.records import ClockRecord, SeriesEntry
from tests.agent.hub_link.fake_hub import BrokerHub, FakeHub
from tests.agent.spool.contents import numbers
from tests.agent.spool.readings import AGENT, batch, columns, open_spool
from tests.fixtures.proxy import FaultProxy
from tests.fixtures.servers import Mosquitto

SETTINGS = HubSettings(retry_s_min=0.05, retry_s_max=0.3, state_interval_s=0.5, connect_timeout_s=3.0, keepalive_s=5)
SERIES = [SeriesEntry(ref, f"sensor {ref}") for ref in (1, 2, 3)]


class Bench:
    """A spool, a link and a fake hub on one broker."""

    def __init__(self, folder: Path, broker: Mosquitto) -> None:
        self.folder = folder
        self.broker = broker
        self.hub = FakeHub()
        self.far = BrokerHub(self.hub, broker.host, broker.port, broker.username, broker.password)
        self.spool: SpoolWriter = open_spool(folder, clock=AnchoredClock())
        self.lane = LiveLane(SERIES)
        self.configs: list[Config] = []
        self.link = self.new_link()

    def new_link(self) -> HubLink:
        """A link of this spool."""
        return HubLink(
            data_dir=self.folder,
            settings=SETTINGS,
            writer=self.spool,
            live=self.lane,
            clock=AnchoredClock(),
            on_config=self.configs.append,
        )

    def enrol(self, password: str | None = None, port: int | None = None) -> None:
        """As enrolment would."""
        mqtt = MqttAccess(
            self.broker.host, port or self.broker.port, self.broker.username, password or self.broker.password
        )
        stored.store(self.folder, Credentials(AGENT, UUID(int=1), "bench", mqtt))

    async def until(self, condition: Callable[[], object], timeout_s: float = 30.0) -> None:
        """Wait for something to become true."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                await asyncio.sleep(0.02)


@pytest.fixture
async def bench(tmp_path: Path, new_mosquitto: Callable[[], Mosquitto]) -> AsyncIterator[Bench]:
    broker = new_mosquitto()
    broker.start()
    bench = Bench(tmp_path, broker)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(bench.far.run(), name="fake hub"),
            group.create_task(bench.link.run(), name="link"),
        ]
        try:
            yield bench
        finally:
            for task in reversed(tasks):
                task.cancel()
    with contextlib.suppress(Exception):
        bench.spool.close()


async def test_an_agent_that_is_enrolled_while_it_runs_delivers_everything_since_its_start(bench: Bench) -> None:
    bench.spool.append([batch(number * 10, 10) for number in range(30)])
    await asyncio.sleep(0.2)
    assert bench.link.status.phase == "not_enrolled"
    bench.enrol()
    await bench.until(lambda: bench.spool.state().pending_batches == 0)
    assert bench.hub.readings() == list(range(300))
    assert bench.link.status.phase == "online"


async def test_lost_late_and_doubled_acknowledgements_cost_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.hub_link.flight.TIMEOUT_S_MIN", 0.2)
    monkeypatch.setattr("agent.hub_link.flight.TIMEOUT_S_MAX", 1.0)
    bench.hub.lose_share, bench.hub.duplicate_share, bench.hub.delay_s_max = 0.3, 0.3, 0.3
    bench.enrol()
    for number in range(200):
        bench.spool.append([batch(number * 10, 10)])
        await asyncio.sleep(0.002)
    await bench.until(lambda: bench.spool.state().pending_batches == 0, 60)
    assert bench.hub.readings() == list(range(2000))


async def test_a_broker_that_is_killed_and_returns_loses_nothing_and_nothing_goes_before_its_acknowledgement(
    bench: Bench,
) -> None:
    bench.enrol()
    bench.hub.delay_s_max = 0.1
    number = 0
    for round_ in range(3):
        for _ in range(60):
            bench.spool.append([batch(number, 1)])
            number += 1
            await asyncio.sleep(0.002)
        await asyncio.to_thread(bench.broker.kill)
        for _ in range(20):
            bench.spool.append([batch(number, 1)])
            number += 1
        held = set(await asyncio.to_thread(numbers, bench.folder))
        assert held | set(bench.hub.readings()) == set(range(number)), f"round {round_}"
        await asyncio.to_thread(bench.broker.start)
    await bench.until(lambda: bench.spool.state().pending_batches == 0, 60)
    assert bench.hub.readings() == list(range(number))


async def test_the_clock_is_measured_before_the_first_batch_is_sent(bench: Bench) -> None:
    bench.spool.append([batch(0, 1)])
    bench.enrol()
    await bench.until(lambda: bench.spool.state().pending_batches == 0)
    kinds = [type(one.content) for one in bench.hub.ledger.values()]
    assert kinds[0] is ClockRecord
    [record] = bench.hub.records(ClockRecord)
    assert isinstance(record, ClockRecord)
    assert abs(record.offset_us - 5_000_000) < record.uncertainty_us + 1_000_000
    assert bench.link.state().clock_uncertainty_us >= 0


async def test_wrong_credentials_are_reported_and_new_ones_are_taken_up(bench: Bench) -> None:
    bench.enrol(password="not it")
    await bench.until(lambda: bench.link.status.phase == "refused")
    assert "enrol it again" in str(bench.link.status)
    bench.enrol()
    await bench.until(lambda: bench.link.status.phase == "online")


async def test_a_broker_that_is_away_for_long_is_one_line_in_the_log(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    bench.enrol()
    await bench.until(lambda: bench.link.status.phase == "online")
    await asyncio.to_thread(bench.broker.kill)
    await bench.until(lambda: bench.link.status.phase == "offline")
    caplog.clear()
    phases: list[str] = []
    while phases.count("connecting") < 4:
        if phases[-1:] != [bench.link.status.phase]:
            phases.append(bench.link.status.phase)
        await asyncio.sleep(0)
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("labrelay")]
    assert len(lines) <= 2, lines  # the line is lost, and then cannot be had; the first may have been told before
    await asyncio.to_thread(bench.broker.start)
    await bench.until(lambda: bench.link.status.phase == "online")
    assert sum("link_online" in line for line in (record.getMessage() for record in caplog.records)) == 1


async def test_a_lost_agent_leaves_a_will_that_names_its_instance(
    bench: Bench, fault_proxy: Callable[[str, int], Awaitable[FaultProxy]]
) -> None:
    proxy = await fault_proxy(bench.broker.host, bench.broker.port)
    bench.enrol(port=proxy.port)
    await bench.until(lambda: bench.far.states)
    assert (bench.far.states[0].status, bench.far.states[0].instance) == ("online", bench.spool.epoch.hex())
    await proxy.cut()
    await bench.until(lambda: bench.far.states[-1].status == "offline")
    assert bench.far.states[-1].instance == bench.spool.epoch.hex()


async def test_an_epoch_that_is_opened_anew_gets_a_will_of_its_own(
    bench: Bench, fault_proxy: Callable[[str, int], Awaitable[FaultProxy]]
) -> None:
    proxy = await fault_proxy(bench.broker.host, bench.broker.port)
    bench.enrol(port=proxy.port)
    await bench.until(lambda: bench.far.states)
    first = bench.spool.epoch.hex()
    bench.spool.damaged(SpoolDamaged("as reading found"))
    assert bench.spool.epoch.hex() != first
    await bench.until(lambda: bench.link.status.phase != "online")
    await bench.until(lambda: bench.link.status.phase == "online")
    await bench.until(lambda: bench.far.states[-1].instance == bench.spool.epoch.hex())
    assert {state.status for state in bench.far.states} == {"online"}, "the old instance's will was not published"
    bench.spool.append([batch(0, 5)])
    await bench.until(lambda: bench.hub.readings() == [0, 1, 2, 3, 4])
    await proxy.cut()
    await bench.until(lambda: bench.far.states[-1].status == "offline")
    assert bench.far.states[-1].instance == bench.spool.epoch.hex()


async def test_live_values_overtake_the_backlog(bench: Bench) -> None:
    bench.hub.silent = True
    bench.spool.append([batch(number * 500, 500) for number in range(300)])
    bench.enrol()
    await bench.until(lambda: bench.link.status.phase == "online")
    bench.lane.offer(columns(42, 3))
    await bench.until(lambda: bench.far.live, 5)
    [value] = decode(bench.far.live[0], Live).values
    assert (value.sensor, value.raw) == ("sensor 1", 44.0)


async def test_configuration_and_commands_arrive(bench: Bench) -> None:
    bench.enrol()
    await bench.until(lambda: bench.link.status.phase == "online")
    await bench.far.send(topics.down(AGENT, "config"), encode(Config(3, 0)), retain=True)
    await bench.far.send(topics.down(AGENT, "config"), b"{garbage", retain=False)
    await bench.far.send(topics.down(AGENT, "ack"), encode(Command("no", "ack")))
    await bench.far.send(topics.down(AGENT, "cmd"), encode(Command("1", "ping")))
    await bench.far.send(topics.down(AGENT, "cmd"), encode(Command("2", "dance")))
    await bench.until(lambda: len(bench.far.replies) == 2)
    assert [config.generation for config in bench.configs] == [3]
    first, second = (json.loads(reply) for reply in bench.far.replies)
    assert first["ok"]
    assert "unknown command" in second["error"]


async def test_a_stopping_agent_says_goodbye_itself(tmp_path: Path, new_mosquitto: Callable[[], Mosquitto]) -> None:
    broker = new_mosquitto()
    broker.start()
    bench = Bench(tmp_path, broker)
    bench.enrol()
    link = asyncio.create_task(bench.link.run(), name="link")
    await bench.until(lambda: bench.link.status.phase == "online")
    await asyncio.sleep(0.1)
    link.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await link
    bench.spool.close()
    async with aiomqtt.Client(broker.host, broker.port, username=broker.username, password=broker.password) as client:
        await client.subscribe(topics.up(AGENT, "state"))
        async with asyncio.timeout(5):
            message = await anext(aiter(client.messages))
    assert json.loads(message.payload)["status"] == "offline"  # type: ignore[arg-type]
    assert json.loads(message.payload)["instance"] == bench.spool.epoch.hex()  # type: ignore[arg-type]


async def test_a_line_that_has_died_silently_is_noticed_and_replaced(
    tmp_path: Path,
    new_mosquitto: Callable[[], Mosquitto],
    fault_proxy: Callable[[str, int], Awaitable[FaultProxy]],
) -> None:
    broker = new_mosquitto()
    broker.start()
    proxy = await fault_proxy(broker.host, broker.port)
    bench = Bench(tmp_path, broker)
    bench.enrol(port=proxy.port)
    far = asyncio.create_task(bench.far.run(), name="fake hub")
    link = asyncio.create_task(bench.link.run(), name="link")
    await bench.until(lambda: bench.link.status.phase == "online")
    proxy.half_open()
    bench.spool.append([batch(number, 1) for number in range(50)])
    await bench.until(lambda: bench.link.status.phase != "online", 20)
    proxy.forward()
    await bench.until(lambda: bench.spool.state().pending_batches == 0)
    for task in (link, far):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    bench.spool.close()
    assert bench.hub.readings() == list(range(50))


async def test_a_cloned_disk_delivers_everything_of_both_once(
    tmp_path: Path, new_mosquitto: Callable[[], Mosquitto]
) -> None:
    broker = new_mosquitto()
    broker.start()
    first = Bench(tmp_path / "first", broker)
    first.spool.append([batch(number, 1) for number in range(20)])
    first.spool.close()
    shutil.copytree(tmp_path / "first", tmp_path / "clone")
    original, clone = Bench(tmp_path / "first", broker), Bench(tmp_path / "clone", broker)
    clone.far.hub = original.hub
    original.spool.append([batch(100, 5)])
    clone.spool.append([batch(200, 5)])
    far = asyncio.create_task(original.far.run(), name="fake hub")
    links = []
    for bench in (original, clone):
        bench.enrol()
        links.append(asyncio.create_task(bench.link.run(), name="link"))
    for bench in (original, clone):
        await bench.until(lambda bench=bench: bench.spool.state().pending_batches == 0)  # type: ignore[misc]
    instances = {state.instance for state in original.far.states if state.status == "online"}
    for task in (*links, far):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert instances == {original.spool.epoch.hex(), clone.spool.epoch.hex()}, "the clone shows"
    original.spool.close()
    clone.spool.close()
    assert original.hub.readings() == [*range(20), *range(100, 105), *range(200, 205)]


@pytest.mark.parametrize("wait_s", [0.0, 0.001, 0.002, 0.004, 0.008, 0.015, 0.03])
async def test_a_stop_at_any_moment_is_a_stop(
    tmp_path: Path, new_mosquitto: Callable[[], Mosquitto], wait_s: float
) -> None:
    broker = new_mosquitto()
    broker.start()
    bench = Bench(tmp_path, broker)
    bench.enrol()
    for _ in range(5):
        link = asyncio.create_task(bench.new_link().run(), name="link")
        await asyncio.sleep(wait_s)
        link.cancel()
        done, _ = await asyncio.wait((link,), timeout=10)
        assert done, "the cancellation was lost"
    bench.spool.close()
