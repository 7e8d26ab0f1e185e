"""Instruments that talk unasked, over real pseudo-terminals and sockets."""

import itertools
import os
import socket
import time
import tty
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from drivers.api import ListeningBus
from drivers.line.checksum import Checksum
from drivers.line.driver import LINE_SERIAL, LINE_TCP
from drivers.simulators.line import Faults, LineInstrument, LineSimulator
from drivers.simulators.signals import Constant
from drivers.simulators.wires import PtyWire, TcpWire, Wire
from shared.clock import AnchoredClock
from shared.errors import InstrumentTimeout, InstrumentUnavailable, InvalidAnswer

CLOCK = AnchoredClock()
NMEA = Checksum(kind="xor", start=b"$", separator=b"*")
TABLE: dict[str, Any] = {
    "mode": "stream",
    "checksum": "xor",
    "checksum_start": "$",
    "checksum_separator": "*",
    "points": {"wind": {"prefix": "$WIMWV", "field": 4, "unit": "m/s"}, "air": {"prefix": "$WIXDR", "field": 3}},
}
Listen = Callable[..., AbstractContextManager[list[BaseException]]]


def weather(**changes: Any) -> LineInstrument:
    numbers = itertools.count(1)
    settings: dict[str, Any] = {
        "quantities": {"n": lambda t_s: float(next(numbers)), "air": Constant(value=21.5)},
        "stream": ["$WIMWV,214.8,R,{n:.1f},M,A", "$WIXDR,C,{air:.1f},C,0"],
        "stream_interval_s": 0.01,
        "checksum": NMEA,
    }
    return LineInstrument(**{**settings, **changes})


@pytest.fixture(params=["pty", "tcp"])
def wire(request: pytest.FixtureRequest, tmp_path: Path) -> Wire:
    return PtyWire(tmp_path / "weather") if request.param == "pty" else TcpWire()


def open_bus(wire: Wire, **changes: Any) -> ListeningBus:
    table = {**TABLE, **changes}
    if isinstance(wire, TcpWire):
        bus = LINE_TCP.open([LINE_TCP.device("weather", {"host": "127.0.0.1", "port": wire.port, **table})], CLOCK)
    else:
        bus = LINE_SERIAL.open([LINE_SERIAL.device("weather", {"port": wire.address, **table})], CLOCK)
    assert not hasattr(bus, "read")
    return bus  # type: ignore[return-value]


def test_every_line_becomes_a_reading(wire: Wire, sink: Any, listen: Listen) -> None:
    with LineSimulator(weather(stream_interval_s=0.05), wire), listen(open_bus(wire), sink) as raised:
        sink.wait(lambda: len(sink.values(0)) >= 20 and len(sink.values(1)) >= 20)
        values = sink.values(0)
    assert raised == []
    assert set(sink.values(1)) == {21.5}
    assert all(later - earlier == 2 for earlier, later in itertools.pairwise(values))
    assert sink.errors == []


def test_garbage_and_wrong_checksums_are_reported_and_no_value_is_invented(
    wire: Wire, sink: Any, listen: Listen
) -> None:
    simulator = LineSimulator(weather(), wire, Faults(garbage=0.2, wrong_checksum=0.3, seed=4))
    with simulator, listen(open_bus(wire), sink):
        sink.wait(lambda: len(sink.values(1)) >= 30 and len(sink.errors) >= 20)
    assert set(sink.values(1)) == {21.5}
    assert all(isinstance(error, InvalidAnswer) for error in sink.errors)


def test_a_port_that_vanishes_ends_listen_and_a_new_call_reopens_it(wire: Wire, sink: Any, listen: Listen) -> None:
    with LineSimulator(weather(), wire) as simulator:
        bus = open_bus(wire)
        with listen(bus, sink) as raised:
            sink.wait(lambda: len(sink.samples) >= 1)
            simulator.vanish()
            deadline = time.monotonic() + 5
            while not raised and time.monotonic() < deadline:
                time.sleep(0.01)
            assert isinstance(raised[0], InstrumentUnavailable)
            with pytest.raises(InstrumentUnavailable):
                bus.listen(sink)
            simulator.reappear()
            heard = len(sink.samples)
            with listen(bus, sink):
                sink.wait(lambda: len(sink.samples) > heard)


def test_silence_is_reported_once_a_timeout(wire: Wire, sink: Any, listen: Listen) -> None:
    simulator = LineSimulator(weather(), wire, Faults(silent=1.0))
    with simulator, listen(open_bus(wire, timeout_s=0.3), sink):
        sink.wait(lambda: len(sink.errors) >= 2)
    assert all(isinstance(error, InstrumentTimeout) for error in sink.errors)
    assert "nothing heard" in str(sink.errors[0])


def test_a_line_that_no_point_wants_is_reported_unless_it_may_be_ignored(wire: Wire, sink: Any, listen: Listen) -> None:
    points = {"wind": TABLE["points"]["wind"]}
    with LineSimulator(weather(), wire):
        with listen(open_bus(wire, points=points), sink):
            sink.wait(lambda: len(sink.errors) >= 1 and len(sink.values()) >= 3)
        assert "no point wants" in str(sink.errors[0])
        sink.errors.clear()
        heard = len(sink.values())
        with listen(open_bus(wire, points=points, ignore=r"^\$WIXDR"), sink):
            sink.wait(lambda: len(sink.values()) > heard + 5)
    assert sink.errors == []


def test_readings_that_the_spool_refuses_are_reported(wire: Wire, sink: Any, listen: Listen) -> None:
    sink.full = True
    with LineSimulator(weather(), wire), listen(open_bus(wire), sink):
        sink.wait(lambda: len(sink.errors) >= 1)
    assert "could not be spooled" in str(sink.errors[0])


class Terminal:
    """A bare pseudo-terminal, for what is written byte by byte."""

    def __init__(self) -> None:
        self.master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)

    def close(self) -> None:
        os.close(self.master)
        os.close(self._slave)


def test_half_a_line_at_the_start_is_no_reading_and_one_read_is_one_delivery(sink: Any, listen: Listen) -> None:
    terminal = Terminal()
    table = {"port": terminal.path, "mode": "stream", "points": {"x": {"field": 1}, "y": {"field": 2}}}
    bus = LINE_SERIAL.open([LINE_SERIAL.device("raw", table)], CLOCK)
    with listen(bus, sink):
        os.write(terminal.master, b"5,1\r\n7,2\r\n8,3\r\n9,4\r\n")
        sink.wait(lambda: len(sink.values()) >= 3)
    terminal.close()
    assert sink.values(0) == [7.0, 8.0, 9.0]
    assert sink.values(1) == [2.0, 3.0, 4.0]
    assert len(sink.samples) <= 2


def test_binary_garbage_without_end_is_bounded_and_the_next_line_is_read(sink: Any, listen: Listen) -> None:
    terminal = Terminal()
    table = {"port": terminal.path, "mode": "stream", "points": {"x": {"field": 1}}}
    bus = LINE_SERIAL.open([LINE_SERIAL.device("raw", table)], CLOCK)
    with listen(bus, sink):
        os.write(terminal.master, b"1\r\n")
        os.write(terminal.master, bytes(range(128, 256)) * 20)
        sink.wait(lambda: len(sink.errors) >= 1)
        os.write(terminal.master, b"\r\n\xff\xfe\r\n42\r\n")
        sink.wait(lambda: sink.values() == [42.0])
    terminal.close()
    assert "more than 1000 bytes" in str(sink.errors[0])
    assert "no ascii text" in str(sink.errors[-1])


def test_a_stream_is_started_and_stopped_by_commands(sink: Any, listen: Listen) -> None:
    terminal = Terminal()
    table = {"port": terminal.path, "mode": "stream", "start": "SIR", "stop": "SI", "points": {"x": {"field": 1}}}
    bus = LINE_SERIAL.open([LINE_SERIAL.device("raw", table)], CLOCK)
    with listen(bus, sink):
        assert os.read(terminal.master, 100) == b"SIR\r\n"
    assert os.read(terminal.master, 100) == b"SI\r\n"
    terminal.close()


def test_a_tcp_stream_is_stopped_before_the_connection_is_closed(sink: Any, listen: Listen) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        table = {"host": "127.0.0.1", "port": server.getsockname()[1], "mode": "stream", "stop": "SI"}
        bus = LINE_TCP.open([LINE_TCP.device("raw", {**table, "points": {"x": {"field": 1}}})], CLOCK)
        client, _ = server.accept()
        with client, listen(bus, sink) as raised:
            bus.close()
            assert client.makefile("rb").read() == b"SI\r\n"
    assert raised == []
