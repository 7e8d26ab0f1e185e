"""Each extra alone is enough for its part: a lab PC never needs the hub's libraries, nor a hub pymodbus."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

IMPORT_ALL = """
import importlib, pkgutil, sys

class Blocker:
    def __init__(self, names): self.names = set(names)
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"{name} is not part of this extra", name=name)

packages, blocked = sys.argv[1].split(","), sys.argv[2].split(",")
for package in filter(None, sys.argv[3].split(",")):
    importlib.import_module(package)
for name in [name for name in sys.modules if name.partition(".")[0] in blocked]:
    del sys.modules[name]
sys.meta_path.insert(0, Blocker(blocked))
for package in packages:
    module = importlib.import_module(package)
    for found in pkgutil.walk_packages(getattr(module, "__path__", []), package + "."):
        importlib.import_module(found.name)
"""


def distributions(file: str) -> set[str]:
    """Names of the distributions in a lock file."""
    text = (ROOT / "requirements" / file).read_text()
    return {name.lower().replace("_", "-") for name in re.findall(r"^([A-Za-z0-9_.-]+)==", text, re.MULTILINE)}


def modules_outside(file: str) -> set[str]:
    """Top-level modules that are installed here but not by that lock file."""
    allowed = distributions(file) | {"labrelay", "pip", "setuptools"}
    return {
        module
        for module, owners in packages_distributions().items()
        if module.isidentifier() and not any(owner.lower().replace("_", "-") in allowed for owner in owners)
    }


def import_all(packages: str, blocked: set[str], before: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, packages, ",".join(sorted(blocked)), before],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("extra", "packages"),
    [
        ("agent.txt", "shared,drivers,agent,labrelay.cli"),
        ("hub.txt", "shared,hub,labrelay.cli"),
        ("client.txt", "labrelay.client"),
        ("up.txt", "shared,drivers,agent,hub,labrelay"),
    ],
)
def test_an_extra_alone_imports_all_of_its_part(extra: str, packages: str) -> None:
    blocked = modules_outside(extra)
    assert "pytest" in blocked
    done = import_all(packages, blocked)
    assert done.returncode == 0, done.stderr


def test_the_blocker_blocks() -> None:
    assert "fastapi" in modules_outside("agent.txt")
    assert "pymodbus" in modules_outside("hub.txt")
    assert "is not part of this extra" in import_all("hub", {"asyncpg"}).stderr


def test_the_agent_imports_without_what_windows_lacks() -> None:
    """Other people's libraries are imported beforehand: on Windows they take other paths of theirs."""
    packages = "shared,agent,drivers.api,drivers.registry,drivers.modbus,drivers.line,drivers.push,labrelay.cli"
    done = import_all(packages, {"fcntl", "pwd", "grp", "termios", "tty", "pty", "resource"}, before="serial,pymodbus")
    assert done.returncode == 0, done.stderr


def test_the_client_imports_nothing_of_ours() -> None:
    code = (
        "import sys, labrelay.client; print([m for m in sys.modules if m.split('.')[0] in ('shared', 'hub', 'agent')])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
