"""The demo laboratory as a process of its own, read through the drivers as an agent would."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivers import registry
from drivers.api import Device
from drivers.line.driver import LINE_TCP
from drivers.simulators.demo import DEMO_PROFILES, demo_laboratory
from drivers.simulators.laboratory import laboratory_running, run_laboratory
from drivers.simulators.laboratory_file import parse_laboratory, read_laboratory
from shared.clock import AnchoredClock
from shared.conversion import ProfileTable
from shared.errors import ConfigurationError, InstrumentUnavailable
from shared.profiles import compile_profile

PLAUSIBLE = {
    "bench.supply_pressure": (1, 8, "bar"),
    "bench.return_pressure": (0.2, 4, "bar"),
    "bench.ph_electrode": (6, 9, "pH"),
    "bench.tank_resistance": (25, 60, "°C"),
    "bench.tank_level": (1, 138, "l"),
    "bench.orifice": (20, 40, "l/min"),
    "furnace.chamber": (250, 420, "°C"),
    "weather.pyranometer": (0, 1000, "W/m²"),
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any], subprocess.Popen[str]]]:
    """A folder with a space in its name, the agent's tables, and the running laboratory."""
    folder = tmp_path_factory.mktemp("a laboratory")
    laboratory, agent = demo_laboratory(folder, free_port())
    (folder / "laboratory.toml").write_text(laboratory)
    code = "import sys; from drivers.simulators.laboratory import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder / "laboratory.toml")],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert process.stdout is not None
    ready = [process.stdout.readline().split(":")[0] for _ in range(4)]
    assert ready == ["bench", "furnace", "balance", "weather"]
    yield folder, tomllib.loads(agent)["devices"], process
    process.stdout.close()
    if process.poll() is None:
        process.kill()
        process.wait()


def read_once(driver_name: str, device: Device) -> dict[str, float]:
    bus = registry.driver(driver_name).open([device], AnchoredClock())
    try:
        exchange = bus.read(device, tuple(range(len(device.points))))  # type: ignore[union-attr]
    finally:
        bus.close()
    assert list(exchange.errors) == []
    assert not exchange.samples.reason.any()
    names = [device.points[index].sensor for index in exchange.samples.point]
    return dict(zip(names, exchange.samples.raw.tolist(), strict=True))


def test_every_polled_point_of_the_demo_can_be_read_and_every_profile_has_something_to_convert(demo: Any) -> None:
    _, tables, _ = demo
    raw: dict[str, float] = {"weather.pyranometer": 6200.0}
    for name in ("bench", "furnace", "balance"):
        table = tables[name]
        raw |= read_once(table["driver"], registry.driver(table["driver"]).device(name, table))
    assert len(raw) == 25
    assert {profile["sensor"] for profile in DEMO_PROFILES} == set(PLAUSIBLE)
    for profile in DEMO_PROFILES:
        low, high, unit = PLAUSIBLE[profile["sensor"]]
        table = ProfileTable([compile_profile(profile["kind"], profile["payload"])])
        one = np.ones(1, np.uint32)
        physical, _ = table.convert(one, np.array([raw[profile["sensor"]]]), np.zeros(1, np.uint8))
        assert low <= physical[0] <= high, profile["sensor"]
        assert profile["unit"] == unit


def test_the_weather_mast_talks_unasked(demo: Any) -> None:
    _, tables, _ = demo
    driver = registry.driver("line-serial")
    device = driver.device("weather", tables["weather"])
    bus = driver.open([device], AnchoredClock())
    heard: list[Any] = []

    class Sink:
        def deliver(self, device: Device, samples: Any) -> None:
            heard.extend(samples.point.tolist())
            if set(heard) >= set(range(6)):
                threading.Thread(target=bus.close).start()

        def failed(self, device: Device, error: Exception) -> None:
            raise error

    bus.listen(Sink())  # type: ignore[union-attr, arg-type]
    assert set(heard) == set(range(6))


def test_sigterm_ends_it_cleanly_and_takes_its_ports_away(demo: Any) -> None:
    folder, _, process = demo
    assert len(list((folder / "ports").iterdir())) == 3
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(timeout=20) == 0
    assert list((folder / "ports").iterdir()) == []


def test_a_laboratory_on_tcp_runs_until_it_is_told_to_stop(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "lab.toml").write_text(
        f'[[line]]\nname = "meter"\nport = {port}\nquantities.v = {{ kind = "constant", value = 1.5 }}\n'
        'answers = { "?" = "{v:.2f}" }\n'
    )
    stop, lines = threading.Event(), list[str]()
    thread = threading.Thread(target=run_laboratory, args=(tmp_path / "lab.toml", stop, lines.append))
    thread.start()
    deadline = time.monotonic() + 10
    while not lines and time.monotonic() < deadline:
        time.sleep(0.01)
    assert lines == [f"meter: line-tcp 127.0.0.1:{port}"]
    table = {"host": "127.0.0.1", "port": port, "prompt": "?", "points": {"v": {"field": 1}}}
    assert read_once("line-tcp", LINE_TCP.device("meter", table)) == {"meter.v": 1.5}
    stop.set()
    thread.join(timeout=10)
    assert not thread.is_alive()


def test_a_port_in_use_ends_what_had_started(tmp_path: Path) -> None:
    tables = {
        "line": [
            {"name": name, "quantities": {"v": {"kind": "constant", "value": 1}}, **where}
            for name, where in (("one", {"pty": "one"}), ("two", {"port": free_port()}))
        ]
    }
    laboratory = parse_laboratory(tables, tmp_path)
    with (
        socket.create_server(("127.0.0.1", tables["line"][1]["port"])),  # type: ignore[arg-type]
        pytest.raises(InstrumentUnavailable, match="two cannot start"),
        laboratory_running(laboratory, lambda line: None),
    ):
        raise AssertionError("it runs")
    assert not (tmp_path / "one").is_symlink()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no instruments"),
        ("[[modbsu]]", "did you mean `modbus`"),
        ("[modbus]", "list of tables"),
        ("x = ", "cannot be read"),
        ('[[modbus]]\nname = "a"\ntransport = "rtu"\nregisters = []', "no `pty`"),
        (
            '[[modbus]]\nname = "a"\nregisters = [{ table = "input", address = 0, type = "uint17", value = 1 }]',
            "uint17",
        ),
        ('[[line]]\nname = "a"\npty = "p"\nquantities = {}\nanswers = { A = "{mass}" }', "cannot be written"),
        ('[[line]]\nname = "a"\nquantities = {}', "one of `pty` and `port`"),
        ('[[push]]\nname = "a"\nport = 1\npoint = "p"\nvalue = { kind = "sin" }', "sine"),
    ],
)
def test_a_file_that_cannot_be_followed_names_itself_and_the_mistake(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "lab.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=message) as caught:
        read_laboratory(tmp_path / "lab.toml")
    assert caught.value.file == str(tmp_path / "lab.toml")
