"""The agent's configuration: one TOML file, read once into a frozen model, with every mistake found at once.

Each `[devices.<name>]` table belongs to the driver that it names, but for the keys of `DeviceTable`, which are the
agent's. What a mistake concerns is named by file, line and the nearest known key.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from agent.acquisition.roster import check_point
from agent.hub_link.settings import HubSettings
from agent.logging import Format, Level
from agent.spool.settings import SpoolSettings
from agent.toml_lines import LineMap
from drivers import registry
from drivers.api import Device, Driver
from shared.errors import ConfigurationError
from shared.tables import check_keys, known_keys, parse_table

SYSTEM_CONFIG = Path("/etc/labrelay/agent.toml")
LOCAL_CONFIG = Path("labrelay-agent.toml")
ERRORS_MAX = 50
"""Mistakes reported of one table; who makes more will run the check again anyway."""
DEVICES_MAX = 1_000

S = TypeVar("S", bound=msgspec.Struct)
T = TypeVar("T")


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


def find_config(given: str | None) -> Path | None:
    """The configuration file: the given, else `./labrelay-agent.toml`, else `/etc/labrelay/agent.toml`, else none."""
    if given is not None:
        return Path(given)
    return next((path for path in (LOCAL_CONFIG, SYSTEM_CONFIG) if path.is_file()), None)


def load_settings(path: Path | None, *, data_dir: str | None = None) -> Settings:
    """The settings in a file, or the defaults without one.

    Args:
        data_dir: wins over the file's.

    Raises: ConfigurationError for the first mistake, saying how many more there are.
    """
    settings, errors = read_settings(path) if path is not None else parse_settings("")
    if errors:
        first, more = errors[0], len(errors) - 1
        hint = (
            f"{first.hint}; " * bool(first.hint) + f"`labrelay agent check` shows {more} more" if more else first.hint
        )
        raise ConfigurationError(first.message, key=first.key, file=first.file, line=first.line, hint=hint)
    assert settings is not None
    if data_dir is None:
        return settings
    return _with_data_dir(settings, data_dir)


def read_settings(path: Path) -> tuple[Settings | None, list[ConfigurationError]]:
    """The settings in a file, or every mistake in it."""
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        return None, [ConfigurationError(f"cannot be read: {error.strerror}", file=str(path))]
    except UnicodeDecodeError as error:
        return None, [ConfigurationError(f"is not UTF-8 text (byte {error.start})", file=str(path))]
    return parse_settings(text.replace("\r\n", "\n"), file=str(path))


def parse_settings(text: str, *, file: str = "") -> tuple[Settings | None, list[ConfigurationError]]:
    """The settings in a text, or every mistake in it, in the order of lines."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return None, [_not_toml(error, file)]
    reading = _Reading()
    settings = reading.settings(tables, file)
    lines = LineMap(text)
    errors = [
        ConfigurationError(error.message, key=error.key, file=file, line=lines.line(error.key), hint=error.hint)
        for error in reading.errors
    ]
    errors.sort(key=lambda error: error.line or 0)
    return (None, errors) if errors else (settings, [])


def _not_toml(error: tomllib.TOMLDecodeError, file: str) -> ConfigurationError:
    found = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
    plain = str(error).split(" (at ")[0]
    return ConfigurationError(
        f"not TOML: {plain}{f' (column {found.group(2)})' if found else ''}",
        file=file,
        line=int(found.group(1)) if found else None,
    )


class _Reading:
    """One pass over the tables of a file, which collects mistakes instead of stopping at the first."""

    def __init__(self) -> None:
        self.errors: list[ConfigurationError] = []

    def settings(self, tables: Mapping[str, Any], file: str) -> Settings | None:
        known = ["agent", "hub", "spool", "devices"]
        for name in tables:
            if name not in known:
                self._attempt(lambda name=name: check_keys({name: None}, known))  # type: ignore[misc]
        agent = self._table(tables, "agent", AgentTable)
        hub = self._table(tables, "hub", HubSettings)
        spool = self._table(tables, "spool", SpoolSettings)
        devices = self._devices(tables.get("devices", {}))
        if self.errors or agent is None or hub is None or spool is None:
            return None
        return Settings(file, agent, hub, spool, devices)

    def _table(self, tables: Mapping[str, Any], name: str, structure: type[S]) -> S | None:
        return self._every_mistake(
            tables.get(name, {}), (name,), lambda table: parse_table(table, structure, key=(name,))
        )

    def _devices(self, tables: object) -> tuple[DeviceSettings, ...]:
        if not isinstance(tables, Mapping) or len(tables) > DEVICES_MAX:
            wanted = "must be a table of tables" if not isinstance(tables, Mapping) else f"has more than {DEVICES_MAX}"
            self.errors.append(ConfigurationError(f"devices {wanted}", key=("devices",), hint="[devices.bench]"))
            return ()
        read = [self._device(name, table) for name, table in tables.items()]
        devices = tuple(device for device in read if device is not None)
        self._attempt(lambda: _check_buses(devices))
        self._attempt(lambda: _check_series(devices))
        return devices

    def _device(self, name: str, table: object) -> DeviceSettings | None:
        key = ("devices", name)
        own_names = known_keys(DeviceTable)
        if not isinstance(table, Mapping):
            self.errors.append(ConfigurationError(f"devices.{name} must be a table", key=key, hint=f"[devices.{name}]"))
            return None
        own_table = {field: value for field, value in table.items() if field in own_names}
        own = self._every_mistake(own_table, key, lambda some: parse_table(some, DeviceTable, key=key))
        driver = None if own is None else self._attempt(lambda: _driver(own.driver, key))
        if own is None or driver is None:
            return None
        rest = {field: value for field, value in table.items() if field == "driver" or field not in own_names}
        device = self._every_mistake(rest, key, lambda some: driver.device(name, some))
        if device is None or not own.enabled:
            return None
        return DeviceSettings(device, driver, own.flush_interval_s)

    def _attempt(self, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except ConfigurationError as error:
            self.errors.append(error)
            return None

    def _every_mistake(self, table: Any, key: tuple[str, ...], read: Callable[[Mapping[str, Any]], T]) -> T | None:
        """Read a table; while that fails, note the mistake, leave the culprit out and look for the next."""
        removed: list[tuple[str, ...]] = []
        while len(removed) < ERRORS_MAX:
            try:
                result = read(table)
            except ConfigurationError as error:
                path = error.key[len(key) :] if error.key[: len(key)] == key else ()
                follows = any(gone[: len(path)] == path for gone in removed)  # the culprit is missed now
                if not follows:
                    self.errors.append(error)
                table, found = _without(table, path)
                if not found or follows:
                    return None
                removed.append(path)
            else:
                return None if removed else result
        return None


def _without(table: Any, path: Sequence[str]) -> tuple[Any, bool]:
    """A copy of nested tables without the entry at `path`, and whether there was one."""
    if not path or not isinstance(table, Mapping) or path[0] not in table:
        return table, False
    copy = dict(table)
    if len(path) == 1:
        del copy[path[0]]
        return copy, True
    copy[path[0]], found = _without(copy[path[0]], path[1:])
    return copy, found


def _driver(name: str, key: tuple[str, ...]) -> Driver:
    try:
        return registry.driver(name)
    except ConfigurationError as error:
        raise ConfigurationError(error.message, key=(*key, "driver"), hint=error.hint) from None


def _check_buses(devices: Sequence[DeviceSettings]) -> None:
    drivers: dict[str, DeviceSettings] = {}
    for entry in devices:
        first = drivers.setdefault(entry.device.bus, entry)
        if first.driver.name != entry.driver.name:
            raise ConfigurationError(
                f"devices `{first.device.name}` and `{entry.device.name}` share {entry.device.bus}, not the driver",
                key=("devices", entry.device.name),
                hint="one port, one driver",
            )


def _check_series(devices: Sequence[DeviceSettings]) -> None:
    owners: dict[tuple[str, str], tuple[str, str]] = {}
    for entry in devices:
        for point in entry.device.points:
            check_point(entry.device, point)
            place = (entry.device.name, point.name)
            first = owners.setdefault((point.sensor.casefold(), point.signal), place)
            if first != place:
                raise ConfigurationError(
                    f"points {'.'.join(first)} and {'.'.join(place)} both feed signal `{point.signal}` of sensor"
                    f" `{point.sensor}`",
                    key=("devices", place[0], "points", place[1]),
                    hint="points that share a sensor need different signals",
                )


def _with_data_dir(settings: Settings, data_dir: str) -> Settings:
    table = msgspec.structs.replace(settings.agent, data_dir=data_dir)
    return Settings(settings.file, table, settings.hub, settings.spool, settings.devices)
