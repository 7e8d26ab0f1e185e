"""The simulated Modbus instruments."""

from __future__ import annotations

import time

import numpy as np
import pytest
from pymodbus.client import ModbusSerialClient, ModbusTcpClient
from pymodbus.framer import FramerType

from drivers.modbus.driver import MODBUS_RTU, MODBUS_TCP
from drivers.simulators.modbus import Fault, ModbusSimulator, Replay, SimulatedRegister
from shared.clock import AnchoredClock
from shared.errors import InstrumentUnavailable, RequestRefused

ROWS = np.random.default_rng(5).normal(size=(7, 3)) * 1e-3


def replayed(replay, transport="tcp"):
    """A device with a point for each column of ROWS and one for the index, on a simulator that replays."""
    simulator = ModbusSimulator(replays=[replay], transport=transport)
    simulator.start()
    points = {f"c{i}": {"register": f"holding:{replay.column_address(i)}", "type": "float64"} for i in range(3)}
    points["row"] = {"register": f"holding:{replay.index_address}", "type": "float64"}
    driver = MODBUS_TCP if transport == "tcp" else MODBUS_RTU
    place = {"host": "127.0.0.1", "port": simulator.port} if transport == "tcp" else {"port": simulator.path}
    device = driver.device("bench", {**place, "points": points, "timeout_s": 0.5})
    return simulator, driver.open([device], AnchoredClock()), device


@pytest.mark.parametrize("transport", ["tcp", "rtu"])
def test_a_recording_is_served_one_row_a_poll_bit_for_bit(transport):
    simulator, bus, device = replayed(Replay(ROWS, address=100), transport)
    with simulator:
        for number, row in enumerate(ROWS):
            read = bus.read(device, (0, 1, 2, 3)).samples.raw
            assert read.tobytes() == np.array([*row, number]).tobytes()
        bus.close()


def test_a_recording_that_is_over_refuses_and_says_so():
    replay = Replay(ROWS)
    simulator, bus, device = replayed(replay)
    with simulator:
        for _ in ROWS:
            assert not replay.finished.is_set()
            assert len(bus.read(device, (0, 1, 2, 3)).samples) == 4
        assert replay.finished.wait(5)
        for _ in range(2):
            exchange = bus.read(device, (0, 1, 2, 3))
            assert len(exchange.samples) == 0
            assert isinstance(exchange.errors[0], RequestRefused)
        bus.close()


def test_a_recording_may_start_again():
    simulator, bus, device = replayed(Replay(ROWS, repeat=True))
    with simulator:
        rows = [bus.read(device, (0, 1, 2, 3)).samples.raw.tolist()[-1] for _ in range(9)]
        assert rows == [0, 1, 2, 3, 4, 5, 6, 0, 1]
        bus.close()


def test_a_row_stays_until_its_index_was_read():
    replay = Replay(ROWS)
    simulator, bus, device = replayed(replay)
    with simulator:
        for _ in range(3):
            assert bus.read(device, (0, 1, 2)).samples.raw.tolist() == ROWS[0].tolist()
        bus.read(device, (3,))
        assert bus.read(device, (0, 1, 2)).samples.raw.tolist() == ROWS[1].tolist()
        bus.close()


def test_a_lost_answer_may_skip_a_row_but_never_tears_one():
    simulator, bus, device = replayed(Replay(ROWS))
    with simulator:
        simulator.set_fault(1, Fault(truncate_bytes=20, times=1))
        assert bus.read(device, (0, 1, 2, 3)).errors
        while len(samples := bus.read(device, (0, 1, 2, 3)).samples):
            assert samples.raw.tolist()[:3] == ROWS[int(samples.raw[3])].tolist()
        bus.close()


def test_waveforms_move_with_time():
    with ModbusSimulator([SimulatedRegister("input", 0, "float64", lambda t_s: t_s)]) as simulator:
        driver = MODBUS_TCP
        points = {"t": {"register": "input:0", "type": "float64"}}
        device = driver.device("x", {"host": "127.0.0.1", "port": simulator.port, "points": points})
        bus = driver.open([device], AnchoredClock())
        first = bus.read(device, (0,)).samples.raw[0]
        time.sleep(0.02)
        assert 0 <= first < bus.read(device, (0,)).samples.raw[0] < 60
        bus.close()


def test_integers_are_rounded_and_limited_to_their_type():
    def words(type_, source, **more):
        return list(SimulatedRegister("holding", 0, type_, source, **more).words(0.0))

    assert words("int16", 40_000) == [0x7FFF]
    assert words("uint16", -1) == [0]
    assert words("int16", -12.34, scale=0.1) == [0x10000 - 123]
    assert words("uint32", 0x0102_0304, word_order="little") == [0x0304, 0x0102]
    assert words("uint32", 0x0102_0304, byte_order="little") == [0x0201, 0x0403]
    assert words("uint64", 2**64 - 1) == [0xFFFF] * 4


def test_an_independent_client_reads_the_same_over_tcp():
    registers = [SimulatedRegister("holding", 4, "uint16", 99), SimulatedRegister("coil", 3, "bit", 1)]
    with ModbusSimulator(registers) as simulator, ModbusTcpClient("127.0.0.1", port=simulator.port) as client:
        assert client.read_holding_registers(4, count=1).registers == [99]
        assert client.read_coils(3, count=1).bits[0] is True
        assert client.read_holding_registers(5, count=1).exception_code == 2
        assert client.write_register(4, 1).exception_code == 1
        assert client.read_holding_registers(4, count=1, device_id=9).exception_code == 0x0B


@pytest.mark.parametrize(("transport", "framer"), [("rtu", FramerType.RTU), ("ascii", FramerType.ASCII)])
def test_an_independent_client_reads_the_same_over_a_serial_line(transport, framer):
    with ModbusSimulator([SimulatedRegister("holding", 4, "uint16", 99)], transport=transport) as simulator:
        client = ModbusSerialClient(simulator.path, framer=framer, timeout=2)
        assert client.connect()
        assert client.read_holding_registers(4, count=1).registers == [99]
        client.close()


def test_a_link_to_the_port_comes_and_goes_with_the_simulator(tmp_path):
    link = tmp_path / "ttyBench"
    simulator = ModbusSimulator([], transport="rtu", link=link)
    for _ in range(2):
        with simulator:
            assert simulator.path == str(link)
            assert link.is_symlink()
        assert not link.exists()


def test_a_port_that_is_taken_is_said():
    with ModbusSimulator([]) as first, pytest.raises(InstrumentUnavailable, match="cannot start"):
        ModbusSimulator([], port=first.port).start()


def test_stopping_twice_does_no_harm():
    simulator = ModbusSimulator([])
    simulator.start()
    simulator.stop()
    simulator.stop()
