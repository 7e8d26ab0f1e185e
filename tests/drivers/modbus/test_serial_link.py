"""Modbus RTU on a line that misbehaves. RTU frames carry no number, so here late answers are the danger."""

from __future__ import annotations

import itertools
import struct
import threading
import time

import pytest
from pymodbus.framer import FramerRTU
from pymodbus.pdu import DecodePDU

from drivers.modbus.driver import MODBUS_ASCII, MODBUS_RTU
from drivers.simulators.modbus import Fault, ModbusSimulator, SimulatedRegister
from shared.clock import AnchoredClock
from shared.errors import InstrumentTimeout, InstrumentUnavailable, InvalidAnswer

POINTS = {"a": {"register": "holding:0"}}
RTU = FramerRTU(DecodePDU(False))


def answer(request, value, unit=None, function=None):
    pdu = struct.pack(">BBH", function or request[1], 2, value)
    return RTU.encode(pdu, request[0] if unit is None else unit, 0)


def refusal(request, code=1):
    return RTU.encode(bytes([request[1] | 0x80, code]), request[0], 0)


def error_of(bus, device):
    try:
        exchange = bus.read(device, (0,))
    except InstrumentUnavailable as error:
        return error
    return exchange.errors[0] if exchange.errors else None


def read_until_good(bus, device, tries=8):
    """The first value that comes."""
    for _ in range(tries):
        if error_of(bus, device) is None:
            return bus.read(device, (0,)).samples.raw.tolist()[0]
    raise AssertionError("the unit never came back")


class CountingUnit:
    """A unit whose register counts the requests for it, and which answers in order; `late_s` for the n-th request."""

    def __init__(self, late_s, knows=(3,)):
        self.asked = 0
        self._late_s = dict(late_s)
        self._knows = knows

    def __call__(self, request, send):
        if request[1] not in self._knows:
            send(refusal(request))
            return
        self.asked += 1
        value = self.asked
        time.sleep(self._late_s.get(value, 0))
        send(answer(request, value))


@pytest.mark.parametrize("late_s", [0.35, 0.6, 0.9])
@pytest.mark.parametrize("knows", [(3,), (3, 4)])
def test_an_answer_up_to_four_timeouts_late_is_not_taken_for_the_next_one(late_s, knows, raw_line, open_serial):
    unit = CountingUnit({2: late_s}, knows)
    bus, device = open_serial(raw_line(unit).path, POINTS, timeout_s=0.25)
    assert bus.read(device, (0,)).samples.raw.tolist() == [1]
    assert isinstance(error_of(bus, device), InstrumentTimeout)
    for _ in range(8):
        try:
            exchange = bus.read(device, (0,))
        except InstrumentUnavailable:
            continue
        if len(exchange.samples):
            # The register holds how often it was asked: the value of this very request.
            assert exchange.samples.raw.tolist() == [unit.asked]
    assert unit.asked > 3


def test_a_unit_that_knows_no_other_function_and_does_not_say_so_comes_back_as_well(raw_line, open_serial):
    def behave(request, send, turn=itertools.count(1)):  # noqa: B008
        if request[1] == 3 and next(turn) != 1:
            send(answer(request, 7))

    bus, device = open_serial(raw_line(behave).path, POINTS, timeout_s=0.1)
    assert read_until_good(bus, device) == 7


ODD_ANSWERS = {
    "another unit": lambda request: answer(request, 1, unit=9),
    "another function": lambda request: answer(request, 1, function=4),
    "a wrong checksum": lambda request: answer(request, 1)[:-1] + b"\xaa",
    "garbage": lambda request: bytes(range(40)),
    "half an answer": lambda request: answer(request, 1)[:4],
    "too many registers": lambda request: RTU.encode(struct.pack(">BBHH", 3, 4, 1, 2), request[0], 0),
}


@pytest.mark.parametrize("name", ODD_ANSWERS)
def test_an_odd_answer_is_an_error_and_a_later_poll_reads_its_own(name, raw_line, open_serial):
    turn = itertools.count(1)

    def behave(request, send):
        if request[1] != 3:
            send(refusal(request))
        else:
            send(ODD_ANSWERS[name](request) if next(turn) == 1 else answer(request, 7))

    bus, device = open_serial(raw_line(behave).path, POINTS, timeout_s=0.2)
    assert isinstance(error_of(bus, device), InvalidAnswer)
    assert bus.read(device, (0,)).samples.raw.tolist() == [7]


def test_another_units_late_answer_is_passed_over(raw_line, open_serial):
    def behave(request, send):
        send(answer(request, 99, unit=9) + answer(request, 7))

    bus, device = open_serial(raw_line(behave).path, POINTS)
    assert bus.read(device, (0,)).samples.raw.tolist() == [7]


def test_a_shorter_late_answer_does_not_swallow_the_one_behind_it(raw_line, open_serial):
    def behave(request, send):
        send(answer(request, 99, unit=9) + RTU.encode(struct.pack(">BBI", 3, 4, 70_000), 1, 0))

    bus, device = open_serial(raw_line(behave).path, {"a": {"register": "holding:0", "type": "uint32"}})
    assert bus.read(device, (0,)).samples.raw.tolist() == [70_000]


def test_bytes_that_lie_on_the_line_are_thrown_away_before_asking(raw_line, open_serial):
    line = raw_line(lambda request, send: send(answer(request, 7)))
    bus, device = open_serial(line.path, POINTS)
    line.send(answer(b"\x01\x03", 666))
    time.sleep(0.05)
    assert bus.read(device, (0,)).samples.raw.tolist() == [7]


def test_a_line_that_never_falls_silent_is_an_error_and_not_a_hang(raw_line, open_serial):
    line = raw_line(lambda request, send: None)
    bus, device = open_serial(line.path, POINTS, timeout_s=0.1)
    assert isinstance(error_of(bus, device), InstrumentTimeout)
    ending = threading.Event()

    def chatter():
        while not ending.wait(0.01):
            line.send(b"\x55\xaa\x55")

    talker = threading.Thread(target=chatter)
    talker.start()
    began_s = time.monotonic()
    error = error_of(bus, device)
    took_s = time.monotonic() - began_s
    ending.set()
    talker.join()
    assert isinstance(error, InvalidAnswer)
    assert "never falls silent" in str(error)
    assert took_s < 5


def test_a_dead_unit_costs_the_others_its_timeout_and_no_value():
    registers = [SimulatedRegister("holding", 0, "uint16", unit, unit=unit) for unit in (1, 2)]
    with ModbusSimulator(registers, transport="rtu") as simulator:
        table = {"port": simulator.path, "points": POINTS, "timeout_s": 0.2}
        one, two = (MODBUS_RTU.device(f"unit{unit}", {**table, "unit": unit}) for unit in (1, 2))
        assert one.bus == two.bus
        bus = MODBUS_RTU.open([one, two], AnchoredClock())
        simulator.set_fault(2, Fault(dead=True))
        for _ in range(3):
            assert isinstance(error_of(bus, two), InstrumentTimeout)
            assert bus.read(one, (0,)).samples.raw.tolist() == [1]
        simulator.set_fault(2, None)
        assert read_until_good(bus, two) == 2
        bus.close()


def test_ascii_reads_and_recovers_too(open_serial):
    with ModbusSimulator([SimulatedRegister("holding", 0, "uint16", 7)], transport="ascii") as simulator:
        bus, device = open_serial(simulator.path, POINTS, MODBUS_ASCII, timeout_s=0.2)
        assert bus.read(device, (0,)).samples.raw.tolist() == [7]
        simulator.set_fault(1, Fault(garbage=b":01ZZ\r\n:\xff\xfe\r\n", times=1))
        assert isinstance(error_of(bus, device), InvalidAnswer)
        assert bus.read(device, (0,)).samples.raw.tolist() == [7]


def test_a_port_that_does_not_exist_says_what_to_look_at(open_serial):
    with pytest.raises(InstrumentUnavailable, match="cannot open /dev/labrelay-none") as caught:
        open_serial("/dev/labrelay-none", POINTS)
    assert "dialout" in caught.value.hint
