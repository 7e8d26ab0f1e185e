"""What a simulated Modbus bus does with a request, whatever carries it: units, their faults, the order of answers."""

from __future__ import annotations

import asyncio
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from pymodbus.framer import FramerBase

from drivers.modbus.protocol import GATEWAY_NO_ANSWER, ILLEGAL_FUNCTION, ILLEGAL_VALUE, REFUSAL_FLAG, Query
from drivers.modbus.registers import Table
from drivers.simulators.registers import UnitImage

BUFFER_BYTES_MAX = 2048
_PENDING_MAX = 64
_REGISTERS_MAX = 125
_COILS_MAX = 2000


@dataclass(frozen=True, slots=True)
class Fault:
    """How a unit misbehaves.

    Attributes:
        dead: no answer.
        delay_s: answers that much later; the unit is busy meanwhile, as real ones are.
        exception: answers with this exception code.
        answer_as: answers with another unit's id.
        truncate_bytes: sends only so many bytes of the answer.
        garbage: sends these bytes instead.
        times: for so many requests, then all is well again; None for ever.
    """

    dead: bool = False
    delay_s: float = 0.0
    exception: int = 0
    answer_as: int | None = None
    truncate_bytes: int | None = None
    garbage: bytes = b""
    times: int | None = None


class Station:
    """The units on one bus.

    Args:
        gateway: whether somebody says that a unit is not there (a TCP gateway does, a serial line does not).

    Attributes:
        requests: how many requests have been understood.
    """

    def __init__(self, units: Mapping[int, UnitImage], *, gateway: bool) -> None:
        self.requests = 0
        self._units = units
        self._gateway = gateway
        self._faults: dict[int, Fault] = {}
        self._faults_lock = threading.Lock()
        self._started_s = time.monotonic()

    def restart(self) -> None:
        """Time begins anew."""
        self._started_s = time.monotonic()

    def set_fault(self, unit: int, fault: Fault | None) -> None:
        """Let a unit misbehave from its next request on, or behave again. From any thread."""
        with self._faults_lock:
            if fault is None:
                self._faults.pop(unit, None)
            else:
                self._faults[unit] = fault

    def take_fault(self, unit: int) -> Fault:
        """The fault that applies to the request at hand."""
        with self._faults_lock:
            fault = self._faults.get(unit)
            if fault is None:
                return Fault()
            if fault.times is not None:
                if fault.times <= 1:
                    del self._faults[unit]
                else:
                    self._faults[unit] = replace(fault, times=fault.times - 1)
            return fault

    def answer(self, unit: int, pdu: bytes, fault: Fault) -> tuple[bytes, Query | None]:
        """The answer's PDU, empty for none, and the query that it answers well."""
        self.requests += 1
        image = self._units.get(unit)
        if image is None:
            return (bytes((pdu[0] | REFUSAL_FLAG, GATEWAY_NO_ANSWER)) if self._gateway else b""), None
        if fault.exception:
            return bytes((pdu[0] | REFUSAL_FLAG, fault.exception)), None
        query = _query(unit, pdu)
        if isinstance(query, int):
            return bytes((pdu[0] | REFUSAL_FLAG, query)), None
        data = image.read(query, time.monotonic() - self._started_s)
        if isinstance(data, int):
            return bytes((pdu[0] | REFUSAL_FLAG, data)), None
        return bytes((pdu[0], len(data))) + data, query

    def sent(self, query: Query) -> None:
        """The answer to a query has gone out."""
        self._units[query.unit].answered(query)


class Line:
    """One client's bytes in, answers out, strictly in order."""

    def __init__(self, station: Station, framer: FramerBase, send: Callable[[bytes], bool]) -> None:
        self._station = station
        self._framer = framer
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._free_at_s = 0.0
        self._pending = 0

    def feed(self, data: bytes) -> None:
        """Take what has come and answer every whole request in it."""
        self._buffer = (self._buffer + data)[-BUFFER_BYTES_MAX:]
        while self._buffer:
            try:
                used, unit, transaction, pdu = self._framer.decode(self._buffer)
            except (ValueError, IndexError):
                self._buffer = b""
                return
            self._buffer = self._buffer[used:]
            if not pdu:
                return
            self._schedule(unit, transaction, pdu)

    def _schedule(self, unit: int, transaction: int, pdu: bytes) -> None:
        fault = self._station.take_fault(unit)
        if fault.dead or self._pending >= _PENDING_MAX:
            return
        now_s = self._loop.time()
        self._free_at_s = max(now_s, self._free_at_s) + fault.delay_s
        self._pending += 1
        if self._free_at_s <= now_s:
            self._respond(unit, transaction, pdu, fault)
        else:
            self._loop.call_at(self._free_at_s, self._respond, unit, transaction, pdu, fault)

    def _respond(self, unit: int, transaction: int, pdu: bytes, fault: Fault) -> None:
        self._pending -= 1
        answer, query = self._station.answer(unit, pdu, fault)
        if not answer:
            return
        frame = self._framer.encode(answer, unit if fault.answer_as is None else fault.answer_as, transaction)
        sent = self._send((fault.garbage or frame)[: fault.truncate_bytes])
        if sent and query is not None:
            self._station.sent(query)


def _query(unit: int, pdu: bytes) -> Query | int:
    """What a request's PDU asks for, or the exception code that it deserves."""
    if pdu[0] not in {table.value for table in Table}:
        return ILLEGAL_FUNCTION
    if len(pdu) != 5:
        return ILLEGAL_VALUE
    table = Table(pdu[0])
    address, count = struct.unpack(">HH", pdu[1:])
    if not 1 <= count <= (_COILS_MAX if table.of_bits else _REGISTERS_MAX):
        return ILLEGAL_VALUE
    return Query(unit, table, address, count)
