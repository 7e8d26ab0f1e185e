"""Block checks of line instruments: XOR, sum and CRC-16, as hexadecimal or decimal digits or plain bytes.

::

    $GPGGA,120000,4807.038,N*47      xor   start "$"  separator "*"  format hex
    S S      12.34 g;B7              sum   separator ";"             format hex
    \x02PV21.5\x03<BCC>              xor   start "\x02"  position "after" the terminator "\x03", format binary

What is covered: everything after `start` (from the first byte, if there is none) up to the `separator`; with the
position `after`, the terminator too, as ISO 1155 has it.

`crc16` is CRC-16/MODBUS (polynomial 0x8005 reflected, initial 0xFFFF), `crc16-ccitt` is CRC-16/IBM-3740 (polynomial
0x1021, initial 0xFFFF), `crc16-xmodem` the same from 0; check values of "123456789": 4B37, 29B1, 31C3.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import xor
from typing import Literal

from drivers.line.framing import excerpt
from shared.errors import InvalidAnswer

Kind = Literal["none", "xor", "sum", "crc16", "crc16-ccitt", "crc16-xmodem"]
Format = Literal["hex", "decimal", "binary", "binary-little"]
Position = Literal["before", "after"]


def xor_of(data: bytes) -> int:
    """All bytes, exclusive-or."""
    return reduce(xor, data, 0)


def sum_of(data: bytes) -> int:
    """The sum of all bytes, modulo 256."""
    return sum(data) & 0xFF


def _reflected_table(polynomial: int) -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (polynomial if value & 1 else 0)
        table.append(value)
    return tuple(table)


_MODBUS_TABLE = _reflected_table(0xA001)


def crc16_modbus(data: bytes) -> int:
    """CRC-16/MODBUS."""
    value = 0xFFFF
    for byte in data:
        value = value >> 8 ^ _MODBUS_TABLE[(value ^ byte) & 0xFF]
    return value


def crc16_ccitt(data: bytes) -> int:
    """CRC-16/IBM-3740, often called CCITT-FALSE."""
    return binascii.crc_hqx(data, 0xFFFF)


def crc16_xmodem(data: bytes) -> int:
    """CRC-16/XMODEM."""
    return binascii.crc_hqx(data, 0)


_KINDS: dict[str, tuple[Callable[[bytes], int], int]] = {
    "xor": (xor_of, 1),
    "sum": (sum_of, 1),
    "crc16": (crc16_modbus, 2),
    "crc16-ccitt": (crc16_ccitt, 2),
    "crc16-xmodem": (crc16_xmodem, 2),
}


@dataclass(frozen=True, slots=True)
class Checksum:
    """How a device guards its lines.

    Attributes:
        kind: the algorithm; `none` for no check.
        format: how the value is written; `binary` is big-endian.
        start: covered bytes begin after this; empty for the line's first byte.
        separator: stands between the covered bytes and the checksum; empty if the checksum follows at once.
        position: `before` or `after` the terminator.
        terminator: the line's terminator, covered when the position is `after`.
    """

    kind: Kind = "none"
    format: Format = "hex"
    start: bytes = b""
    separator: bytes = b""
    position: Position = "before"
    terminator: bytes = b""

    @property
    def width(self) -> int:
        """Bytes that the written checksum takes; 0 for none, and for decimal digits, which vary."""
        if self.kind == "none" or self.format == "decimal":
            return 0
        size = _KINDS[self.kind][1]
        return 2 * size if self.format == "hex" else size

    @property
    def trailer_bytes(self) -> int:
        """Bytes of the checksum that follow the terminator."""
        return self.width if self.position == "after" else 0

    def verify(self, line: bytes) -> bytes:
        """The content of a line whose checksum is right, without checksum and separator.

        Raises: InvalidAnswer if it is missing or wrong.
        """
        if self.kind == "none":
            return line
        content, written = self._divide(line)
        expected = self.written(content)
        if written.upper() != expected.upper() if self.format == "hex" else written != expected:
            raise InvalidAnswer(
                f"wrong {self.kind} checksum: the line says {excerpt(written)}, its content gives {excerpt(expected)}, "
                f"in {excerpt(line)}",
                hint="noise on the line, or the device's checksum settings are not what the configuration says",
            )
        return content

    def written(self, content: bytes) -> bytes:
        """The checksum of a line's content, as it is written."""
        function, size = _KINDS[self.kind]
        covered = content.partition(self.start)[2] if self.start and self.start in content else content
        if self.position == "after":
            covered += self.terminator
        value = function(covered)
        if self.format == "hex":
            return b"%0*X" % (2 * size, value)
        if self.format == "decimal":
            return b"%d" % value
        return value.to_bytes(size, "little" if self.format == "binary-little" else "big")

    def guard(self, content: bytes, terminator: bytes) -> bytes:
        """A whole line: content, separator, checksum and terminator in their order."""
        if self.kind == "none":
            return content + terminator
        written = self.written(content)
        if self.position == "after":
            return content + terminator + written
        return content + self.separator + written + terminator

    def _divide(self, line: bytes) -> tuple[bytes, bytes]:
        if self.format == "decimal":
            content, _, written = line.rpartition(self.separator)
            return content, written.lstrip(b"0") or b"0"
        content, written = line[: -self.width], line[-self.width :]
        separator = self.separator if self.position == "before" else b""
        if not content.endswith(separator):
            raise InvalidAnswer(f"no checksum after {excerpt(separator)} in {excerpt(line)}")
        return content.removesuffix(separator), written
