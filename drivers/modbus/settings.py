"""What the configuration says about a Modbus device, checked and turned into a `ModbusDevice`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from drivers.api import Point
from drivers.modbus.plan import Limits
from drivers.modbus.registers import ADDRESS_MAX, REGISTER_BITS, WORDS, Order, Register, Table, ValueType, parse_place
from drivers.modbus.serial_link import Framing, SerialSettings, pause_default_s
from drivers.modbus.tcp_link import TcpSettings
from shared.errors import ConfigurationError
from shared.readings import DEFAULT_SIGNAL
from shared.tables import parse_table

LinkSettings = TcpSettings | SerialSettings

Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
Bit = Annotated[int, msgspec.Meta(ge=0, lt=REGISTER_BITS)]
Name = Annotated[str, msgspec.Meta(min_length=1)]

PARITIES = {"none": "N", "even": "E", "odd": "O", "N": "N", "E": "E", "O": "O"}


class PointTable(msgspec.Struct, frozen=True, kw_only=True):
    """`[devices.<device>.points.<point>]`."""

    register: str
    type: ValueType | None = None
    bit: Bit = 0
    bits: Annotated[int, msgspec.Meta(ge=1, le=REGISTER_BITS)] = 1
    length: Annotated[int, msgspec.Meta(ge=1, le=250)] = 0
    word_order: Order | None = None
    byte_order: Order | None = None
    scale: float = 1.0
    offset: float = 0.0
    valid_min: float | None = None
    valid_max: float | None = None
    unit: str = ""
    interval_s: Seconds | None = None
    sensor: Name | None = None
    signal: Name = DEFAULT_SIGNAL


class DeviceTable(msgspec.Struct, frozen=True, kw_only=True):
    """What `[devices.<device>]` says whatever the device hangs on."""

    driver: str = ""
    points: dict[str, dict[str, Any]]
    unit: Annotated[int, msgspec.Meta(ge=0, le=255)] = 1
    interval_s: Seconds = 1.0
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 1.0
    gap_fill: Annotated[int, msgspec.Meta(ge=0, le=2000)] = 8
    registers_max: Annotated[int, msgspec.Meta(ge=1, le=125)] = 125
    coils_max: Annotated[int, msgspec.Meta(ge=1, le=2000)] = 2000
    word_order: Order = "big"
    byte_order: Order = "big"


class TcpTable(DeviceTable, frozen=True, kw_only=True):
    """`driver = "modbus-tcp"`."""

    host: Name
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 502


class SerialTable(DeviceTable, frozen=True, kw_only=True):
    """`driver = "modbus-rtu"` or `"modbus-ascii"`; what is left out is as in the serial line specification."""

    port: Name
    baudrate: Annotated[int, msgspec.Meta(ge=50, le=4_000_000)] = 19_200
    parity: Literal["none", "even", "odd", "N", "E", "O"] = "even"
    stopbits: Literal[1, 2] = 1
    bytesize: Literal[7, 8] | None = None
    pause_s: Annotated[float, msgspec.Meta(ge=0, le=10)] | None = None


AnyTable = TypeVar("AnyTable", bound=DeviceTable)


@dataclass(frozen=True, slots=True)
class ModbusDevice:
    """One unit, as configured.

    Attributes:
        registers: where each point is, in the order of `points`.
        link: the connection that it hangs on.
    """

    name: str
    unit: int
    timeout_s: float
    points: tuple[Point, ...]
    registers: tuple[Register, ...]
    limits: Limits
    link: LinkSettings

    @property
    def bus(self) -> str:
        """The key by which devices share a connection."""
        return self.link.bus


def tcp_device(name: str, table: Mapping[str, Any]) -> ModbusDevice:
    """A device on Modbus TCP. Raises: ConfigurationError."""
    parsed = parse_table(table, TcpTable, key=("devices", name))
    return _device(name, parsed, TcpSettings(parsed.host, parsed.port))


def serial_device(name: str, table: Mapping[str, Any], framing: Framing) -> ModbusDevice:
    """A device on a serial port. Raises: ConfigurationError."""
    parsed = parse_table(table, SerialTable, key=("devices", name))
    bytesize = parsed.bytesize or (7 if framing == "ascii" else 8)
    if framing == "rtu" and bytesize != 8:
        key = ("devices", name, "bytesize")
        raise ConfigurationError("RTU needs bytesize 8", key=key, hint="devices with 7 bits speak modbus-ascii")
    pause_s = pause_default_s(framing, parsed.baudrate) if parsed.pause_s is None else parsed.pause_s
    link = SerialSettings(
        port=parsed.port,
        framing=framing,
        baudrate=parsed.baudrate,
        parity=PARITIES[parsed.parity],
        stopbits=parsed.stopbits,
        bytesize=bytesize,
        pause_s=pause_s,
    )
    return _device(name, parsed, link)


def _device(name: str, table: DeviceTable, link: LinkSettings) -> ModbusDevice:
    key = ("devices", name, "points")
    if not table.points:
        raise ConfigurationError(f"device {name} has no points", key=key)
    points, registers = [], []
    for point_name, point_table in table.points.items():
        point = parse_table(point_table, PointTable, key=(*key, point_name))
        registers.append(_register(point, table, (*key, point_name)))
        points.append(
            Point(
                name=point_name,
                sensor=point.sensor or f"{name}.{point_name}",
                signal=point.signal,
                unit=point.unit,
                interval_s=point.interval_s or table.interval_s,
            )
        )
    limits = Limits(table.gap_fill, table.registers_max, table.coils_max)
    return ModbusDevice(name, table.unit, table.timeout_s, tuple(points), tuple(registers), limits, link)


def _register(point: PointTable, device: DeviceTable, key: Sequence[str]) -> Register:
    """Where and how to read a point. Raises: ConfigurationError."""
    try:
        table, address = parse_place(point.register)
    except ValueError as error:
        raise ConfigurationError(str(error), key=(*key, "register")) from None
    type_: ValueType = point.type or ("bit" if table.of_bits else "uint16")
    _check_type(point, table, type_, key)
    _check_numbers(point, key)
    width = -(-point.length // 2) if type_ == "string" else WORDS[type_]
    if address + width - 1 > ADDRESS_MAX:
        raise ConfigurationError(
            f"{point.register} as {type_} ends beyond address {ADDRESS_MAX}", key=(*key, "register")
        )
    if not table.of_bits and width > device.registers_max:
        message = f"{point.register} takes {width} registers, the device allows {device.registers_max} a request"
        raise ConfigurationError(message, key=key, hint="raise registers_max; a value is never read in parts")
    return Register(
        table=table,
        address=address,
        type=type_,
        width=width,
        bit=point.bit,
        bits=point.bits,
        length=point.length,
        word_order=point.word_order or device.word_order,
        byte_order=point.byte_order or device.byte_order,
        scale=point.scale,
        offset=point.offset,
        valid_min=point.valid_min,
        valid_max=point.valid_max,
    )


def _check_type(point: PointTable, table: Table, type_: ValueType, key: Sequence[str]) -> None:
    """Refuse combinations of type, table, bit, bits and length that mean nothing."""
    if table.of_bits and (type_ != "bit" or point.bit):
        raise ConfigurationError(f"a {table.word} is one bit; leave out `type` and `bit`", key=(*key, "type"))
    if point.bits != 1 and type_ != "bits":
        raise ConfigurationError(f"`bits` goes with type `bits`, not `{type_}`", key=(*key, "bits"))
    if point.bit and type_ not in ("bit", "bits"):
        raise ConfigurationError(f"`bit` goes with type `bit` or `bits`, not `{type_}`", key=(*key, "bit"))
    if point.bit + point.bits > REGISTER_BITS:
        message = f"bits {point.bit} to {point.bit + point.bits - 1} leave the register, which ends at bit 15"
        raise ConfigurationError(message, key=(*key, "bits"))
    if (type_ == "string") != (point.length > 0):
        message = "a string needs `length`, in bytes" if type_ == "string" else "`length` goes with type `string`"
        raise ConfigurationError(message, key=(*key, "length" if point.length else "type"))


def _check_numbers(point: PointTable, key: Sequence[str]) -> None:
    for name in ("scale", "offset", "valid_min", "valid_max"):
        value = getattr(point, name)
        if value is not None and not math.isfinite(value):
            raise ConfigurationError(f"`{name}` must be a finite number", key=(*key, name))
    if point.scale == 0:
        raise ConfigurationError("`scale` must not be 0", key=(*key, "scale"))
    if point.valid_min is not None and point.valid_max is not None and point.valid_min > point.valid_max:
        raise ConfigurationError("`valid_min` is above `valid_max`", key=(*key, "valid_min"))
