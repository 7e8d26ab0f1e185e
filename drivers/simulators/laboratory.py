"""`labrelay simulate FILE`: a whole laboratory of instruments that do not exist, behind real sockets and serial lines.

POSIX only, where the file asks for pseudo-terminals.
"""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol

from drivers.simulators.feeder import PushFeeder
from drivers.simulators.laboratory_file import Laboratory, read_laboratory
from drivers.simulators.line import LineSimulator
from drivers.simulators.modbus import ModbusSimulator
from drivers.simulators.wires import PtyWire, TcpWire
from shared.errors import InstrumentUnavailable

Announce = Callable[[str], None]
WAIT_S = 0.5


class Running(Protocol):
    """Any simulator."""

    @property
    def address(self) -> str:
        """Where it is found."""
        ...

    def start(self) -> None:
        """Appear; returns when it can be used."""
        ...

    def stop(self) -> None:
        """Vanish."""
        ...


def run_laboratory(file: Path, stop: threading.Event, announce: Announce = print) -> None:
    """Run the laboratory in a file until `stop` is set.

    Args:
        announce: is told of each instrument, a line each, when it is ready.

    Raises: ConfigurationError for the file, InstrumentUnavailable if a port cannot be had; nothing runs then.
    """
    with laboratory_running(read_laboratory(file), announce):
        while not stop.wait(WAIT_S):
            pass


@contextmanager
def laboratory_running(laboratory: Laboratory, announce: Announce) -> Iterator[None]:
    """Around a laboratory's life. Raises: InstrumentUnavailable."""
    with ExitStack() as stack:
        for kind, name, simulator in _simulators(laboratory):
            try:
                simulator.start()
            except OSError as error:
                raise InstrumentUnavailable(f"{name} cannot start on {simulator.address}: {error}") from error
            stack.callback(simulator.stop)
            announce(f"{name}: {kind} {simulator.address}")
        yield


def _simulators(laboratory: Laboratory) -> Iterator[tuple[str, str, Running]]:
    for server in laboratory.modbus:
        table = server.settings
        _make_folder(server.link)
        yield (
            f"modbus-{table.transport}",
            table.name,
            ModbusSimulator(
                server.registers, transport=table.transport, host=table.host, port=table.port, link=server.link
            ),
        )
    for station in laboratory.line:
        _make_folder(station.link)
        wire = PtyWire(station.link) if station.link else TcpWire(station.settings.host, station.settings.port or 0)
        kind = "line-serial" if station.link else "line-tcp"
        yield kind, station.settings.name, LineSimulator(station.instrument, wire, station.faults)
    for name, feed in laboratory.push:
        yield "pushes to", name, PushFeeder(feed)


def _make_folder(link: Path | None) -> None:
    if link is not None:
        link.parent.mkdir(parents=True, exist_ok=True)


def main(arguments: Sequence[str]) -> int:
    """`labrelay simulate FILE`. Returns: the exit status. Raises: LabrelayError for the front door to show."""
    parser = argparse.ArgumentParser(prog="labrelay simulate", description="Run a simulated laboratory.")
    parser.add_argument("file", metavar="FILE", type=Path, help="the laboratory's TOML file")
    options = parser.parse_args(list(arguments))
    stop = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        run_laboratory(options.file, stop, lambda line: print(line, flush=True))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0
