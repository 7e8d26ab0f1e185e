"""All drivers by name: those that ship with the product, and those that other packages bring.

A third party registers an object that satisfies `drivers.api.Driver` under the entry point group `labrelay.drivers`;
the entry point's name is the word after `driver =`. A driver is imported when it is first asked for, so that an agent
that polls Modbus does not load the rest, and a package that fails to import takes no other driver with it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from drivers.api import Driver
from shared.errors import ConfigurationError
from shared.tables import nearest_hint

GROUP = "labrelay.drivers"

BUILT_IN = {
    "modbus-tcp": "drivers.modbus.driver:MODBUS_TCP",
    "modbus-rtu": "drivers.modbus.driver:MODBUS_RTU",
    "modbus-ascii": "drivers.modbus.driver:MODBUS_ASCII",
    "line-serial": "drivers.line.driver:LINE_SERIAL",
    "line-tcp": "drivers.line.driver:LINE_TCP",
    "push": "drivers.push.driver:PUSH",
}
"""Name → "module:attribute". A third party cannot take one of these names."""

_log = logging.getLogger(__name__)


def driver(name: str) -> Driver:
    """The driver of that name.

    Raises: ConfigurationError for a name that nobody registered (with the nearest known one), and for a third party's
        driver that cannot be loaded.
    """
    if name in BUILT_IN:
        return _built_in(name)
    entry = _third_party().get(name)
    if entry is None:
        hint = nearest_hint(name, list(_names()))
        raise ConfigurationError(f"no driver `{name}` is installed", key=("driver",), hint=hint)
    return _loaded(entry)


def drivers() -> Mapping[str, Driver]:
    """All drivers that can be loaded; those that cannot are logged and left out."""
    found: dict[str, Driver] = {}
    for name in _names():
        try:
            found[name] = driver(name)
        except ConfigurationError as error:
            _log.warning("driver left out", extra={"driver": name, "error": str(error)})
    return found


def _names() -> Iterator[str]:
    yield from BUILT_IN
    yield from _third_party()


@cache
def _built_in(name: str) -> Driver:
    module, attribute = BUILT_IN[name].split(":")
    found: Driver = getattr(import_module(module), attribute)
    return found


def _third_party() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in BUILT_IN}


def _loaded(entry: EntryPoint) -> Driver:
    package = entry.dist.name if entry.dist else entry.value
    try:
        loaded = entry.load()
    except Exception as error:
        raise ConfigurationError(
            f"driver `{entry.name}` of {package} cannot be loaded: {type(error).__name__}: {error}",
            key=("driver",),
            hint=f"is {package} installed with all that it needs?",
        ) from error
    missing = [member for member in ("name", "device", "open") if not hasattr(loaded, member)]
    if missing:
        raise ConfigurationError(
            f"driver `{entry.name}` of {package} lacks {', '.join(missing)}",
            key=("driver",),
            hint="an entry point names an object that satisfies drivers.api.Driver",
        )
    found: Driver = loaded
    return found
