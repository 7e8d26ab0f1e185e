"""Finding units and registers."""

from __future__ import annotations

import itertools

import pytest

from drivers.modbus.driver import MODBUS_RTU, MODBUS_TCP
from drivers.modbus.registers import Table
from drivers.modbus.scan import FoundBlock, scan_registers, scan_units, serial_ports
from drivers.simulators.modbus import ModbusSimulator, SimulatedRegister
from shared.clock import AnchoredClock
from shared.errors import InstrumentTimeout, InstrumentUnavailable

REGISTERS = [
    SimulatedRegister("holding", 0, "uint16", 1, unit=3),
    SimulatedRegister("input", 0, "uint16", 1, unit=5),
    *[SimulatedRegister("holding", address, "uint16", 1, unit=7) for address in (*range(10, 20), 130, 200)],
]
ANY_POINT = {"points": {"p": {"register": "holding:0"}}}


@pytest.fixture
def tcp():
    with ModbusSimulator(REGISTERS, gaps_readable=False) as simulator:
        yield MODBUS_TCP.device("x", {"host": "127.0.0.1", "port": simulator.port, **ANY_POINT}).link


def test_units_that_answer_or_refuse_are_found(tcp):
    found = list(scan_units(tcp, AnchoredClock(), units=range(1, 10), timeout_s=1))
    assert [unit.unit for unit in found] == [3, 5, 7]
    assert [unit.answer == "answered" for unit in found] == [True, False, False]


def test_units_on_a_serial_line_are_found():
    with ModbusSimulator(REGISTERS, transport="rtu") as simulator:
        link = MODBUS_RTU.device("x", {"port": simulator.path, **ANY_POINT}).link
        found = list(scan_units(link, AnchoredClock(), units=range(1, 6), timeout_s=0.05))
    assert [unit.unit for unit in found] == [3, 5]


def test_readable_runs_of_registers_are_found(tcp):
    found = list(scan_registers(tcp, AnchoredClock(), unit=7, last=300))
    assert found == [
        FoundBlock(Table.HOLDING, 10, 19),
        FoundBlock(Table.HOLDING, 130, 130),
        FoundBlock(Table.HOLDING, 200, 200),
    ]


def test_a_search_ends_with_its_bound(tcp, monkeypatch):
    monkeypatch.setattr("drivers.modbus.scan.REQUESTS_MAX", 10)
    assert list(scan_registers(tcp, AnchoredClock(), unit=7, last=65_535)) == []


def test_a_caller_may_stop_at_the_first_find(tcp):
    assert [unit.unit for unit in itertools.islice(scan_units(tcp, AnchoredClock(), timeout_s=1), 1)] == [3]


def test_a_missing_unit_ends_the_search_for_its_registers(tcp):
    with pytest.raises(InstrumentTimeout):
        list(scan_registers(tcp, AnchoredClock(), unit=99))


def test_a_missing_bus_is_said(tcp):
    link = MODBUS_TCP.device("x", {"host": "127.0.0.1", "port": 1, **ANY_POINT}).link
    with pytest.raises(InstrumentUnavailable):
        list(scan_units(link, AnchoredClock()))


def test_ports_are_listed_in_order():
    paths = [port.path for port in serial_ports()]
    assert paths == sorted(paths)
