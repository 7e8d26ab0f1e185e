"""The running agent: samples from the first second, stops in order, and says when something is wrong."""

from __future__ import annotations

import asyncio
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import numpy as np
import pytest

from agent.acquisition.convert import Converter
from agent.configuration import load_settings
from agent.daemon import run
from agent.hub_link import credentials
from agent.hub_link.credentials import Credentials, MqttAccess
from agent.identity import load_agent_id
from agent.settings import Settings
from agent.status import StatusFiles
from drivers.simulators.modbus import ModbusSimulator, SimulatedRegister
from shared import clock as clock_module
from shared.columns import DecodedColumns, physical_digest
from shared.errors import ConfigurationError, LabrelayError, SpoolUnavailable
from shared.messages import Binding, Config, Profile, encode
from shared.readings import Status
from shared.records import Dictionary, Gap
from shared.wire import Batch, Kind, decode

POLL_S = 0.02


@pytest.fixture
def bench() -> Iterator[ModbusSimulator]:
    with ModbusSimulator([SimulatedRegister("holding", 0, "float64", lambda t_s: 3.0 + t_s)]) as simulator:
        yield simulator


@pytest.fixture
def config(tmp_path: Path, bench: ModbusSimulator) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(
        f"""
        [agent]
        name = "bench-pc"
        data_dir = '{tmp_path / "data"}'
        shutdown_s = 0.5
        [devices.bench]
        driver = "modbus-tcp"
        host = "127.0.0.1"
        port = {bench.port}
        interval_s = {POLL_S}
        flush_interval_s = 0.1
        points.level = {{ register = "holding:0", type = "float64", unit = "m" }}
        """
    )
    return path


@pytest.fixture
def settings(config: Path) -> Settings:
    return load_settings(config)


def spooled(data_dir: Path) -> list[Batch]:
    """All batches on the disk, in order."""
    with sqlite3.connect(data_dir / "spool.db") as db:
        rows = db.execute("SELECT content FROM contents ORDER BY id").fetchall()
    db.close()
    return [decode(content) for (content,) in rows]


def readings(batches: list[Batch]) -> list[DecodedColumns]:
    return [b.content for b in batches if isinstance(b.content, DecodedColumns) and len(b.content.columns)]


async def running(settings: Settings, until: Callable[[], bool], timeout_s: float = 15.0) -> None:
    """Run an agent until something is true, then stop it."""
    stop = asyncio.Event()
    async with asyncio.timeout(timeout_s + 10):
        async with asyncio.TaskGroup() as group:
            group.create_task(run(settings, stop=stop))
            end_s = time.monotonic() + timeout_s
            while not until():
                assert time.monotonic() < end_s, "it did not come about in time"
                await asyncio.sleep(0.05)
            stop.set()


def taken(settings: Settings, at_least: int) -> Callable[[], bool]:
    """Whether so many readings have been taken, by what the agent says."""
    files = StatusFiles(settings.data_dir)

    def enough() -> bool:
        status = files.read()
        return status is not None and status.running and status.state.devices[0].readings >= at_least

    return enough


async def test_an_agent_that_was_never_enrolled_samples_converts_and_spools(settings: Settings) -> None:
    profile = Profile(UUID(int=1), "1", "linear", {"a": 2.0, "b": 1.0})
    agent_id = load_agent_id(settings.data_dir)
    stored = Config(3, 3, [Binding("bench.level", profiles=[profile])])
    (settings.data_dir / "configuration.json").write_bytes(encode(stored))

    await running(settings, taken(settings, 20))

    batches = spooled(settings.data_dir)
    assert [batch.header.seq for batch in batches] == list(range(1, len(batches) + 1))
    assert {batch.header.agent_id for batch in batches} == {agent_id}
    assert batches[0].header.kind is Kind.OPENING
    dictionaries = [batch.content for batch in batches if isinstance(batch.content, Dictionary)]
    declared = [entry for dictionary in dictionaries for entry in dictionary.series]
    assert [(entry.sensor, entry.unit) for entry in declared] == [("bench.level", "m")]
    assert [entry.profile_id for dictionary in dictionaries for entry in dictionary.profiles] == [profile.id]
    found = readings(batches)
    assert sum(len(each.columns) for each in found) >= 20
    for each in found:
        assert set(each.columns.status.tolist()) == {Status.CONVERTED}
        assert each.physical_digest == physical_digest(2.0 * each.columns.raw + 1.0)
    raw = np.concatenate([each.columns.raw for each in found])
    assert (np.diff(raw) > 0).all()
    assert {batch.header.generation for batch in batches if batch.header.kind is Kind.DATA} == {3}


async def test_the_status_says_how_the_agent_is_and_that_it_has_stopped(settings: Settings) -> None:
    await running(settings, taken(settings, 5))
    status = StatusFiles(settings.data_dir).read()
    assert status is not None
    assert not status.running
    assert status.name == "bench-pc"
    assert status.state.devices[0].status == "ok"
    assert status.lost_readings == status.waiting_readings == 0


async def test_the_next_start_has_a_new_epoch_and_records_the_time_between(settings: Settings) -> None:
    await running(settings, taken(settings, 5))
    before = spooled(settings.data_dir)
    await running(settings, taken(settings, 5))
    batches = spooled(settings.data_dir)
    assert len({batch.header.epoch for batch in batches}) == 2
    (gap,) = [batch.content for batch in batches if isinstance(batch.content, Gap)]
    assert gap.cause == "downtime"
    assert gap.from_us == before[-1].header.taken_through_us


async def test_a_second_agent_on_the_same_data_directory_is_refused(settings: Settings) -> None:
    async def start_another() -> None:
        while not taken(settings, 1)():
            await asyncio.sleep(0.05)
        with pytest.raises(SpoolUnavailable):
            await run(settings)
        refused.set()

    refused = asyncio.Event()
    other = asyncio.create_task(start_another())
    await running(settings, refused.is_set)
    await other


async def test_credentials_of_another_agent_are_refused(settings: Settings) -> None:
    load_agent_id(settings.data_dir)
    mqtt = MqttAccess("127.0.0.1", 1, "user", "password")
    credentials.store(settings.data_dir, Credentials(UUID(int=7), UUID(int=8), "other", mqtt))
    with pytest.raises(ConfigurationError, match="another agent"):
        await run(settings)


async def test_damaged_credentials_do_not_keep_an_agent_from_sampling(settings: Settings) -> None:
    load_agent_id(settings.data_dir)
    (settings.data_dir / "credentials.json").write_text("{")
    await running(settings, taken(settings, 3))
    assert readings(spooled(settings.data_dir))


async def test_a_crash_of_the_collector_ends_the_agent_with_an_error(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def crash(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Converter, "convert", crash)
    async with asyncio.timeout(20):
        with pytest.raises(LabrelayError, match="the collector has crashed"):
            await run(settings)
    assert "collector_crashed" in caplog.messages


async def test_a_step_of_the_systems_clock_opens_a_segment_in_which_sampling_goes_on(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    step_ns = 0
    stepping = SimpleNamespace(
        time_ns=lambda: time.time_ns() + step_ns, monotonic_ns=time.monotonic_ns, monotonic=time.monotonic
    )
    monkeypatch.setattr(clock_module, "time", stepping)

    def two_segments() -> bool:
        nonlocal step_ns
        if taken(settings, 10)() and step_ns == 0:
            step_ns = -3600 * 10**9
        status = StatusFiles(settings.data_dir).read()
        return (
            status is not None and bool(step_ns) and status.state.devices[0].last_reading_us < time.time() * 1e6 - 3e9
        )

    await running(settings, two_segments)
    data = [batch for batch in spooled(settings.data_dir) if batch.header.kind is Kind.DATA]
    assert {batch.header.clock_segment for batch in data} == {1, 2}
    for batch in data:
        assert isinstance(batch.content, DecodedColumns)
        stepped = batch.content.columns.timestamp_us < (time.time() - 1800) * 1e6
        assert (stepped == (batch.header.clock_segment == 2)).all()


def test_sigterm_commits_everything_and_exits_with_success(config: Path, settings: Settings) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "labrelay.cli", "agent", "run", "--config", str(config)], stderr=subprocess.PIPE
    )
    try:
        enough = taken(settings, 20)
        end_s = time.monotonic() + 30
        while not enough():
            assert process.poll() is None
            assert time.monotonic() < end_s
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0, log
    assert b"agent_stopped" in log
    status = StatusFiles(settings.data_dir).read()
    assert status is not None
    stored = sum(len(each.columns) for each in readings(spooled(settings.data_dir)))
    assert stored == status.state.devices[0].readings >= 20


async def test_systemd_is_told_of_beginning_life_and_end(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    came: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "3000000")  # a sign a second; the kernel keeps ten messages

        def heard() -> bool:
            with suppress(BlockingIOError):
                while True:
                    came.append(listener.recv(64))
            return came.count(b"WATCHDOG=1") > 1

        await running(settings, heard)
        heard()
    assert came[0] == b"READY=1"
    assert came.count(b"STOPPING=1") == 1
