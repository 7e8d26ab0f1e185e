"""`labrelay agent …` as an operator sees it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import cli
from agent.configuration import load_settings
from agent.daemon import run
from agent.status import StatusFiles
from drivers.simulators.modbus import Fault, ModbusSimulator, SimulatedRegister
from shared.errors import ConfigurationError, EnrolmentError, InstrumentUnavailable, LabrelayError


@pytest.fixture
def bench() -> Iterator[ModbusSimulator]:
    registers = [
        SimulatedRegister("holding", 0, "float32", 2.5),
        SimulatedRegister("holding", 2, "uint16", 7),
        SimulatedRegister("holding", 10, "string", "SN-42"),
    ]
    with ModbusSimulator(registers, gaps_readable=False) as simulator:
        yield simulator


@pytest.fixture
def config(tmp_path: Path, bench: ModbusSimulator) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(
        f"""
[agent]
data_dir = '{tmp_path / "data"}'
[devices.bench]
driver = "modbus-tcp"
host = "127.0.0.1"
port = {bench.port}
timeout_s = 0.3
interval_s = 0.1
gap_fill = 0
points.flow = {{ register = "holding:0", type = "float32", unit = "L/min" }}
points.count = {{ register = "holding:2", valid_max = 5 }}
points.serial = {{ register = "holding:10", type = "string", length = 5 }}
"""
    )
    return path


def test_check_tells_what_will_be_read(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(config)]) == 0
    said = capsys.readouterr().out
    assert "bench: modbus-tcp on tcp:127.0.0.1:" in said
    assert "3 points" in said


def test_check_lists_every_mistake_with_file_line_and_hint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "agent.toml"
    path.write_text('[agent]\nnmae = 1\n[devices.a]\ndriver = "modbus-tpc"\n')
    assert cli.main(["check", str(path)]) == cli.EXIT_CONFIGURATION
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{path}:2: unknown key `nmae` in [agent] (did you mean `name`?)"
    assert said[1].startswith(f"{path}:4: no driver `modbus-tpc` is installed (did you mean `modbus-tcp`?)")
    assert said[2] == "2 mistakes"


def test_check_without_a_file_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("agent.configuration.SYSTEM_CONFIG", tmp_path / "none.toml")
    with pytest.raises(ConfigurationError, match="no configuration found"):
        cli.main(["check"])


def test_read_shows_values_texts_and_why_a_value_failed(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["read", "bench", "--config", str(config)]) == 0
    flow, count, serial = capsys.readouterr().out.splitlines()
    assert flow.endswith("2.5 L/min")
    assert count.endswith("out of range")
    assert serial.endswith("'SN-42'")


def test_read_as_json_is_for_scripts(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["read", "bench", "--json", "--config", str(config)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert next((value["point"], value["raw"], value["reason"]) for value in said["values"]) == ("flow", 2.5, "")
    assert said["values"][1]["reason"] == "out_of_range"
    assert said["texts"] == {"serial": "SN-42"}


def test_read_says_what_is_wrong_with_an_instrument_that_does_not_answer(
    config: Path, bench: ModbusSimulator, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.set_fault(1, Fault(dead=True))
    assert cli.main(["read", "bench", "--config", str(config)]) == cli.EXIT_FAILED
    assert "labrelay: bench:" in capsys.readouterr().err
    bench.stop()
    with pytest.raises(InstrumentUnavailable):
        cli.main(["read", "bench", "--config", str(config)])


def test_read_of_an_unknown_device_names_those_there_are(config: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no device `bnch` \(configured: bench\)"):
        cli.main(["read", "bnch", "--config", str(config)])


def test_scan_finds_units_and_registers(bench: ModbusSimulator, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["--tcp", f"127.0.0.1:{bench.port}"]
    assert cli.main(["scan", "units", *line, "--last", "2"]) == 0
    assert "unit   1  answered" in capsys.readouterr().out
    assert cli.main(["scan", "registers", *line, "--last", "30"]) == 0
    assert capsys.readouterr().out.splitlines() == ["holding:0 … holding:2", "holding:10 … holding:12"]
    assert cli.main(["scan", "ports"]) == 0
    with pytest.raises(ConfigurationError, match="did you mean `holding`"):
        cli.main(["scan", "registers", *line, "--table", "holdin"])
    with pytest.raises(ConfigurationError, match="is not HOST"):
        cli.main(["scan", "units", "--tcp", "host:port"])


def test_status_and_tail_without_an_agent_say_so(config: Path) -> None:
    for command in ("status", "tail"):
        with pytest.raises(LabrelayError, match="no agent has run"):
            cli.main([command, "--config", str(config)])


def test_enrol_with_something_that_is_no_code_says_so(config: Path) -> None:
    with pytest.raises(EnrolmentError, match="not an enrolment code"):
        cli.main(["enrol", "--hub", "http://127.0.0.1:1", "--code", "1234", "--config", str(config)])


def test_arguments_that_nobody_knows_are_refused() -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["run", "--colour"])
    assert caught.value.code == 2


def test_spool_has_commands_of_its_own(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["spool", "--config", str(config), "--help"])
    assert caught.value.code == 0
    assert "quarantine" in capsys.readouterr().out


async def test_status_and_tail_show_a_running_agent(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(config)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    looked = threading.Event()

    def look() -> None:
        files = StatusFiles(settings.data_dir)
        while (status := files.read()) is None or not status.running or not status.state.devices[0].readings:
            time.sleep(0.05)
        try:
            cli.main(["status", "--config", str(config)])
            cli.main(["status", "--json", "--config", str(config)])
            loop.call_later(4, stop.set)
            with pytest.raises(LabrelayError, match="has stopped"):
                cli.main(["tail", "bench.fl", "--config", str(config)])
            looked.set()
        finally:
            loop.call_soon_threadsafe(stop.set)

    async with asyncio.timeout(40):
        async with asyncio.TaskGroup() as group:
            group.create_task(run(settings, stop=stop))
            group.create_task(asyncio.to_thread(look))
    assert looked.is_set()
    said = capsys.readouterr().out
    assert "runs (pid" in said
    assert "link    not enrolled" in said
    assert '"phase"' not in said
    assert "bench.flow value  2.5 L/min" in said
    assert "bench.count value" not in said
