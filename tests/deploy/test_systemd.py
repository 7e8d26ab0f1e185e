"""Units and settings for systemd: they fit the daemons, and the examples are good."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.acquisition.worker import CLOSE_S
from agent.configuration import find_config, read_settings
from agent.daemon import JOIN_S
from agent.settings import AgentTable
from hub.configuration import load_settings
from hub.settings import HubSettings
from tests.deploy.files import SYSTEMD, environment, parse, unit

UNITS = ("labrelay-agent.service", "labrelay-hub.service")
HARDENED = {
    "CapabilityBoundingSet": "",
    "DevicePolicy": "closed",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "NoNewPrivileges": "yes",
    "PrivateTmp": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHome": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectProc": "invisible",
    "ProtectSystem": "strict",
    "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "StateDirectoryMode": "0700",
    "SystemCallArchitectures": "native",
    "UMask": "0077",
}
NEWER = re.compile(r"Unknown key( name)? 'Restart(Steps|MaxDelaySec)'")
"""What systemd before 254 says of two settings."""


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_gives_its_daemon_no_more_than_it_needs(name: str) -> None:
    found = unit(name)
    assert {key: found.get(key) for key in HARDENED} == {key: [value] for key, value in HARDENED.items()}
    assert found["SystemCallFilter"][:2] == ["@system-service", "~@privileged @resources"]
    assert found["User"] == found["Group"] == [name.removesuffix(".service")]
    assert "PYTHONSAFEPATH=1" in found["Environment"][0].split()


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_starts_a_command_that_there_is(name: str) -> None:
    found = unit(name)
    command = shlex.split(found["ExecStart"][0])
    assert command[0] == "/opt/labrelay/bin/labrelay"
    parse(command)
    assert found["Type"] == ["notify"]
    assert found["RestartPreventExitStatus"] == ["2"]


def test_the_agent_writes_where_its_unit_lets_it() -> None:
    found = unit("labrelay-agent.service")
    assert shlex.split(found["ExecStart"][0])[-2:] == ["--data-dir", f"/var/lib/{found['StateDirectory'][0]}"]


def test_the_hub_writes_where_its_unit_lets_it() -> None:
    folder = Path("/var/lib") / unit("labrelay-hub.service")["StateDirectory"][0]
    settings = load_settings(SYSTEMD / "hub.toml", {})
    written = (settings.secret_key_file, settings.certificate_key_file, settings.artifacts_dir)
    assert [path and path.parent for path in written] == [folder] * 3


def test_the_agent_may_use_serial_ports_and_ask_for_the_state_of_the_clock() -> None:
    found = unit("labrelay-agent.service")
    assert found["SupplementaryGroups"] == ["dialout"]
    assert {"char-ttyS rw", "char-ttyUSB rw", "char-ttyACM rw"} <= set(found["DeviceAllow"])
    assert "PrivateDevices" not in found
    assert found["SystemCallFilter"][-1] == "adjtimex clock_adjtime"
    assert "ProtectClock" not in found


def test_there_is_time_to_stop_in_order() -> None:
    hub = int(unit("labrelay-hub.service")["TimeoutStopSec"][0])
    assert hub >= HubSettings().shutdown_grace_s + 5.0 + HubSettings().database_command_timeout_s
    agent = int(unit("labrelay-agent.service")["TimeoutStopSec"][0])
    shutdown_s = AgentTable().shutdown_s
    assert agent >= 2 * CLOSE_S + (JOIN_S + shutdown_s) + shutdown_s + JOIN_S


def test_the_users_of_the_units_are_made() -> None:
    made = re.findall(r"^u (\S+) ", (SYSTEMD / "labrelay.sysusers.conf").read_text(), re.MULTILINE)
    assert {f"{user}.service" for user in made} == set(UNITS)


@pytest.mark.parametrize("enabled", ["false", "true"])
@pytest.mark.parametrize("folder", ["systemd", "compose"])
def test_the_agents_example_is_good_with_each_of_its_devices(folder: str, enabled: str, tmp_path: Path) -> None:
    text = (SYSTEMD.parent / folder / "agent.toml").read_text()
    file = tmp_path / "agent.toml"
    file.write_text(text.replace("enabled = false", f"enabled = {enabled}"))
    settings, errors = read_settings(find_config(str(file)) or file)
    assert not errors
    assert settings is not None
    assert bool(settings.devices) == (enabled == "true")


def test_what_the_hubs_example_leaves_out_is_good_too(tmp_path: Path) -> None:
    text = (SYSTEMD / "hub.toml").read_text()
    file = tmp_path / "hub.toml"
    file.write_text(re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE))
    settings = load_settings(file, environment(SYSTEMD / "hub.env"))
    assert settings.database_password_file is not None
    assert settings.env == "production"
    assert settings.secure_cookies


@pytest.mark.parametrize("name", UNITS)
def test_systemd_understands_the_units(name: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    file = tmp_path / name
    text = (SYSTEMD / name).read_text()
    file.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    said = [line for line in (done.stdout + done.stderr).splitlines() if name in line and not NEWER.search(line)]
    assert not said
