"""JSON lines over TCP: one line of answer for each line, in order, after the spool's commit.

What has arrived in one read is committed together; meanwhile the connection is not read, so a sender may pipeline as
much as the sockets' buffers hold. After a line that is too long the connection is closed, for nobody knows where the
next one would begin.
"""

from __future__ import annotations

import asyncio

from drivers.push.connections import Connections, send
from drivers.push.reception import Answer, Reception
from shared.errors import InvalidAnswer

READ_BYTES = 262_144
BUSY = Answer(False, "too many connections", "close some, or raise connections_max").line()


class LineServer:
    """The TCP side of a `push` device."""

    def __init__(self, reception: Reception, line_bytes_max: int) -> None:
        self._reception = reception
        self._line_bytes_max = line_bytes_max

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connections: Connections) -> None:
        """One connection, to its end."""
        rest = b""
        while not connections.stopping:
            chunk = await reader.read(READ_BYTES)
            *lines, rest = (rest + chunk).split(b"\n")
            if not chunk:
                lines, rest = [rest], b""
            with connections.answering():
                if not await self._answer(writer, lines, rest) or not chunk:
                    return

    async def _answer(self, writer: asyncio.StreamWriter, lines: list[bytes], rest: bytes) -> bool:
        """Take lines and answer them; whether the connection can go on."""
        whole: list[bytes] = []
        refused: Answer | None = None
        for line in lines:
            refused = self._refused(line)
            if refused is not None:
                break
            if line.strip():
                whole.append(line.strip())
        refused = refused or self._refused(rest)
        answers = await self._reception.take_lines(whole)
        if refused is not None:
            answers.append(refused)
        if answers:
            await send(writer, b"".join(answer.line() for answer in answers))
        return refused is None

    def _refused(self, line: bytes) -> Answer | None:
        """The answer to what ends a connection: a line without end, or a browser that was led here."""
        if len(line) > self._line_bytes_max:
            text = f"a line of more than {self._line_bytes_max} bytes"
            return self._reception.refuse(InvalidAnswer(text, hint="line_bytes_max; each line is one object"))
        if b" HTTP/1." in line:
            return self._reception.refuse(InvalidAnswer("this port speaks JSON lines, not HTTP"))
        return None
