"""JSON lines in UDP datagrams: one datagram of answers for each, after the spool's commit.

Datagrams that arrived together are committed together. Those that arrive while `WAITING_MAX` wait are told so at once.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from drivers.push.reception import Answer, Reception

WAITING_MAX = 1_000
TOGETHER_MAX = 256
ANSWER_BYTES_MAX = 60_000
BUSY = Answer(False, "too many datagrams wait for the disk", "try again later").line()


class DatagramServer(asyncio.DatagramProtocol):
    """The UDP side of a `push` device on one address."""

    def __init__(self, reception: Reception) -> None:
        self._reception = reception
        self._waiting: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue(WAITING_MAX)
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        try:
            self._waiting.put_nowait((data, addr))
        except asyncio.QueueFull:
            self._reply(BUSY, addr)

    async def run(self) -> None:
        """Take datagrams until cancelled."""
        while True:
            await self._take()

    def close(self) -> None:
        """Release the socket."""
        if self._transport is not None:
            self._transport.close()

    async def _take(self) -> None:
        """Take the next datagram and those that wait behind it."""
        datagrams = [await self._waiting.get()]
        while not self._waiting.empty() and len(datagrams) < TOGETHER_MAX:
            datagrams.append(self._waiting.get_nowait())
        split = [[line for line in data.split(b"\n") if line.strip()] for data, _ in datagrams]
        answers = iter(await self._reception.take_lines([line for lines in split for line in lines]))
        for (_, addr), lines in zip(datagrams, split, strict=True):
            self._reply(_datagram([next(answers) for _ in lines]), addr)

    def _reply(self, data: bytes, addr: Any) -> None:
        if self._transport is not None and data:
            self._transport.sendto(data, addr)


def _datagram(answers: list[Answer]) -> bytes:
    data = b"".join(answer.line() for answer in answers)
    if len(data) <= ANSWER_BYTES_MAX:
        return data
    wrong = sum(not answer.ok for answer in answers)
    return Answer(False, f"{wrong} of {len(answers)} lines were refused", "send fewer lines in a datagram").line()
