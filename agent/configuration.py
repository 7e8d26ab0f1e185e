"""Reading the configuration file: every mistake at once, each with file, line and the nearest known key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from agent.acquisition.roster import check_point
from agent.hub_link.settings import HubSettings
from agent.settings import AgentTable, DeviceSettings, DeviceTable, Settings
from agent.spool.settings import SpoolSettings
from agent.toml_lines import LineMap
from drivers import registry
from drivers.api import Driver
from shared.errors import ConfigurationError
from shared.tables import check_keys, known_keys, parse_table

SYSTEM_CONFIG = Path("/etc/labrelay/agent.toml")
LOCAL_CONFIG = Path("labrelay-agent.toml")
ERRORS_MAX = 50
"""Mistakes reported of one table; who makes more will run the check again anyway."""
DEVICES_MAX = 1_000

S = TypeVar("S", bound=msgspec.Struct)
T = TypeVar("T")


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
    return parse_settings(text, file=str(path))


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
