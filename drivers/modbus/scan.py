"""Finds out what hangs on a bus: ports of this computer, units that answer, registers that they have.

Only reads, one request at a time, and every search is bounded; the caller shows each find as it comes and may stop.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from serial.tools import list_ports

from drivers.modbus.driver import link_of
from drivers.modbus.protocol import ModbusRefusal, Query
from drivers.modbus.registers import ADDRESS_MAX, Table
from drivers.modbus.settings import LinkSettings
from shared.clock import Clock
from shared.errors import InstrumentTimeout, InvalidAnswer

UNITS = range(1, 248)
"""The unit ids that the specification gives to devices."""

REQUESTS_MAX = 2000
"""Per search for registers."""


@dataclass(frozen=True, slots=True)
class SerialPort:
    """A serial port of this computer."""

    path: str
    description: str


@dataclass(frozen=True, slots=True)
class FoundUnit:
    """A unit that answers, and how: `answered` or the exception that it raised."""

    unit: int
    answer: str


@dataclass(frozen=True, slots=True)
class FoundBlock:
    """Addresses `first` to `last` (inclusive) that can be read."""

    table: Table
    first: int
    last: int


def serial_ports() -> list[SerialPort]:
    """The serial ports that the operating system knows, by path."""
    return sorted(
        (SerialPort(port.device, port.description or "") for port in list_ports.comports()), key=lambda port: port.path
    )


def scan_units(
    settings: LinkSettings, clock: Clock, *, units: Iterable[int] = UNITS, timeout_s: float = 0.3, address: int = 0
) -> Iterator[FoundUnit]:
    """Units that answer when asked for one holding register, as they are found. A refusal is an answer as well.

    Raises: InstrumentUnavailable.
    """
    link = link_of(settings, clock)
    try:
        for unit in units:
            try:
                link.exchange(Query(unit, Table.HOLDING, address, 1), timeout_s)
            except (InstrumentTimeout, InvalidAnswer):
                continue
            except ModbusRefusal as refusal:
                yield FoundUnit(unit, refusal.message)
            else:
                yield FoundUnit(unit, "answered")
    finally:
        link.close()


def scan_registers(
    settings: LinkSettings,
    clock: Clock,
    *,
    unit: int,
    table: Table = Table.HOLDING,
    first: int = 0,
    last: int = 999,
    timeout_s: float = 1.0,
) -> Iterator[FoundBlock]:
    """Readable runs of addresses from `first` to `last`, ascending; asks for large blocks and halves the refused ones.

    Stops after `REQUESTS_MAX` requests.

    Raises: InstrumentUnavailable, InstrumentTimeout, InvalidAnswer; ModbusRefusal if the unit lacks the whole table.
    """
    link = link_of(settings, clock)
    largest = 2000 if table.of_bits else 125
    last = min(last, ADDRESS_MAX)
    pending = [(start, min(start + largest - 1, last)) for start in range(first, last + 1, largest)][::-1]
    run: FoundBlock | None = None
    try:
        for _ in range(REQUESTS_MAX):
            if not pending:
                break
            low, high = pending.pop()
            try:
                link.exchange(Query(unit, table, low, high - low + 1), timeout_s)
            except ModbusRefusal as refusal:
                if not refusal.may_be_partial:
                    raise
                if low < high:
                    middle = (low + high) // 2
                    pending += [(middle + 1, high), (low, middle)]
                continue
            if run is not None and run.last + 1 == low:
                run = FoundBlock(table, run.first, high)
                continue
            if run is not None:
                yield run
            run = FoundBlock(table, low, high)
        if run is not None:
            yield run
    finally:
        link.close()
