"""One line instrument as configured: its port, how it speaks, and what its lines mean."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from drivers.api import Point
from drivers.line.checksum import Checksum
from drivers.line.extract import Extraction

Mode = Literal["poll", "stream"]
NO_CHECKSUM = Checksum()


@dataclass(frozen=True, slots=True)
class SerialAddress:
    """A serial port and its settings; two devices on one port must agree in all of them.

    Attributes:
        port: `/dev/ttyUSB0`, `COM3`, or a URL that pyserial knows (`rfc2217://host:port`).
        parity: pyserial's letter (N, E, O, M, S).
    """

    port: str
    baudrate: int = 9600
    bytesize: int = 8
    parity: str = "N"
    stopbits: float = 1
    xonxoff: bool = False
    rtscts: bool = False
    dsrdtr: bool = False

    @property
    def bus(self) -> str:
        return self.port


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host and port that speak lines."""

    host: str
    port: int

    @property
    def bus(self) -> str:
        return f"tcp:{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Speech:
    """How an instrument speaks, whatever it says.

    Attributes:
        terminator: ends a line that comes.
        write_terminator: ends a line that goes.
        checksum: guards the lines that come, and with `prompt_checksum` those that go.
        line_bytes_max: a longer line is garbage.
        echo: the instrument repeats the prompt before it answers.
        answer_lines: lines of one answer, without the echo.
        expect: an answer (poll) in which this is not found is invalid.
        refused: an answer in which this is found is the instrument's "no".
        ignore: lines (stream) that concern no point and are no error.
        late_s: so long after its timeout an answer is waited for, and thrown away, before the port is used again.
        start: sent when a stream is opened.
        stop: sent before a stream is closed.
    """

    terminator: bytes = b"\r\n"
    write_terminator: bytes = b"\r\n"
    encoding: str = "ascii"
    checksum: Checksum = NO_CHECKSUM
    prompt_checksum: bool = False
    line_bytes_max: int = 1000
    echo: bool = False
    answer_lines: int = 1
    expect: re.Pattern[str] | None = None
    refused: re.Pattern[str] | None = None
    ignore: re.Pattern[str] | None = None
    late_s: float = 1.0
    start: str = ""
    stop: str = ""

    def outgoing(self, text: str) -> bytes:
        """The bytes of a prompt or command."""
        content = text.encode(self.encoding)
        if self.prompt_checksum:
            return self.checksum.guard(content, self.write_terminator)
        return content + self.write_terminator


@dataclass(frozen=True, slots=True)
class LineDevice:
    """A line instrument.

    Attributes:
        prompts: per point, what to ask for it; empty strings in a stream.
        extractions: per point, where its value stands in the line.
        timeout_s: poll: until the answer is whole; stream: so long a silence is reported.
    """

    name: str
    address: SerialAddress | TcpAddress
    mode: Mode
    speech: Speech
    points: tuple[Point, ...]
    prompts: tuple[str, ...]
    extractions: tuple[Extraction, ...]
    timeout_s: float

    @property
    def bus(self) -> str:
        return self.address.bus
