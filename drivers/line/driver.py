"""The registered drivers `line-serial` and `line-tcp`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from drivers.api import Bus, Device
from drivers.line.device import LineDevice, SerialAddress, TcpAddress
from drivers.line.polled import PolledLineBus
from drivers.line.ports import open_port
from drivers.line.settings import SerialTable, TcpTable, line_device
from drivers.line.streaming import StreamingLineBus
from shared.clock import Clock
from shared.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class LineDriver:
    """A kind of wire that carries lines."""

    name: str
    table: type[SerialTable] | type[TcpTable]

    def device(self, name: str, table: Mapping[str, Any]) -> LineDevice:
        """See `Driver.device`."""
        return line_device(name, table, self.table)

    def open(self, devices: Sequence[Device], clock: Clock) -> Bus:
        """See `Driver.open`. Raises also: ConfigurationError where the devices of a port contradict each other."""
        lines = [device for device in devices if isinstance(device, LineDevice)]
        if not lines or len(lines) != len(devices):
            raise ConfigurationError(f"{self.name} opens line devices only, at least one")
        first = lines[0]
        for other in lines[1:]:
            _check_agreement(first, other)
        connect = partial(open_port, first.address, max(device.timeout_s for device in lines))
        if first.mode == "stream":
            return StreamingLineBus(first, clock, connect)
        return PolledLineBus(lines, clock, connect)


def _check_agreement(first: LineDevice, other: LineDevice) -> None:
    """Raises: ConfigurationError if both cannot hang on one port."""
    for field in fields(first.address):
        mine, theirs = getattr(first.address, field.name), getattr(other.address, field.name, None)
        if mine != theirs:
            raise ConfigurationError(
                f"{first.name} and {other.name} share {first.bus} but differ in {field.name}: {mine!r} and {theirs!r}",
                key=("devices", other.name, field.name),
            )
    if "stream" in (first.mode, other.mode):
        raise ConfigurationError(
            f"{first.name} and {other.name} share {first.bus}, but an instrument that streams needs a port to itself",
            key=("devices", other.name, "port"),
        )


LINE_SERIAL = LineDriver("line-serial", SerialTable)
LINE_TCP = LineDriver("line-tcp", TcpTable)

__all__ = ["LINE_SERIAL", "LINE_TCP", "LineDriver", "SerialAddress", "TcpAddress"]
