"""The application layer: what is asked, and what counts as the answer to it.

::

    request   [ function ][ address 2b ][ count 2b ]
    answer    [ function ][ byte count ][ data ]
    refusal   [ function | 0x80 ][ exception code ]

Source: MODBUS Application Protocol Specification V1.1b3, sections 6.1–6.4 and 7. The frames around it (MBAP, RTU,
ASCII) are pymodbus's.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from drivers.modbus.registers import Table
from shared.errors import InstrumentError, InstrumentTimeout, InvalidAnswer, RequestRefused

ILLEGAL_FUNCTION = 1
ILLEGAL_ADDRESS = 2
ILLEGAL_VALUE = 3
DEVICE_FAILURE = 4
DEVICE_BUSY = 6
GATEWAY_PATH_UNAVAILABLE = 0x0A
GATEWAY_NO_ANSWER = 0x0B

REFUSAL_FLAG = 0x80

EXCEPTION_WORDS = {
    ILLEGAL_FUNCTION: "illegal function",
    ILLEGAL_ADDRESS: "illegal data address",
    ILLEGAL_VALUE: "illegal data value",
    DEVICE_FAILURE: "device failure",
    5: "acknowledged, still working",
    DEVICE_BUSY: "device busy",
    8: "memory parity error",
    GATEWAY_PATH_UNAVAILABLE: "gateway path unavailable",
    GATEWAY_NO_ANSWER: "gateway target did not answer",
}

_HINTS = {
    ILLEGAL_FUNCTION: "the device does not have this table; try another of coil, discrete, input, holding",
    ILLEGAL_ADDRESS: "check the address (it counts from 0, without the leading 4 or 3) and the width of the type",
    ILLEGAL_VALUE: "the device may bear fewer registers a request; lower registers_max or coils_max",
    DEVICE_BUSY: "poll less often",
}


class ModbusRefusal(RequestRefused):
    """A Modbus exception. `code` is its exception code."""

    def __init__(self, message: str, *, code: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code

    @property
    def may_be_partial(self) -> bool:
        """Whether a part of the same request might be granted."""
        return self.code in (ILLEGAL_ADDRESS, ILLEGAL_VALUE)


@dataclass(frozen=True, slots=True)
class Query:
    """Read `count` addresses of `table` of unit `unit`, from `address` on."""

    unit: int
    table: Table
    address: int
    count: int

    @property
    def pdu(self) -> bytes:
        """The request without frame."""
        return struct.pack(">BHH", self.table.value, self.address, self.count)

    @property
    def data_bytes(self) -> int:
        """How many bytes of data the answer holds."""
        return (self.count + 7) // 8 if self.table.of_bits else self.count * 2

    def __str__(self) -> str:
        last = self.address + self.count - 1
        places = f"{self.address}" if self.count == 1 else f"{self.address}–{last}"
        return f"{self.table.word}:{places} of unit {self.unit}"


def answers(query: Query, pdu: bytes) -> bool:
    """Whether `pdu` has the function of the query, as an answer or a refusal."""
    return len(pdu) > 1 and pdu[0] & ~REFUSAL_FLAG == query.table.value


def data_of(query: Query, pdu: bytes) -> bytes:
    """The data of an answer, checked against the query.

    Raises: ModbusRefusal; InstrumentTimeout if a gateway says that the unit is dead; InvalidAnswer for all else.
    """
    if not answers(query, pdu):
        raise InvalidAnswer(f"asked for {query} (function {query.table.value}), {_described(pdu)} came")
    if pdu[0] & REFUSAL_FLAG:
        raise _refusal(query, pdu[1])
    data = pdu[2:]
    if pdu[1] != query.data_bytes or len(data) != query.data_bytes:
        raise InvalidAnswer(
            f"asked for {query}, which is {query.data_bytes} bytes; {len(data)} came, announced as {pdu[1]}"
        )
    return data


def _described(pdu: bytes) -> str:
    return f"function {pdu[0]}" if pdu else "an empty answer"


def _refusal(query: Query, code: int) -> InstrumentError:
    if code in (GATEWAY_PATH_UNAVAILABLE, GATEWAY_NO_ANSWER):
        return InstrumentTimeout(
            f"the gateway says that unit {query.unit} does not answer",
            hint="is the device on, and is `unit` its address?",
        )
    word = EXCEPTION_WORDS.get(code, "unknown exception")
    return ModbusRefusal(f"{query} refused: {word} (exception {code})", code=code, hint=_HINTS.get(code, ""))
