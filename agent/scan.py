"""What is connected to this computer, and what answers on a Modbus line: `labrelay agent scan`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from drivers.modbus import scan
from drivers.modbus.driver import shared_settings
from drivers.modbus.registers import TABLES, Table
from drivers.modbus.settings import LinkSettings
from drivers.registry import driver
from shared.clock import AnchoredClock
from shared.errors import ConfigurationError
from shared.tables import nearest_hint


def add_arguments(parser: ArgumentParser) -> None:
    """The command's own options."""
    what = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    what.add_parser("ports", help="serial ports of this computer")
    units = what.add_parser("units", help="Modbus units that answer")
    _add_line(units)
    units.add_argument("--first", type=int, default=1, metavar="UNIT", help="default 1")
    units.add_argument("--last", type=int, default=247, metavar="UNIT", help="default 247")
    units.add_argument("--timeout", type=float, default=0.3, metavar="S", help="per unit, default 0.3 s")
    registers = what.add_parser("registers", help="registers of a Modbus unit that can be read")
    _add_line(registers)
    registers.add_argument("--unit", type=int, default=1)
    registers.add_argument("--table", default="holding", metavar="TABLE", help=f"one of {', '.join(TABLES)}")
    registers.add_argument("--first", type=int, default=0, metavar="ADDRESS", help="default 0")
    registers.add_argument("--last", type=int, default=999, metavar="ADDRESS", help="default 999")
    registers.add_argument("--timeout", type=float, default=1.0, metavar="S", help="per request, default 1 s")


def _add_line(parser: ArgumentParser) -> None:
    line = parser.add_mutually_exclusive_group(required=True)
    line.add_argument("--tcp", metavar="HOST[:PORT]", help="Modbus TCP, port 502 if not given")
    line.add_argument("--serial", metavar="PORT", help="Modbus RTU, e.g. /dev/ttyUSB0 or COM3")
    parser.add_argument("--ascii", action="store_true", help="Modbus ASCII instead of RTU")
    parser.add_argument("--baudrate", type=int, default=19_200)
    parser.add_argument("--parity", default="even", choices=["none", "even", "odd"])
    parser.add_argument("--stopbits", type=int, default=1, choices=[1, 2])


def run(options: Namespace) -> int:
    """Show each find as it comes. Raises: ConfigurationError, InstrumentError."""
    if options.what == "ports":
        return _ports()
    return _units(options) if options.what == "units" else _registers(options)


def _ports() -> int:
    found = scan.serial_ports()
    for port in found:
        print(f"{port.path:24} {port.description}")
    if not found:
        print("no serial ports")
    return 0


def _units(options: Namespace) -> int:
    settings = _settings(options)
    found = 0
    units = range(options.first, options.last + 1)
    for unit in scan.scan_units(settings, AnchoredClock(), units=units, timeout_s=options.timeout):
        print(f"unit {unit.unit:3}  {unit.answer}", flush=True)
        found += 1
    print(f"{found} of {len(units)} units answer on {settings.bus}")
    return 0 if found else 1


def _registers(options: Namespace) -> int:
    if options.table not in TABLES:
        raise ConfigurationError(f"there is no table `{options.table}`", hint=nearest_hint(options.table, list(TABLES)))
    table: Table = TABLES[options.table]
    found = 0
    for block in scan.scan_registers(
        _settings(options),
        AnchoredClock(),
        unit=options.unit,
        table=table,
        first=options.first,
        last=options.last,
        timeout_s=options.timeout,
    ):
        print(f"{options.table}:{block.first} … {options.table}:{block.last}", flush=True)
        found += 1
    if not found:
        print("nothing can be read there")
    return 0 if found else 1


def _settings(options: Namespace) -> LinkSettings:
    """The line as a device's table would describe it. Raises: ConfigurationError."""
    point = {"any": {"register": "holding:0"}}
    if options.tcp:
        host, _, port = options.tcp.rpartition(":") if options.tcp.count(":") == 1 else (options.tcp, "", "502")
        if not port.isdecimal():
            raise ConfigurationError(f"{options.tcp} is not HOST or HOST:PORT")
        return shared_settings(
            [driver("modbus-tcp").device("scan", {"host": host, "port": int(port), "points": point})]
        )
    table = {name: getattr(options, name) for name in ("baudrate", "parity", "stopbits")}
    name = "modbus-ascii" if options.ascii else "modbus-rtu"
    return shared_settings([driver(name).device("scan", {"port": options.serial, "points": point, **table})])
