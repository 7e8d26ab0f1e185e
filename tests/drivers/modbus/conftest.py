"""Devices and buses for the tests of Modbus."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import socket
import threading
import tty
from collections.abc import Callable, Iterator

import pytest

from drivers.modbus.driver import MODBUS_RTU, MODBUS_TCP
from shared.clock import AnchoredClock


@pytest.fixture
def open_tcp():
    """Open a bus to a port of this machine: `open_tcp(port, points, **device) -> (bus, device)`."""
    with contextlib.ExitStack() as stack:

        def open_(port, points, **settings):
            table = {"driver": "modbus-tcp", "host": "127.0.0.1", "port": port, "points": points, "timeout_s": 0.3}
            device = MODBUS_TCP.device("bench", {**table, **settings})
            bus = MODBUS_TCP.open([device], AnchoredClock())
            stack.callback(bus.close)
            return bus, device

        yield open_


class RawServer:
    """A TCP server that does to each request what a test's function says.

    The function gets the request's bytes and a `send`; it returns False to hang up.
    """

    def __init__(self, behave: Callable[[bytes, Callable[[bytes], None]], bool | None]) -> None:
        self._behave = behave
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        def send(data: bytes) -> None:
            with contextlib.suppress(OSError):
                connection.sendall(data)

        with contextlib.suppress(OSError), connection:
            while request := connection.recv(12):
                if self._behave(request, send) is False:
                    return

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)


@pytest.fixture
def raw_server() -> Iterator[Callable[..., RawServer]]:
    """Start a `RawServer`; it is closed after the test."""
    with contextlib.ExitStack() as stack:

        def start(behave: Callable[[bytes, Callable[[bytes], None]], bool | None]) -> RawServer:
            server = RawServer(behave)
            stack.callback(server.close)
            return server

        yield start


class RawLine:
    """A pseudo-terminal whose far end does to each RTU request (8 bytes) what a test's function says."""

    def __init__(self, behave: Callable[[bytes, Callable[[bytes], None]], None]) -> None:
        self._behave = behave
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)
        self.requests: list[bytes] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def send(self, data: bytes) -> None:
        """Put bytes on the line, asked or not."""
        os.write(self._master, data)

    def _serve(self) -> None:
        received = b""
        while not self._ending.is_set():
            if select.select([self._master], [], [], 0.02)[0]:
                received += os.read(self._master, 256)
            while len(received) >= 8:
                request, received = received[:8], received[8:]
                self.requests.append(request)
                self._behave(request, self.send)

    def close(self) -> None:
        self._ending.set()
        self._thread.join(5)
        os.close(self._master)
        os.close(self._slave)


@pytest.fixture
def raw_line() -> Iterator[Callable[..., RawLine]]:
    """Start a `RawLine`; it is closed after the test."""
    with contextlib.ExitStack() as stack:

        def start(behave: Callable[[bytes, Callable[[bytes], None]], None]) -> RawLine:
            line = RawLine(behave)
            stack.callback(line.close)
            return line

        yield start


@pytest.fixture
def open_serial():
    """Open a bus on a serial port: `open_serial(path, points, **device) -> (bus, device)`."""
    with contextlib.ExitStack() as stack:

        def open_(path, points, driver=MODBUS_RTU, **settings):
            table = {"driver": driver.name, "port": path, "points": points, "timeout_s": 0.3}
            device = driver.device("bench", {**table, **settings})
            bus = driver.open([device], AnchoredClock())
            stack.callback(bus.close)
            return bus, device

        yield open_
