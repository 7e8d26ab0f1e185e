"""Prompt–response instruments over real pseudo-terminals and sockets."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivers.api import Driver, PolledBus
from drivers.line.checksum import Checksum
from drivers.line.device import LineDevice
from drivers.line.driver import LINE_SERIAL, LINE_TCP
from drivers.line.polled import PolledLineBus
from drivers.simulators.line import Faults, LineInstrument, LineSimulator
from drivers.simulators.signals import Constant, Waveform
from drivers.simulators.wires import PtyWire, TcpWire, Wire
from shared.clock import AnchoredClock
from shared.errors import InstrumentTimeout, InstrumentUnavailable, InvalidAnswer, RequestRefused
from shared.readings import Reason
from tests.drivers.contract import Instrument, PolledDriverContract

CLOCK = AnchoredClock()
POINTS: dict[str, Any] = {
    "mass": {"prompt": "SI", "pattern": r"([-+]?[0-9.]+) *g", "unit": "g"},
    "stable": {"prompt": "SI", "pattern": r"^S (\d)"},
    "temperature": {"prompt": "T?", "field": 2, "separator": " "},
}
ANSWERS = {"SI": "S 1 {mass:9.3f} g", "T?": "T {temperature:.2f} C"}


def counting() -> Waveform:
    numbers = itertools.count(1)
    return lambda t_s: float(next(numbers))


def balance(**changes: Any) -> LineInstrument:
    quantities: dict[str, Waveform] = {"mass": Constant(value=12.345), "temperature": Constant(value=21.5)}
    return LineInstrument(**{"quantities": quantities, "answers": ANSWERS, **changes})


@pytest.fixture(params=["pty", "tcp"])
def wire(request: pytest.FixtureRequest, tmp_path: Path) -> Wire:
    return PtyWire(tmp_path / "balance") if request.param == "pty" else TcpWire()


Rig = Callable[..., tuple[LineSimulator, LineDevice, PolledBus]]


@pytest.fixture
def rig(wire: Wire) -> Iterator[Rig]:
    """Starts a simulator on the wire, and opens a driver's bus to it."""
    closers: list[Callable[[], None]] = []

    def start(instrument: LineInstrument, **table: Any) -> tuple[LineSimulator, LineDevice, PolledBus]:
        simulator = LineSimulator(instrument, wire)
        simulator.start()
        closers.append(simulator.stop)
        settings = {"points": POINTS, "timeout_s": 2.0, **table}
        if isinstance(wire, TcpWire):
            device = LINE_TCP.device("balance", {"host": "127.0.0.1", "port": wire.port, **settings})
            bus = LINE_TCP.open([device], CLOCK)
        else:
            device = LINE_SERIAL.device("balance", {"port": wire.address, **settings})
            bus = LINE_SERIAL.open([device], CLOCK)
        closers.append(bus.close)
        assert not hasattr(bus, "listen")
        return simulator, device, bus  # type: ignore[return-value]

    yield start
    for close in reversed(closers):
        close()


def test_points_with_one_prompt_share_one_exchange(rig: Rig) -> None:
    simulator, device, bus = rig(balance())
    before = CLOCK.now_us()
    exchange = bus.read(device, (0, 1, 2))
    assert exchange.errors == []
    assert exchange.samples.point.tolist() == [0, 1, 2]
    assert exchange.samples.raw.tolist() == [12.345, 1.0, 21.5]
    assert exchange.samples.point.dtype == np.uint32
    assert simulator.lines_sent == 2
    assert all(before <= stamp <= CLOCK.now_us() for stamp in exchange.samples.timestamp_us)


def test_a_silent_instrument_is_a_timeout_and_the_other_prompts_are_not_tried(rig: Rig) -> None:
    simulator, device, bus = rig(balance(), timeout_s=0.3)
    simulator.faults = Faults(silent=1.0)
    started = time.monotonic()
    exchange = bus.read(device, (0, 1, 2))
    assert len(exchange.samples) == 0
    assert [type(error) for error in exchange.errors] == [InstrumentTimeout]
    assert "'SI'" in str(exchange.errors[0])
    assert time.monotonic() - started < 5
    simulator.faults = Faults()
    assert bus.read(device, (0,)).samples.raw.tolist() == [12.345]


def test_a_late_answer_never_becomes_the_next_answers_value(rig: Rig) -> None:
    instrument = balance(quantities={"mass": counting(), "temperature": Constant(value=0)})
    simulator, device, bus = rig(instrument, timeout_s=0.5)
    simulator.faults = Faults(late=1.0, late_s=0.75)
    assert isinstance(bus.read(device, (0,)).errors[0], InstrumentTimeout)
    simulator.faults = Faults()
    assert bus.read(device, (0,)).samples.raw.tolist() == [2.0]
    assert bus.read(device, (0,)).samples.raw.tolist() == [3.0]


class ScriptedPort:
    """A wire on which so many bytes arrive after each prompt; what is listed first was there before it."""

    def __init__(self, *arrivals: list[bytes]) -> None:
        self._arrivals = [list(chunks) for chunks in arrivals]
        self._now: list[bytes] = self._arrivals.pop(0)

    def read(self, timeout_s: float) -> bytes:
        if self._now:
            return self._now.pop(0)
        time.sleep(max(timeout_s, 0))
        return b""

    def write(self, data: bytes, timeout_s: float) -> None:
        self._now += self._arrivals.pop(0)

    def interrupt(self) -> None: ...

    def close(self) -> None: ...


def scripted(*arrivals: list[bytes]) -> Callable[[], Any]:
    """Reads the first point of a balance on such a wire."""
    table = {"port": "scripted", "points": POINTS, "timeout_s": 0.1, "late_s": 0}
    device = LINE_SERIAL.device("balance", table)
    bus = PolledLineBus([device], CLOCK, lambda: ScriptedPort(*arrivals))
    return lambda: bus.read(device, (0,))


def test_an_answer_later_than_late_s_is_noticed_by_the_one_that_follows_it() -> None:
    read = scripted([], [], [b"S 1 1 g\r\n", b"S 1 2 g\r\n"], [b"S 1 3 g\r\n"])
    assert isinstance(read().errors[0], InstrumentTimeout)
    exchange = read()
    assert len(exchange.samples) == 0
    assert "more than one answer" in str(exchange.errors[0])
    assert read().samples.raw.tolist() == [3.0]


def test_what_was_there_before_the_prompt_is_no_answer() -> None:
    read = scripted([b"S 1 1 g\r\nS 1", b" 2 g\r\n"], [b"S 1 ", b"3 g\r", b"\n"])
    assert read().samples.raw.tolist() == [3.0]


def test_half_an_answer_is_a_timeout_that_shows_it() -> None:
    assert "only 'S 1 12' came" in str(scripted([], [b"S 1 12"])().errors[0])


def test_binary_garbage_is_an_invalid_answer_that_shows_it(rig: Rig) -> None:
    simulator, device, bus = rig(balance())
    simulator.faults = Faults(garbage=1.0)
    exchange = bus.read(device, (0, 2))
    assert [type(error) for error in exchange.errors] == [InvalidAnswer, InvalidAnswer]
    assert "\\x" in str(exchange.errors[0])
    simulator.faults = Faults()
    assert bus.read(device, (0, 2)).samples.raw.tolist() == [12.345, 21.5]


def test_an_answer_without_end_is_cut_off(rig: Rig) -> None:
    _, device, bus = rig(balance(answers={"SI": "9" * 500, "T?": "T 1 C"}), line_bytes_max=100)
    exchange = bus.read(device, (0, 2))
    assert "more than 100 bytes" in str(exchange.errors[0])
    assert exchange.samples.raw.tolist() == [1.0]


def test_a_wrong_checksum_is_no_value(rig: Rig) -> None:
    guard = Checksum(kind="crc16", separator=b";")
    simulator, device, bus = rig(
        balance(checksum=guard, prompt_checksum=True), checksum="crc16", checksum_separator=";", prompt_checksum=True
    )
    assert bus.read(device, (0,)).samples.raw.tolist() == [12.345]
    simulator.faults = Faults(wrong_checksum=1.0)
    exchange = bus.read(device, (0,))
    assert len(exchange.samples) == 0
    assert "wrong crc16 checksum" in str(exchange.errors[0])


def test_the_echo_is_checked_and_skipped(rig: Rig) -> None:
    _, device, bus = rig(balance(echo=True), echo=True)
    assert bus.read(device, (0, 2)).samples.raw.tolist() == [12.345, 21.5]


def test_an_answer_where_an_echo_should_be_is_invalid(rig: Rig) -> None:
    _, device, bus = rig(balance(answers={"SI": "S 1 1.0 g\r\nS 1 2.0 g"}), echo=True)
    assert "echoed" in str(bus.read(device, (0,)).errors[0])


def test_the_instruments_no_is_a_refusal_and_the_unexpected_is_invalid(rig: Rig) -> None:
    _, device, bus = rig(balance(answers={"SI": "ES 3.0 g", "T?": "X 4 C"}), refused="^E[SL]", expect="^[ST]")
    errors = bus.read(device, (0, 2)).errors
    assert [type(error) for error in errors] == [RequestRefused, InvalidAnswer]
    assert "not what is expected" in str(errors[1])


def test_half_an_answer_gives_its_good_half(rig: Rig) -> None:
    _, device, bus = rig(balance(answers={"SI": "S 1 overload g", "T?": "T nan C"}))
    exchange = bus.read(device, (0, 1, 2))
    assert exchange.samples.point.tolist() == [1, 2]
    assert exchange.samples.reason.tolist() == [Reason.NONE, Reason.NOT_A_NUMBER]
    assert "no mass in 'S 1 overload g'" in str(exchange.errors[0])


def test_a_port_that_vanishes_is_unavailable_and_is_reopened_when_it_returns(rig: Rig) -> None:
    simulator, device, bus = rig(balance())
    assert bus.read(device, (0,)).samples.raw.tolist() == [12.345]
    simulator.vanish()
    for _ in range(2):
        assert isinstance(bus.read(device, (0,)).errors[0], InstrumentUnavailable)
    simulator.reappear()
    assert bus.read(device, (0,)).samples.raw.tolist() == [12.345]


def test_a_bus_that_never_falls_silent_says_so() -> None:
    class TalkativePort(ScriptedPort):
        def read(self, timeout_s: float) -> bytes:
            return b"1.5 g\r\n"

    device = LINE_SERIAL.device("balance", {"port": "scripted", "points": POINTS, "timeout_s": 0.1})
    bus = PolledLineBus([device], CLOCK, lambda: TalkativePort([]))
    assert "does not fall silent: '1.5 g" in str(bus.read(device, (0,)).errors[0])


def test_close_ends_a_blocked_read(rig: Rig) -> None:
    simulator, device, bus = rig(balance(), timeout_s=60)
    simulator.faults = Faults(silent=1.0)
    errors: list[object] = []
    thread = threading.Thread(target=lambda: errors.extend(bus.read(device, (0,)).errors))
    thread.start()
    time.sleep(0.1)
    bus.close()
    thread.join(timeout=5)
    assert not thread.is_alive()
    assert isinstance(errors[0], InstrumentUnavailable)
    bus.close()
    with pytest.raises(InstrumentUnavailable):
        bus.read(device, (0,))


class TestContract(PolledDriverContract):
    @pytest.fixture(params=["line-serial", "line-tcp"])
    def driver(self, request: pytest.FixtureRequest) -> Driver:
        return LINE_SERIAL if request.param == "line-serial" else LINE_TCP

    @pytest.fixture
    def instrument(self, driver: Driver, tmp_path: Path) -> Iterator[Instrument]:
        wire: Wire = PtyWire(tmp_path / "port") if driver is LINE_SERIAL else TcpWire()
        with LineSimulator(balance(), wire) as simulator:
            where = {"port": wire.address} if driver is LINE_SERIAL else {"host": "127.0.0.1", "port": wire.port}
            yield Instrument(
                table={"driver": driver.name, **where, "timeout_s": 1.0, "points": POINTS},
                mute=lambda: setattr(simulator, "faults", Faults(silent=1.0)),
                vanish=simulator.vanish,
                come_back=simulator.reappear,
            )

    @pytest.fixture
    def values(self) -> Mapping[str, float]:
        return {"mass": 12.345, "stable": 1.0, "temperature": 21.5}


def test_a_port_that_is_not_there_says_what_to_look_for(tmp_path: Path) -> None:
    device = LINE_SERIAL.device("balance", {"port": str(tmp_path / "nothing"), "points": POINTS})
    with pytest.raises(InstrumentUnavailable, match="plugged in"):
        LINE_SERIAL.open([device], CLOCK)
    device = LINE_TCP.device("balance", {"host": "127.0.0.1", "port": 1, "points": POINTS})
    with pytest.raises(InstrumentUnavailable, match="switched on"):
        LINE_TCP.open([device], CLOCK)


def test_a_port_in_use_by_another_program_says_so(tmp_path: Path) -> None:
    with LineSimulator(balance(), PtyWire(tmp_path / "port")) as simulator:
        device = LINE_SERIAL.device("balance", {"port": simulator.address, "points": POINTS})
        bus = LINE_SERIAL.open([device], CLOCK)
        with pytest.raises(InstrumentUnavailable, match="another program"):
            LINE_SERIAL.open([device], CLOCK)
        bus.close()


def test_two_devices_share_a_port_and_take_turns(tmp_path: Path) -> None:
    instrument = balance(answers={"1R": "1 {mass:.3f}", "2R": "2 {temperature:.1f}"})
    with LineSimulator(instrument, PtyWire(tmp_path / "port")) as simulator:
        one, two = (
            LINE_SERIAL.device(
                name, {"port": simulator.address, "prompt": name, "points": {"v": {"field": 2, "separator": " "}}}
            )
            for name in ("1R", "2R")
        )
        bus = LINE_SERIAL.open([one, two], CLOCK)
        assert bus.read(one, (0,)).samples.raw.tolist() == [12.345]  # type: ignore[union-attr]
        assert bus.read(two, (0,)).samples.raw.tolist() == [21.5]  # type: ignore[union-attr]
        bus.close()
