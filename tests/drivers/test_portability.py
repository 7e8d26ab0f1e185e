"""Drivers must load where Python lacks what POSIX has."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys, types
for name in ("fcntl", "pwd", "termios", "pty", "tty"):
    sys.modules[name] = None
serial = types.ModuleType("serial")      # pyserial itself takes another path on Windows
serial.SerialException = type("SerialException", (OSError,), {})
serial.SerialTimeoutException = type("SerialTimeoutException", (serial.SerialException,), {})
sys.modules["serial"] = serial
from drivers import registry
for name in ("line-serial", "line-tcp", "push"):
    assert registry.driver(name).name == name
assert not any(name.startswith("drivers.simulators") for name in sys.modules)
registry.driver("line-serial").device("balance", {"port": "COM3", "prompt": "?", "points": {"v": {"field": 1}}})
"""


def test_line_and_push_drivers_load_without_what_windows_lacks() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
