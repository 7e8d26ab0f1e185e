"""The agent runs on Windows: nothing of ours needs what Windows lacks."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

IMPORT_EVERYTHING = """
import builtins, importlib, pkgutil
ours = ("agent", "drivers", "shared")
lacking = {"fcntl", "pwd", "grp", "termios", "tty", "pty", "resource"}
plain = builtins.__import__

def as_on_windows(name, globals=None, *rest, **options):
    importer = (globals or {}).get("__name__", "")
    if name.partition(".")[0] in lacking and importer.partition(".")[0] in ours:
        raise ImportError(f"no {name} on Windows, wanted by {importer}")
    return plain(name, globals, *rest, **options)

builtins.__import__ = as_on_windows
count = 0
for package in ours:
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if module.name.startswith("drivers.simulators"):
            continue  # pseudo-terminals are POSIX; a lab PC has real instruments
        importlib.import_module(module.name)
        count += 1
print(count)
"""


def test_agent_and_drivers_import_without_what_windows_lacks() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_EVERYTHING], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 40


def test_the_agent_does_not_call_what_windows_lacks() -> None:
    lacking = re.compile(
        r"add_signal_handler|os\.(fork|getuid|getpgid|killpg|setsid|mkfifo|chown)\b|signal\.SIG(HUP|USR|KILL)"
    )
    for folder in ("agent", "shared"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not lacking.search(path.read_text(encoding="utf-8")), path
