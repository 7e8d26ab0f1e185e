"""Where a value lives in a Modbus device and how it is written there: the register map, apart from whoever reads it.

Addresses are those of the protocol, from 0 (`holding:0` is what some manuals call 40001). A Modbus register is 16 bits,
big-endian on the wire; how a value of more registers is laid out is the maker's choice:

* `word_order` `big`: the most significant register has the lowest address (most devices); `little`: the least.
* `byte_order` `big`: as the protocol sends them; `little`: the two bytes of each register are swapped.

So the bytes ABCD of a 32-bit value are big/big, CDAB little/big, BADC big/little and DCBA little/little
(word_order/byte_order).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Literal

Order = Literal["big", "little"]

ValueType = Literal[
    "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64", "bit", "bits", "string"
]

ADDRESS_MAX = 0xFFFF
REGISTER_BITS = 16

WORDS: dict[str, int] = {
    "int16": 1,
    "uint16": 1,
    "int32": 2,
    "uint32": 2,
    "float32": 2,
    "int64": 4,
    "uint64": 4,
    "float64": 4,
    "bit": 1,
    "bits": 1,
}
"""Registers that a value of each type takes; a string's are half its length."""


class Table(Enum):
    """The four address spaces of a device; the value is the function code that reads them."""

    COIL = 1
    DISCRETE = 2
    HOLDING = 3
    INPUT = 4

    @property
    def word(self) -> str:
        """As in the configuration, e.g. `holding`."""
        return self.name.lower()

    @property
    def of_bits(self) -> bool:
        """Whether an address holds one bit instead of sixteen."""
        return self in (Table.COIL, Table.DISCRETE)


TABLES: dict[str, Table] = {table.word: table for table in Table}

_PLACE = re.compile(r"([a-z]+):(\d+|0x[0-9a-fA-F]+)")


@dataclass(frozen=True, slots=True)
class Register:
    """One value in a device.

    Attributes:
        table: its address space.
        address: protocol address of its first register or coil, from 0.
        width: how many registers (or coils, always 1) it takes.
        type: how to read them; a coil's is `bit`.
        bit: for `bit` and `bits`, the lowest bit, 0 being the least significant.
        bits: how many bits.
        length: for `string`, how many bytes.
        scale: `raw = registers · scale + offset`.
        valid_min: below this a reading fails as out of range; None for no limit.
    """

    table: Table
    address: int
    type: ValueType
    width: int = 1
    bit: int = 0
    bits: int = 1
    length: int = 0
    word_order: Order = "big"
    byte_order: Order = "big"
    scale: float = 1.0
    offset: float = 0.0
    valid_min: float | None = None
    valid_max: float | None = None

    @property
    def end(self) -> int:
        """The address after the last one."""
        return self.address + self.width


def parse_place(place: str) -> tuple[Table, int]:
    """Table and address from e.g. `holding:100` or `input:0x1F`. Raises: ValueError with words for the operator."""
    found = _PLACE.fullmatch(place.strip())
    table = TABLES.get(found.group(1)) if found else None
    if found is None or table is None:
        raise ValueError(f"`{place}` is not a place such as `holding:100` (tables: {', '.join(TABLES)})")
    address = int(found.group(2), 0) if found.group(2).startswith("0x") else int(found.group(2))
    if address > ADDRESS_MAX:
        raise ValueError(
            f"address {address} is beyond {ADDRESS_MAX}; addresses count from 0, without the leading 4 or 3"
        )
    return table, address
