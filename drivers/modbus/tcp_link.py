"""Modbus TCP: one connection, one question at a time.

No late answer can reach a later question: answers carry the transaction id of their question, and after anything but a
proper answer the connection is closed, so that what is still under way dies with it. pymodbus frames; the exchange is
ours, because its blocking client takes up to twice the timeout, lets answers with transaction id 0 pass and hides why
a connection failed.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass

from pymodbus.framer import FramerSocket
from pymodbus.pdu import DecodePDU

from drivers.modbus.decode import Answer
from drivers.modbus.protocol import Query, data_of
from shared.clock import Clock
from shared.errors import InstrumentTimeout, InstrumentUnavailable, InvalidAnswer

_HEADER_BYTES = 7
_FRAME_BYTES_MAX = 260
_TRANSACTION_MAX = 0xFFFF
_CLOSE_WAIT_S = 2.0


@dataclass(frozen=True, slots=True)
class TcpSettings:
    """Which connection."""

    host: str
    port: int

    @property
    def bus(self) -> str:
        """The key by which devices share it."""
        return f"tcp:{self.host}:{self.port}"


class TcpLink:
    """A connection that is made when it is needed. Calls come from one thread, `close` from any."""

    def __init__(self, settings: TcpSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._framer = FramerSocket(DecodePDU(is_server=False))
        self._socket: socket.socket | None = None
        self._transaction = 0
        self._closed = False
        self._busy = threading.Lock()

    def connect(self, timeout_s: float) -> None:
        """Make the connection unless it is there. Raises: InstrumentUnavailable."""
        with self._busy:
            self._connected(timeout_s)

    def exchange(self, query: Query, timeout_s: float) -> Answer:
        """Ask and wait for the answer; connects first if need be.

        Raises: InstrumentUnavailable, InstrumentTimeout, InvalidAnswer, ModbusRefusal.
        """
        with self._busy:
            connection = self._connected(timeout_s)
            self._transaction = self._transaction % _TRANSACTION_MAX + 1
            request = self._framer.encode(query.pdu, query.unit, self._transaction)
            asked_us = self._clock.now_us()
            try:
                connection.settimeout(timeout_s)
                connection.sendall(request)
                pdu = self._receive(connection, query, time.monotonic() + timeout_s)
            except (InstrumentTimeout, InvalidAnswer):
                self._disconnect()
                raise
            except OSError as error:
                self._disconnect()
                raise self._lost(error) from error
            answered_us = self._clock.now_us()
            try:
                return Answer(data_of(query, pdu), (asked_us + answered_us) // 2)
            except InvalidAnswer:
                self._disconnect()
                raise

    def close(self) -> None:
        """Close the connection and end a blocked exchange."""
        self._closed = True
        connection = self._socket
        if connection is not None:
            with contextlib.suppress(OSError):  # it may not be connected any more
                connection.shutdown(socket.SHUT_RDWR)
        if self._busy.acquire(timeout=_CLOSE_WAIT_S):
            try:
                self._disconnect()
            finally:
                self._busy.release()

    def _connected(self, timeout_s: float) -> socket.socket:
        if self._socket is not None and self._has_unasked_bytes(self._socket):
            self._disconnect()
        if self._socket is None and not self._closed:
            try:
                self._socket = socket.create_connection((self._settings.host, self._settings.port), timeout_s)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:
                self._disconnect()
                raise self._not_there(error) from error
        if self._socket is None or self._closed:
            self._disconnect()
            raise InstrumentUnavailable(f"{self._settings.bus} has been closed")
        return self._socket

    @staticmethod
    def _has_unasked_bytes(connection: socket.socket) -> bool:
        """Whether the other side has hung up, or sent what nobody asked for."""
        connection.setblocking(False)
        try:
            connection.recv(1)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            return True
        return True

    def _receive(self, connection: socket.socket, query: Query, deadline_s: float) -> bytes:
        """The PDU that answers the running transaction."""
        received = b""
        while True:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise self._silence(query, received)
            connection.settimeout(left_s)
            try:
                chunk = connection.recv(4096)
            except TimeoutError:
                raise self._silence(query, received) from None
            if not chunk:
                raise ConnectionAbortedError("closed by the other side")
            received += chunk
            while (taken := self._frame(query, received)) is not None:
                used, pdu = taken
                if pdu is not None:
                    return pdu
                received = received[used:]

    def _frame(self, query: Query, received: bytes) -> tuple[int, bytes | None] | None:
        """The first complete frame: its length, and its PDU if it is of this transaction; None while incomplete."""
        if len(received) >= _HEADER_BYTES:
            announced = int.from_bytes(received[4:6], "big") + 6
            if received[2:4] != b"\0\0" or not _HEADER_BYTES < announced <= _FRAME_BYTES_MAX:
                raise InvalidAnswer(
                    f"{self._settings.bus} sent what is not Modbus TCP: {received[:16].hex(' ')}",
                    hint="is this the right port?",
                )
        used, unit, transaction, pdu = self._framer.decode(received)
        if not used:
            return None
        if transaction != self._transaction:
            return used, None
        if unit != query.unit:
            raise InvalidAnswer(f"asked unit {query.unit}, unit {unit} answered", hint="check `unit`")
        return used, pdu

    def _silence(self, query: Query, received: bytes) -> InstrumentTimeout | InvalidAnswer:
        if received:
            return InvalidAnswer(f"the answer for {query} broke off after {len(received)} bytes")
        return InstrumentTimeout(f"no answer for {query}", hint="is the device on, and is `unit` its address?")

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _lost(self, error: OSError) -> InstrumentUnavailable:
        if self._closed:
            return InstrumentUnavailable(f"{self._settings.bus} has been closed")
        return InstrumentUnavailable(f"connection to {self._settings.bus} lost: {error.strerror or error}")

    def _not_there(self, error: OSError) -> InstrumentUnavailable:
        reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        return InstrumentUnavailable(
            f"cannot connect to {self._settings.bus}: {reason}",
            hint="is the instrument on the network, are host and port right, does it allow one connection more?",
        )
