"""Modbus instruments that are not there: a real server on TCP, or on a pseudo-terminal that stands for a serial port.

::

    with ModbusSimulator([SimulatedRegister("holding", 0, "float64", lambda t_s: 3.2 + sin(t_s))]) as simulator:
        …  host 127.0.0.1, port simulator.port

A server has a thread of its own, answers what is asked (functions 1 to 4) in the order in which it is asked, and can be
told to fail. Pseudo-terminals exist on POSIX only; TCP works everywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pymodbus.framer import FramerAscii, FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU

from drivers.simulators.modbus_station import BUFFER_BYTES_MAX, Fault, Line, Station
from drivers.simulators.registers import Replay, SimulatedRegister, UnitImage
from shared.errors import InstrumentUnavailable

try:
    import pty
    import tty
except ImportError:  # Windows: TCP only
    pty = tty = None  # type: ignore[assignment]

__all__ = ["Fault", "ModbusSimulator", "Replay", "SimulatedRegister"]

Transport = Literal["tcp", "rtu", "ascii"]

_START_WAIT_S = 10.0


class ModbusSimulator:
    """A Modbus server with one or more units.

    Args:
        registers: of all units.
        replays: recordings, see `Replay`; may share a unit with registers.
        transport: `tcp`, or `rtu` or `ascii` on a pseudo-terminal.
        host: address to bind, for TCP.
        port: 0 for a free one, for TCP; it stays the same when the simulator is stopped and started again.
        link: path of a symbolic link to the pseudo-terminal, which then stays the same as well.
        gaps_readable: whether unused addresses between used ones read as 0 or are refused.

    Attributes:
        port: on which TCP is served.
        path: of the pseudo-terminal, or of the link to it.
    """

    def __init__(
        self,
        registers: Sequence[SimulatedRegister] = (),
        *,
        replays: Sequence[Replay] = (),
        transport: Transport = "tcp",
        host: str = "127.0.0.1",
        port: int = 0,
        link: Path | None = None,
        gaps_readable: bool = True,
    ) -> None:
        units = {
            unit: UnitImage(
                [register for register in registers if register.unit == unit],
                [replay for replay in replays if replay.unit == unit],
                gaps_readable=gaps_readable,
            )
            for unit in {register.unit for register in registers} | {replay.unit for replay in replays}
        }
        self._station = Station(units, gateway=transport == "tcp")
        self.transport: Transport = transport
        self.host = host
        self.port = port
        self.path = ""
        self._link = link
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._connections: set[_TcpConnection] = set()

    def start(self) -> None:
        """Serve. Returns when clients can connect. Raises: InstrumentUnavailable if the port cannot be had."""
        if self._thread is not None:
            return
        ready = threading.Event()
        failures: list[OSError] = []
        self._station.restart()
        self._thread = threading.Thread(
            target=self._run, args=(ready, failures), name=f"simulator-modbus-{self.transport}", daemon=True
        )
        self._thread.start()
        ready.wait(_START_WAIT_S)
        if failures or not ready.is_set():
            self.stop()
            reason = str(failures[0]) if failures else "the thread does not start"
            raise InstrumentUnavailable(f"the Modbus simulator cannot start: {reason}")

    def stop(self) -> None:
        """Vanish: connections are cut, the port is released. Idempotent."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._stop.set)
        thread.join(_START_WAIT_S)

    def __enter__(self) -> ModbusSimulator:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """Where clients find it: host:port, or the path of the port."""
        return f"{self.host}:{self.port}" if self.transport == "tcp" else self.path

    def set_fault(self, unit: int, fault: Fault | None) -> None:
        """Let a unit misbehave from its next request on, or behave again. From any thread."""
        self._station.set_fault(unit, fault)

    @property
    def requests(self) -> int:
        """How many requests have been understood."""
        return self._station.requests

    def drop_connections(self) -> None:
        """Cut all TCP connections; new ones are accepted. From another thread; returns when they are cut."""
        loop, cut = self._loop, threading.Event()
        if loop is None or self._thread is None:
            return

        def abort() -> None:
            self._abort_connections()
            loop.call_soon(cut.set)  # behind what the aborted connections have put there

        with contextlib.suppress(RuntimeError):  # the loop has ended by itself
            loop.call_soon_threadsafe(abort)
            cut.wait(_START_WAIT_S)

    def _run(self, ready: threading.Event, failures: list[OSError]) -> None:
        try:
            asyncio.run(self._serve(ready))
        except OSError as error:
            failures.append(error)
        finally:
            ready.set()

    async def _serve(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        if self.transport == "tcp":
            await self._serve_tcp(self._loop, self._stop, ready)
        else:
            await self._serve_pty(self._loop, self._stop, ready)

    async def _serve_tcp(self, loop: asyncio.AbstractEventLoop, stop: asyncio.Event, ready: threading.Event) -> None:
        server = await loop.create_server(
            lambda: _TcpConnection(self._station, self._connections), self.host, self.port
        )
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        try:
            await stop.wait()
        finally:
            # A connection that is being accepted is a task; the server must not be closed under it.
            while accepting := asyncio.all_tasks(loop) - {asyncio.current_task()}:
                await asyncio.wait(accepting, timeout=_START_WAIT_S)
            server.close()
            while self._connections:
                self._abort_connections()
                await asyncio.sleep(0)

    def _abort_connections(self) -> None:
        for connection in list(self._connections):
            connection.abort()

    async def _serve_pty(self, loop: asyncio.AbstractEventLoop, stop: asyncio.Event, ready: threading.Event) -> None:
        if pty is None:
            raise OSError("there are no pseudo-terminals here, use transport tcp")
        master, slave = pty.openpty()
        try:
            tty.setraw(slave)
            os.set_blocking(master, False)
            self.path = self._linked(os.ttyname(slave))
            framer = (FramerAscii if self.transport == "ascii" else FramerRTU)(DecodePDU(is_server=True))
            line = Line(self._station, framer, lambda data: _write(master, data))
            loop.add_reader(master, lambda: line.feed(_read(master)))
            ready.set()
            await stop.wait()
            loop.remove_reader(master)
        finally:
            if self._link is not None:
                self._link.unlink(missing_ok=True)
            os.close(master)
            os.close(slave)

    def _linked(self, path: str) -> str:
        if self._link is None:
            return path
        if self._link.is_symlink():
            self._link.unlink()
        self._link.symlink_to(path)
        return str(self._link)


class _TcpConnection(asyncio.Protocol):
    """One TCP client."""

    def __init__(self, station: Station, connections: set[_TcpConnection]) -> None:
        self._line = Line(station, FramerSocket(DecodePDU(is_server=True)), self._write)
        self._connections = connections
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._line.feed(data)

    def abort(self) -> None:
        """Cut the connection."""
        if self._transport is not None:
            self._transport.abort()

    def _write(self, data: bytes) -> bool:
        if self._transport is None or self._transport.is_closing():
            return False
        self._transport.write(data)
        return True


def _read(master: int) -> bytes:
    try:
        return os.read(master, BUFFER_BYTES_MAX)
    except OSError:
        return b""


def _write(master: int, data: bytes) -> bool:
    try:
        return os.write(master, data) == len(data)
    except OSError:
        return False
