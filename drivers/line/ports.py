"""The wire under a line instrument: bytes in and out, every wait bounded, the libraries' errors translated here alone.

pyserial's `readline` and `read_until` cost a system call or two a byte (245 µs a line); taking what has arrived and
splitting it costs 0.5 µs. So a port only ever gives out what is there.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Protocol

import serial

from drivers.line.device import SerialAddress, TcpAddress
from shared.errors import InstrumentTimeout, InstrumentUnavailable

CHUNK_BYTES_MAX = 65_536
SLICE_S = 0.02
"""So long a serial read blocks at most before it looks at its deadline again: a change of pyserial's timeout would
reconfigure the port, so it is set once."""

try:
    from termios import error as _termios_error
except ImportError:  # Windows has none, and pyserial raises none there
    _termios_error = OSError  # type: ignore[misc,assignment,unused-ignore]

_PORT_ERRORS = (OSError, serial.SerialException, _termios_error, TypeError)
"""`TypeError` is what pyserial raises from a call on a port that another thread has just closed."""


class LinePort(Protocol):
    """An open wire. All calls but `interrupt` come from the thread that owns it."""

    def read(self, timeout_s: float) -> bytes:
        """What has arrived; waits up to `timeout_s` for the first byte; empty after the wait or an `interrupt`.

        Raises: InstrumentUnavailable when the port is gone.
        """
        ...

    def write(self, data: bytes, timeout_s: float) -> None:
        """Send all of it. Raises: InstrumentUnavailable, InstrumentTimeout."""
        ...

    def interrupt(self) -> None:
        """End a blocked `read`, now and for good; from any thread."""
        ...

    def close(self) -> None:
        """Release the port. Idempotent."""
        ...


class SerialPort:
    """A serial port through pyserial.

    Raises: InstrumentUnavailable if it is not there, in use, or not permitted.
    """

    def __init__(self, address: SerialAddress) -> None:
        self._name = address.port
        self._interrupted = threading.Event()
        try:
            self._serial = serial.serial_for_url(
                address.port,
                baudrate=address.baudrate,
                bytesize=address.bytesize,
                parity=address.parity,
                stopbits=address.stopbits,
                xonxoff=address.xonxoff,
                rtscts=address.rtscts,
                dsrdtr=address.dsrdtr,
                timeout=SLICE_S,
                write_timeout=SLICE_S * 50,
                exclusive=True,
            )
        except (*_PORT_ERRORS, ValueError) as error:
            raise InstrumentUnavailable(
                f"cannot open {address.port}: {error}", hint=_opening_hint(str(error))
            ) from error

    def read(self, timeout_s: float) -> bytes:
        deadline = time.monotonic() + timeout_s
        with self._translated("read"):
            while not self._interrupted.is_set():
                if waiting := self._serial.in_waiting:
                    return self._serial.read(min(waiting, CHUNK_BYTES_MAX))
                if time.monotonic() >= deadline:
                    break
                if first := self._serial.read(1):
                    return first + self._serial.read(min(self._serial.in_waiting, CHUNK_BYTES_MAX))
        return b""

    def write(self, data: bytes, timeout_s: float) -> None:
        with self._translated("write"):
            try:
                self._serial.write(data)
            except serial.SerialTimeoutException as error:
                raise InstrumentTimeout(
                    f"{self._name} takes no more bytes", hint="flow control (xonxoff, rtscts) or an unplugged cable?"
                ) from error

    def interrupt(self) -> None:
        self._interrupted.set()
        with contextlib.suppress(*_PORT_ERRORS, AttributeError):
            self._serial.cancel_read()

    def close(self) -> None:
        with contextlib.suppress(*_PORT_ERRORS):
            self._serial.close()

    @contextlib.contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            yield
        except _PORT_ERRORS as error:
            raise InstrumentUnavailable(
                f"{self._name} is gone ({doing}: {error})", hint="is it plugged in? does another program use it?"
            ) from error


class TcpPort:
    """A TCP connection to an instrument or a serial device server.

    Raises: InstrumentUnavailable if nobody listens there.
    """

    def __init__(self, address: TcpAddress, timeout_s: float) -> None:
        self._name = f"{address.host}:{address.port}"
        self._interrupted = threading.Event()
        try:
            self._socket = socket.create_connection((address.host, address.port), timeout=timeout_s)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError as error:
            raise InstrumentUnavailable(
                f"cannot connect to {self._name}: {error}", hint="is it switched on, and are host and port right?"
            ) from error

    def read(self, timeout_s: float) -> bytes:
        if self._interrupted.is_set():
            return b""
        try:
            self._socket.settimeout(max(timeout_s, 0.0))
            chunk = self._socket.recv(CHUNK_BYTES_MAX)
        except (TimeoutError, BlockingIOError):
            return b""
        except OSError as error:
            if self._interrupted.is_set():
                return b""
            raise InstrumentUnavailable(f"{self._name}: connection lost: {error}") from error
        if not chunk and not self._interrupted.is_set():
            raise InstrumentUnavailable(f"{self._name} has closed the connection")
        return chunk

    def write(self, data: bytes, timeout_s: float) -> None:
        try:
            self._socket.settimeout(timeout_s)
            self._socket.sendall(data)
        except TimeoutError as error:
            raise InstrumentTimeout(f"{self._name} takes no more bytes") from error
        except OSError as error:
            raise InstrumentUnavailable(f"{self._name}: connection lost: {error}") from error

    def interrupt(self) -> None:
        self._interrupted.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()


def open_port(address: SerialAddress | TcpAddress, timeout_s: float) -> LinePort:
    """The open wire of an address. Raises: InstrumentUnavailable."""
    if isinstance(address, SerialAddress):
        return SerialPort(address)
    return TcpPort(address, timeout_s)


def _opening_hint(message: str) -> str:
    lowered = message.lower()
    if "permission" in lowered or "access is denied" in lowered:
        return "is the user in group dialout? does another program use the port?"
    if "lock" in lowered or "busy" in lowered or "temporarily unavailable" in lowered:
        return "another program uses the port"
    return "is it plugged in, and is the name right?"
