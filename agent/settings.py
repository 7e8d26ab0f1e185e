"""The agent's settings: one frozen model, read once from a TOML file (`agent.configuration`).

Each `[devices.<name>]` table belongs to the driver that it names, but for the keys of `DeviceTable`, which are the
agent's.
"""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from agent.hub_link.settings import HubSettings
from agent.logging import Format, Level
from agent.spool.settings import SpoolSettings
from drivers.api import Device, Driver
from shared.errors import ConfigurationError


class AgentTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[agent]`.

    Attributes:
        name: how the agent is called at the hub; by default the computer's name.
        data_dir: identity, credentials, spool and profiles; only its user may read it. By default
            `/var/lib/labrelay/agent` for root, else `~/.local/share/labrelay/agent`, and on Windows
            `%LOCALAPPDATA%/labrelay/agent`.
        log_level: what is logged: `debug`, `info`, `warning` or `error`.
        log_format: `logfmt` for people, `json` for machines.
        queue_readings: readings that may wait in memory for the spool; when it is full, acquisition waits.
        shutdown_s: how long a stopping agent goes on trying to send what it has. What is left stays in the spool.
    """

    name: Annotated[str, Meta(min_length=1, max_length=100)] = ""
    data_dir: str = ""
    log_level: Level = "info"
    log_format: Format = "logfmt"
    queue_readings: Annotated[int, Meta(ge=1_000, le=10_000_000)] = 200_000
    shutdown_s: Annotated[float, Meta(ge=0, le=60)] = 3.0


class DeviceTable(msgspec.Struct, frozen=True, kw_only=True):
    """The agent's own keys in `[devices.<name>]`; all others are the driver's.

    Attributes:
        driver: which driver reads the device.
        enabled: `false` leaves the device out without removing its table.
        flush_interval_s: how long a reading waits for others before it is committed to disk. By default 0.2 s, and 1 s
            for a device that is polled for fewer than 100 readings a second.
    """

    driver: Annotated[str, Meta(min_length=1)]
    enabled: bool = True
    flush_interval_s: Annotated[float, Meta(ge=0.001, le=60)] | None = None


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """One device, understood by its driver. `flush_interval_s` is None where it is not set."""

    device: Device
    driver: Driver
    flush_interval_s: float | None


@dataclass(frozen=True, slots=True)
class Settings:
    """All of it. `file` is empty where there was none."""

    file: str
    agent: AgentTable
    hub: HubSettings
    spool: SpoolSettings
    devices: tuple[DeviceSettings, ...]

    @property
    def name(self) -> str:
        """How the agent is called at the hub."""
        return self.agent.name or socket.gethostname() or "agent"

    @property
    def data_dir(self) -> Path:
        """Where the agent keeps what it must not forget."""
        return Path(self.agent.data_dir).expanduser() if self.agent.data_dir else default_data_dir()

    def device(self, name: str) -> DeviceSettings:
        """The device of that name. Raises: ConfigurationError."""
        for found in self.devices:
            if found.device.name == name:
                return found
        known = ", ".join(entry.device.name for entry in self.devices) or "none"
        raise ConfigurationError(f"no device `{name}`", key=("devices",), file=self.file, hint=f"configured: {known}")


def default_data_dir() -> Path:
    """Where the agent keeps its data if nobody says otherwise."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", str(Path.home()))) / "labrelay" / "agent"
    if os.geteuid() == 0:
        return Path("/var/lib/labrelay/agent")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "labrelay" / "agent"
