"""Drivers by name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from drivers import registry
from shared.errors import ConfigurationError

THIRD_PARTY = """
class Clock:
    name = "wall-clock"
    def device(self, name, table): ...
    def open(self, devices, clock): ...
WALL_CLOCK = Clock()
HALF = object()
"""


@pytest.fixture
def third_party(tmp_path, monkeypatch):
    """An installed distribution with a good driver, a broken one, half of one, and one with a name that is taken."""
    (tmp_path / "acme_drivers.py").write_text(THIRD_PARTY)
    (tmp_path / "acme_broken.py").write_text("import a_library_that_is_not_there\n")
    info = tmp_path / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[labrelay.drivers]\nwall-clock = acme_drivers:WALL_CLOCK\nbroken = acme_broken:IT\nhalf = acme_drivers:HALF\n"
        "modbus-tcp = acme_drivers:WALL_CLOCK\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize("name", ["modbus-tcp", "modbus-rtu", "modbus-ascii", "line-serial", "line-tcp", "push"])
def test_what_ships_is_there_under_its_own_name(name):
    assert registry.driver(name).name == name
    assert registry.driver(name) is registry.driver(name)


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ConfigurationError) as caught:
        registry.driver("modbus-tpc")
    assert "modbus-tcp" in caught.value.hint


def test_a_third_partys_driver_is_found(third_party):
    assert registry.driver("wall-clock").name == "wall-clock"


def test_a_broken_driver_takes_no_other_with_it(third_party):
    with pytest.raises(ConfigurationError, match=r"broken.*acme.*a_library_that_is_not_there"):
        registry.driver("broken")
    assert {"modbus-tcp", "wall-clock", "push"} <= set(registry.drivers())
    assert not {"broken", "half"} & set(registry.drivers())


def test_what_is_no_driver_is_refused_with_what_it_lacks(third_party):
    with pytest.raises(ConfigurationError, match="lacks name, device, open"):
        registry.driver("half")


def test_a_third_party_cannot_take_a_name_of_ours(third_party):
    assert type(registry.driver("modbus-tcp")).__name__ == "ModbusDriver"


def test_asking_for_one_driver_loads_no_other():
    code = "import sys; from drivers.registry import driver; driver('modbus-tcp'); print('drivers.line' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"


WITHOUT_POSIX = """
import sys, types
for name in ("fcntl", "pwd", "grp", "pty", "tty", "termios"):
    sys.modules[name] = None
sys.modules["serial"] = types.ModuleType("serial")  # pyserial chooses its own platform's code when it is imported
from drivers.registry import driver
from drivers.simulators.modbus import ModbusSimulator, SimulatedRegister
from shared.clock import AnchoredClock
with ModbusSimulator([SimulatedRegister("holding", 0, "uint16", 7)]) as simulator:
    tcp = driver("modbus-tcp")
    points = {"p": {"register": "holding:0"}}
    device = tcp.device("x", {"host": "127.0.0.1", "port": simulator.port, "points": points})
    print(tcp.open([device], AnchoredClock()).read(device, (0,)).samples.raw)
"""


def test_modbus_needs_nothing_that_windows_lacks():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_POSIX], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.strip() == "[7.]", done.stderr
