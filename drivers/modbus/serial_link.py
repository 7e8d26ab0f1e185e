"""Modbus RTU and ASCII on a serial port.

Serial frames carry no transaction id, so a late answer looks like the answer to the next question. Therefore

* what lies in the input buffer is thrown away before each question,
* a frame of another unit, function or length is thrown away and the wait goes on until the deadline,
* after a question that stayed without a proper answer its unit is *in doubt*. Before it is asked anything else, the
  line must fall silent, and the unit must answer a probe: one address through a function that has not been asked since.
  Units answer in order, even if only `illegal function`; so when the answer to the probe is there, everything older
  has gone by. A unit that answers none of the probes is asked directly once all four functions were tried: an answer
  that is later than four timeouts, with the caller's back-off between them, could only then be mistaken.

A port that vanishes is opened again by the next question.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from typing import Literal

import serial
from pymodbus.framer import FramerAscii, FramerRTU
from pymodbus.pdu import DecodePDU

from drivers.modbus.decode import Answer
from drivers.modbus.protocol import REFUSAL_FLAG, Query, answers, data_of
from drivers.modbus.registers import Table
from shared.clock import Clock
from shared.errors import InstrumentError, InstrumentTimeout, InstrumentUnavailable, InvalidAnswer, RequestRefused

try:
    import termios

    _TERMINAL_ERROR: type[Exception] = termios.error
except ImportError:  # Windows
    _TERMINAL_ERROR = OSError

_PORT_ERRORS: tuple[type[Exception], ...] = (OSError, TypeError, _TERMINAL_ERROR)
# pyserial raises TypeError where a port was closed under its feet.

Framing = Literal["rtu", "ascii"]

_SLICE_S = 0.05
"""The longest that a read of the port blocks, so that deadlines and `close` are kept."""
_CLOSE_WAIT_S = 2.0
_SILENCE_S_MAX = 0.25
"""How long to wait for a line in doubt to fall silent."""
_RECEIVED_BYTES_MAX = 2048


@dataclass(frozen=True, slots=True)
class SerialSettings:
    """Which port, and how it is set.

    Attributes:
        pause_s: silence between an answer and the next question.
    """

    port: str
    framing: Framing
    baudrate: int
    parity: str
    stopbits: float
    bytesize: int
    pause_s: float

    @property
    def bus(self) -> str:
        """The key by which devices share it."""
        return self.port


def pause_default_s(framing: Framing, baudrate: int) -> float:
    """Silence that the serial line specification asks for: 3.5 characters, 1.75 ms above 19,200 baud; none in ASCII."""
    if framing == "ascii":
        return 0.0
    return 0.00175 if baudrate > 19200 else 3.5 * 11 / baudrate


class SerialLink:
    """A serial port that is opened when it is needed. Calls come from one thread, `close` from any."""

    def __init__(self, settings: SerialSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        decoder = DecodePDU(is_server=False)
        self._framer = FramerAscii(decoder) if settings.framing == "ascii" else FramerRTU(decoder)
        self._port: serial.Serial | None = None
        self._free_at_s = 0.0
        self._in_doubt: dict[int, set[Table]] = {}
        self._closed = False
        self._busy = threading.Lock()

    def connect(self, timeout_s: float) -> None:
        """Open the port unless it is open. Raises: InstrumentUnavailable."""
        with self._busy:
            self._opened(timeout_s)

    def exchange(self, query: Query, timeout_s: float) -> Answer:
        """Ask and wait for the answer; opens the port first if need be.

        Raises: InstrumentUnavailable, InstrumentTimeout, InvalidAnswer, ModbusRefusal.
        """
        with self._busy:
            port = self._opened(timeout_s)
            try:
                if query.unit in self._in_doubt:
                    self._resynchronise(port, query, timeout_s)
                return self._ask(port, query, timeout_s)
            except _PORT_ERRORS as error:
                self._in_doubt.setdefault(query.unit, set()).add(query.table)
                self._shut()
                raise self._lost(error) from error

    def close(self) -> None:
        """Close the port and end a blocked exchange."""
        self._closed = True
        if self._busy.acquire(timeout=_CLOSE_WAIT_S):
            try:
                self._shut()
            finally:
                self._busy.release()

    def _opened(self, timeout_s: float) -> serial.Serial:
        if self._closed:
            raise InstrumentUnavailable(f"{self._settings.port} has been closed")
        if self._port is None:
            self._port = self._open(timeout_s)
        return self._port

    def _open(self, timeout_s: float) -> serial.Serial:
        settings = self._settings
        try:
            port: serial.Serial = serial.serial_for_url(
                settings.port,
                baudrate=settings.baudrate,
                parity=settings.parity,
                stopbits=settings.stopbits,
                bytesize=settings.bytesize,
                timeout=_SLICE_S,
                write_timeout=timeout_s,
                exclusive=True,
            )
            return port
        except (OSError, TypeError, ValueError, _TERMINAL_ERROR) as error:
            reason = getattr(error, "strerror", None) or error
            raise InstrumentUnavailable(
                f"cannot open {settings.port}: {reason}",
                hint="is it plugged in, is no other program using it, is the user in group dialout?",
            ) from error

    def _resynchronise(self, port: serial.Serial, query: Query, timeout_s: float) -> None:
        """Make sure that no older answer of this unit is still to come."""
        asked = self._in_doubt[query.unit]
        untried = [table for table in (Table.HOLDING, Table.INPUT, Table.COIL, Table.DISCRETE) if table not in asked]
        self._await_silence(port)
        if untried:
            with contextlib.suppress(RequestRefused):  # a refusal proves as much as an answer
                self._ask(port, Query(query.unit, untried[0], query.address, 1), timeout_s)
        self._in_doubt.pop(query.unit, None)

    def _await_silence(self, port: serial.Serial) -> None:
        deadline_s = time.monotonic() + _SILENCE_S_MAX
        while port.read(_RECEIVED_BYTES_MAX):  # blocks for a slice, and comes back empty only from a silent line
            if time.monotonic() > deadline_s:
                raise InvalidAnswer(f"{self._settings.port} never falls silent", hint="is another master on the line?")

    def _ask(self, port: serial.Serial, query: Query, timeout_s: float) -> Answer:
        try:
            request = self._framer.encode(query.pdu, query.unit, 0)
            time.sleep(max(0.0, self._free_at_s - time.monotonic()))
            port.reset_input_buffer()
            asked_us = self._clock.now_us()
            port.write(request)
            pdu = self._receive(port, query, time.monotonic() + timeout_s)
            answered_us = self._clock.now_us()
            return Answer(data_of(query, pdu), (asked_us + answered_us) // 2)
        except (InstrumentTimeout, InvalidAnswer):
            self._in_doubt.setdefault(query.unit, set()).add(query.table)
            raise
        finally:
            self._free_at_s = time.monotonic() + self._settings.pause_s

    def _receive(self, port: serial.Serial, query: Query, deadline_s: float) -> bytes:
        """The PDU that answers the query; everything else on the line is passed over."""
        received, oddity = b"", ""
        while time.monotonic() < deadline_s:
            if self._closed:
                raise InstrumentUnavailable(f"{self._settings.port} has been closed")
            chunk = port.read(self._bytes_wanted(query, received))
            if not chunk:
                continue
            received += chunk
            while received:
                used, unit, pdu = self._frame(received)
                if pdu:
                    oddity = self._oddity(query, unit, pdu)
                    if not oddity:
                        return pdu
                elif used:
                    oddity = f"{len(received)} bytes that are no sound frame came: {received[:16].hex(' ')}"
                received = received[max(used, len(received) - _RECEIVED_BYTES_MAX) :]
                if not pdu:
                    break
        raise self._silence(query, received, oddity)

    def _frame(self, received: bytes) -> tuple[int, int, bytes]:
        """Bytes used, unit and PDU of the first frame; no PDU if it is unsound or, with nothing used, incomplete."""
        try:
            used, unit, _, pdu = self._framer.decode(received)
        except (ValueError, IndexError):  # characters that are no hexadecimal digits where the framer expects them
            return len(received), 0, b""
        if pdu and self._settings.framing == "rtu":
            # The RTU framer claims all that has come; what follows this frame may be the answer waited for.
            used = received.find(bytes((unit,)) + pdu) + 1 + len(pdu) + 2
        return used, unit, pdu

    def _bytes_wanted(self, query: Query, received: bytes) -> int:
        """How much to wait for: a whole refusal first, then the rest of the answer."""
        ascii_framing = self._settings.framing == "ascii"
        refusal, answer = (11, 11 + 2 * query.data_bytes) if ascii_framing else (5, 5 + query.data_bytes)
        missing = (refusal if len(received) < refusal else answer) - len(received)
        return max(missing, 1)

    @staticmethod
    def _oddity(query: Query, unit: int, pdu: bytes) -> str:
        """Why a sound frame does not answer the query; empty if it does."""
        if unit != query.unit:
            return f"unit {unit} answered"
        if not answers(query, pdu):
            return f"an answer to function {pdu[0] & ~REFUSAL_FLAG} came"
        if not pdu[0] & REFUSAL_FLAG and len(pdu) != 2 + query.data_bytes:
            return f"an answer of {len(pdu) - 2} bytes came instead of {query.data_bytes}"
        return ""

    def _silence(self, query: Query, received: bytes, oddity: str) -> InstrumentError:
        if oddity:
            return InvalidAnswer(f"asked for {query}, but {oddity}", hint="check unit, baudrate, parity and wiring")
        if received:
            return InvalidAnswer(
                f"asked for {query}, but the answer broke off after {len(received)} bytes",
                hint="check baudrate, parity and wiring",
            )
        return InstrumentTimeout(f"no answer for {query}", hint="is the device on, and is `unit` its address?")

    def _shut(self) -> None:
        if self._port is not None:
            self._port.close()
        self._port = None

    def _lost(self, error: Exception) -> InstrumentUnavailable:
        if self._closed:
            return InstrumentUnavailable(f"{self._settings.port} has been closed")
        return InstrumentUnavailable(f"{self._settings.port} is gone: {error}", hint="is it still plugged in?")
