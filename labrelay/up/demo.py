"""The demo: a simulated laboratory, an enrolled agent that reads it, and calibration profiles.

Every step finds out whether it is done already, so that a start after a crash in the middle goes on where that one
ended, and what a person has changed since (the agent's configuration, a sensor's profile) stays.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

from drivers.simulators.demo import DEMO_PROFILES, demo_laboratory
from labrelay.up import child, ports, secret_files
from labrelay.up.child import ChildSpec
from labrelay.up.data_dir import DataDir
from labrelay.up.hub_api import HubApi
from labrelay.up.hub_server import ENVIRONMENT, Address, labrelay
from shared.errors import LabrelayError

PROJECT = "Demo laboratory"
AGENT = "demo"
_DESCRIPTION = "A simulated laboratory on this machine, read through real Modbus and serial lines."
_ENROL_TIMEOUT_S = 60.0
_SENSORS_TIMEOUT_S = 120.0
_PROFILE_VERSION = "demo-1"
_AGENT_HEAD = """\
# The agent of the demo. Your own instruments may stand beside the simulated ones; `labrelay agent check` looks it over.

[agent]
name = "demo"

"""


@dataclass(frozen=True, slots=True)
class Demo:
    """What the demo's two children are started from."""

    laboratory: ChildSpec
    agent: ChildSpec


def prepare(data: DataDir) -> Demo:
    """Write the configurations that are not there yet, and say how to start the children. Raises: OSError."""
    data.agent.mkdir(mode=0o700, exist_ok=True)
    modbus_port = _write_configurations(data)
    laboratory = ChildSpec(
        name="laboratory",
        command=labrelay("simulate", str(_laboratory_file(data))),
        run_dir=data.run,
        log_dir=data.logs,
        env=ENVIRONMENT,
        ready=lambda: ports.accepts("127.0.0.1", modbus_port),
    )
    agent = ChildSpec(
        name="agent",
        command=labrelay("agent", "run", *_agent_options(data)),
        run_dir=data.run,
        log_dir=data.logs,
        env=ENVIRONMENT,
    )
    return Demo(laboratory, agent)


async def enrol(data: DataDir, hub: HubApi, address: Address, agent_broker: str) -> str:
    """Enrol the agent unless it is, for the broker where it is now. Returns: the project's id. Raises: LabrelayError.

    Args:
        agent_broker: where the agent will find the broker; a change makes a new enrolment necessary.
    """
    project_id = await hub.project(PROJECT, _DESCRIPTION)
    done = data.agent / "enrolled.json"
    enrolled_for = {"project_id": project_id, "broker": agent_broker}
    if _read(done) != enrolled_for:
        code = await hub.enrolment_code(project_id, AGENT)
        await asyncio.to_thread(_run_enrol, data, address.local_url, code)
        secret_files.write(done, json.dumps(enrolled_for) + "\n")
    return project_id


async def publish_profiles(data: DataDir, hub: HubApi, project_id: str) -> list[str]:
    """Publish the demo's profiles once their sensors are known. Returns: sensors that did not appear in time."""
    done = data.agent / "profiles-published"
    if done.exists():
        return []
    missing = {profile["sensor"]: profile for profile in DEMO_PROFILES}
    deadline = asyncio.get_running_loop().time() + _SENSORS_TIMEOUT_S
    while missing and asyncio.get_running_loop().time() < deadline:
        known = await hub.sensors(project_id)
        for name in sorted(missing.keys() & known.keys()):
            profile = missing.pop(name)
            await hub.set_display_unit(known[name], profile["unit"])
            await hub.publish_profile(known[name], _PROFILE_VERSION, profile["kind"], profile["payload"])
        await asyncio.sleep(0.25 if missing else 0)
    if not missing:
        done.touch()
    return sorted(missing)


def _laboratory_file(data: DataDir) -> Path:
    return data.root / "laboratory.toml"


def _agent_file(data: DataDir) -> Path:
    return data.agent / "agent.toml"


def _agent_options(data: DataDir) -> tuple[str, ...]:
    return ("--config", str(_agent_file(data)), "--data-dir", str(data.agent))


def _write_configurations(data: DataDir) -> int:
    """Both files, at the first start; later only where they no longer fit and nobody has changed them.

    They do not fit when another program has taken the Modbus port, or when the data directory was moved.

    Returns: the Modbus port.
    """
    record = data.root / "demo.json"
    held = _read(record)
    if isinstance(held, dict):
        root, port = Path(held["root"]), int(held["modbus_port"])
        fits = root == data.root and ports.is_free("127.0.0.1", port)
        untouched = all(not file.exists() or file.read_text() == text for file, text in _texts(data, root, port))
        if fits or not untouched:
            _write_missing(data, data.root, port)
            return port
    port = data.free_port()
    for file, text in _texts(data, data.root, port):
        secret_files.write(file, text)
    secret_files.write(record, json.dumps({"root": str(data.root), "modbus_port": port}) + "\n")
    return port


def _write_missing(data: DataDir, root: Path, port: int) -> None:
    for file, text in _texts(data, root, port):
        if not file.exists():
            secret_files.write(file, text)


def _texts(data: DataDir, root: Path, port: int) -> list[tuple[Path, str]]:
    laboratory, devices = demo_laboratory(root, port)
    return [(_laboratory_file(data), laboratory), (_agent_file(data), _AGENT_HEAD + devices)]


def _run_enrol(data: DataDir, hub_url: str, code: str) -> None:
    spec = ChildSpec(
        name="enrol",
        command=labrelay("agent", "enrol", "--hub", hub_url, "--code", code, *_agent_options(data)),
        run_dir=data.run,
        log_dir=data.logs,
        env=ENVIRONMENT,
    )
    run = child.start(spec)
    try:
        if not run.wait(_ENROL_TIMEOUT_S):
            raise child.not_ready(spec)
    finally:
        run.stop()
    if run.exit_status != 0:
        raise LabrelayError(f"the demo's agent could not be enrolled: {child.ended(spec, run.exit_status)}")


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
