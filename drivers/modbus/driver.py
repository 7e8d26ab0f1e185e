"""The three Modbus drivers, as registered: `modbus-tcp`, `modbus-rtu` and `modbus-ascii`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from drivers.api import Device
from drivers.modbus.bus import Link, ModbusBus
from drivers.modbus.serial_link import SerialLink
from drivers.modbus.settings import LinkSettings, ModbusDevice, serial_device, tcp_device
from drivers.modbus.tcp_link import TcpLink, TcpSettings
from shared.clock import Clock
from shared.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class ModbusDriver:
    """One of the three ways that Modbus is framed."""

    name: str
    framing: Literal["tcp", "rtu", "ascii"]

    def device(self, name: str, table: Mapping[str, Any]) -> ModbusDevice:
        """A device from its `[devices.<name>]` table; see `drivers.api.Driver`."""
        if self.framing == "tcp":
            return tcp_device(name, table)
        return serial_device(name, table, self.framing)

    def open(self, devices: Sequence[Device], clock: Clock) -> ModbusBus:
        """Connect to what these devices share.

        Raises: InstrumentUnavailable; ConfigurationError if they want the port set in different ways.
        """
        link = link_of(shared_settings(devices), clock)
        link.connect(max(device.timeout_s for device in devices))
        return ModbusBus(link)


def shared_settings(devices: Sequence[Device]) -> LinkSettings:
    """The connection that all of `devices` want. Raises: ConfigurationError if they do not agree."""
    first, *others = devices
    if not isinstance(first, ModbusDevice):
        raise ConfigurationError(f"device {first.name} does not speak Modbus", key=("devices", first.name))
    for other in others:
        if not isinstance(other, ModbusDevice) or other.link != first.link:
            raise ConfigurationError(
                f"devices {first.name} and {other.name} share {first.bus} but set it differently",
                key=("devices", other.name),
                hint="framing, baudrate, parity, stopbits, bytesize and pause_s must be the same on one port",
            )
    return first.link


def link_of(settings: LinkSettings, clock: Clock) -> Link:
    """The connection, not yet made."""
    return TcpLink(settings, clock) if isinstance(settings, TcpSettings) else SerialLink(settings, clock)


MODBUS_TCP = ModbusDriver("modbus-tcp", "tcp")
MODBUS_RTU = ModbusDriver("modbus-rtu", "rtu")
MODBUS_ASCII = ModbusDriver("modbus-ascii", "ascii")
