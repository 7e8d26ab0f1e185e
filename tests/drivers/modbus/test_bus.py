"""Polling whole devices: what is asked, what a refusal teaches, and the contract that all drivers keep."""

from __future__ import annotations

import numpy as np
import pytest

from drivers.modbus.driver import MODBUS_ASCII, MODBUS_RTU, MODBUS_TCP
from drivers.modbus.protocol import DEVICE_BUSY, ModbusRefusal
from drivers.simulators.modbus import Fault, ModbusSimulator, SimulatedRegister
from shared.clock import AnchoredClock
from shared.errors import InstrumentUnavailable, RequestRefused
from tests.drivers.contract import Instrument, PolledDriverContract

REGISTERS = [
    SimulatedRegister("holding", 0, "float64", 3.25),
    SimulatedRegister("input", 2, "int16", -12.5, scale=0.1),
    SimulatedRegister("coil", 7, "bit", 1),
    SimulatedRegister("discrete", 0, "bit", 0),
    SimulatedRegister("holding", 10, "bits", 5, bit=4),
    SimulatedRegister("holding", 20, "string", "Probe 7"),
    SimulatedRegister("holding", 30, "int64", -(2**53), word_order="little", byte_order="little"),
]
POINTS = {
    "pressure": {"register": "holding:0", "type": "float64", "unit": "bar"},
    "temp": {"register": "input:2", "type": "int16", "scale": 0.1, "sensor": "oven", "signal": "temp"},
    "pump": {"register": "coil:7"},
    "door": {"register": "discrete:0"},
    "flags": {"register": "holding:10", "type": "bits", "bit": 4, "bits": 3},
    "total": {"register": "holding:30", "type": "int64", "word_order": "little", "byte_order": "little"},
    "serial": {"register": "holding:20", "type": "string", "length": 8},
}
VALUES = {"pressure": 3.25, "temp": -12.5, "pump": 1.0, "door": 0.0, "flags": 5.0, "total": float(-(2**53))}


class ModbusContract(PolledDriverContract):
    transport = "tcp"

    @pytest.fixture
    def driver(self):
        return {"tcp": MODBUS_TCP, "rtu": MODBUS_RTU, "ascii": MODBUS_ASCII}[self.transport]

    @pytest.fixture
    def instrument(self, driver, tmp_path):
        with ModbusSimulator(REGISTERS, transport=self.transport, link=tmp_path / "port") as simulator:
            place = {"host": "127.0.0.1", "port": simulator.port}
            if self.transport != "tcp":
                place = {"port": simulator.path}
            yield Instrument(
                table={"driver": driver.name, "timeout_s": 0.3, "points": POINTS, **place},
                mute=lambda: simulator.set_fault(1, Fault(dead=True)),
                vanish=simulator.stop,
                come_back=simulator.start,
            )

    @pytest.fixture
    def values(self):
        return VALUES

    def test_texts_come_beside_the_samples(self, bus, device):
        exchange = bus.read(device, tuple(range(len(device.points))))
        assert exchange.texts == {"serial": "Probe 7"}


class TestModbusTcp(ModbusContract):
    transport = "tcp"


class TestModbusRtu(ModbusContract):
    transport = "rtu"


class TestModbusAscii(ModbusContract):
    transport = "ascii"


def words(*addresses, unit=1):
    return [SimulatedRegister("holding", address, "uint16", address, unit=unit) for address in addresses]


def points(*addresses):
    return {f"p{address}": {"register": f"holding:{address}"} for address in addresses}


def everything(device):
    return tuple(range(len(device.points)))


def test_points_are_read_in_the_planned_number_of_requests(open_tcp):
    with ModbusSimulator(words(*range(200))) as simulator:
        bus, device = open_tcp(simulator.port, points(*range(200)))
        exchange = bus.read(device, everything(device))
        assert exchange.samples.raw.tolist() == list(range(200))
        assert simulator.requests == 2


def test_a_plan_is_made_once_for_a_tuple_of_points(open_tcp, monkeypatch):
    with ModbusSimulator(words(0, 1)) as simulator:
        bus, device = open_tcp(simulator.port, points(0, 1))
        both = everything(device)
        bus.read(device, both)
        monkeypatch.setattr("drivers.modbus.bus.plan", None)
        assert len(bus.read(device, both).samples) == 2


def test_a_gap_that_the_device_refuses_is_read_around_and_remembered(open_tcp):
    with ModbusSimulator(words(0, 1, 5, 6), gaps_readable=False) as simulator:
        bus, device = open_tcp(simulator.port, points(0, 1, 5, 6))
        every = everything(device)
        exchange = bus.read(device, every)
        assert exchange.samples.raw.tolist() == [0, 1, 5, 6]
        assert not exchange.errors
        assert simulator.requests == 3
        bus.read(device, every)
        assert simulator.requests == 5


def test_registers_that_the_device_lacks_fail_alone_and_cost_one_request_a_poll(open_tcp):
    present = [address for address in range(100) if address not in (40, 41, 42)]
    with ModbusSimulator(words(*present), gaps_readable=False) as simulator:
        bus, device = open_tcp(simulator.port, points(*range(100)))
        every = everything(device)
        first = bus.read(device, every)
        assert first.samples.raw.tolist() == present
        assert [type(error) for error in first.errors] == [ModbusRefusal]
        before = simulator.requests
        again = bus.read(device, every)
        assert again.samples.raw.tolist() == present
        assert len(again.errors) == 1
        assert "holding:40–42" in str(again.errors[0])
        assert simulator.requests - before <= 12


def test_a_device_that_refuses_everything_is_not_asked_piecemeal_for_ever(open_tcp):
    with ModbusSimulator(words(500), gaps_readable=False) as simulator:
        bus, device = open_tcp(simulator.port, points(*range(64)))
        every = everything(device)
        bus.read(device, every)
        before = simulator.requests
        exchange = bus.read(device, every)
        assert len(exchange.samples) == 0
        assert [type(error) for error in exchange.errors] == [ModbusRefusal]
        assert simulator.requests - before == 1


def test_a_refused_table_leaves_the_others_readable(open_tcp):
    with ModbusSimulator(words(0)) as simulator:
        bus, device = open_tcp(simulator.port, {"no": {"register": "input:0"}, **points(0)})
        exchange = bus.read(device, (0, 1))
        assert exchange.samples.point.tolist() == [1]
        assert isinstance(exchange.errors[0], RequestRefused)


def test_a_busy_device_teaches_nothing(open_tcp):
    with ModbusSimulator(words(0, 1, 2)) as simulator:
        bus, device = open_tcp(simulator.port, points(0, 1, 2))
        simulator.set_fault(1, Fault(exception=DEVICE_BUSY, times=1))
        every = everything(device)
        assert "busy" in str(bus.read(device, every).errors[0])
        assert bus.read(device, every).samples.raw.tolist() == [0, 1, 2]
        assert simulator.requests == 2


def test_a_search_that_is_cut_short_teaches_nothing(open_tcp):
    with ModbusSimulator(words(0, 1, 5, 6), gaps_readable=False) as simulator:
        bus, device = open_tcp(simulator.port, {**points(0, 1, 5, 6), "far": {"register": "holding:900"}})
        every = everything(device)
        refuse_then_die = iter([Fault(), Fault(dead=True)])
        simulator.set_fault(1, None)
        simulator._station.take_fault = lambda unit: next(refuse_then_die, Fault())  # type: ignore[method-assign]
        assert len(bus.read(device, every).samples) == 0
        for _ in range(2):
            exchange = bus.read(device, every)
            assert exchange.samples.raw.tolist() == [0, 1, 5, 6]
            assert "holding:900" in str(exchange.errors[0])


def test_units_of_one_bus_share_its_connection():
    with ModbusSimulator(words(0, unit=1) + words(3, unit=2)) as simulator:
        table = {"host": "127.0.0.1", "port": simulator.port}
        one = MODBUS_TCP.device("one", {**table, "unit": 1, "points": points(0)})
        two = MODBUS_TCP.device("two", {**table, "unit": 2, "points": points(3)})
        assert one.bus == two.bus
        bus = MODBUS_TCP.open([one, two], AnchoredClock())
        assert bus.read(one, (0,)).samples.raw.tolist() == [0]
        assert bus.read(two, (0,)).samples.raw.tolist() == [3]
        bus.close()


def test_a_lost_connection_is_made_again_by_the_next_read(open_tcp):
    with ModbusSimulator(words(0)) as simulator:
        bus, device = open_tcp(simulator.port, points(0))
        for _ in range(3):
            assert len(bus.read(device, (0,)).samples) == 1
            simulator.drop_connections()
        simulator.stop()
        for _ in range(2):
            with pytest.raises(InstrumentUnavailable):
                bus.read(device, (0,))
        simulator.start()
        assert len(bus.read(device, (0,)).samples) == 1


def test_each_request_has_the_time_of_its_own_exchange(open_tcp):
    with ModbusSimulator(words(0, 500)) as simulator:
        bus, device = open_tcp(simulator.port, points(0, 500), timeout_s=5)
        simulator.set_fault(1, Fault(delay_s=0.2, times=1))
        times = bus.read(device, (0, 1)).samples.timestamp_us
        assert 50_000 < np.diff(times)[0] < 2_000_000
