"""A TCP proxy that breaks the line on command, as networks do.

::

    client ──► proxy ──► server       forward   bytes pass
                                      cut       connections are reset, new ones refused with a reset
                                      stall     connections stay open, nothing passes, nothing is read
                                      half_open the client's bytes vanish, the server's never come, nobody is told
                                      slow      bytes pass at a given rate
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from types import TracebackType
from typing import Literal, Self

Mode = Literal["forward", "cut", "stall", "half_open", "slow"]
_CHUNK_BYTES = 16 * 1024


class FaultProxy:
    """Listens on a loopback port of its own while its context lasts.

    Args:
        host: of the server behind it; may change (`target`), as after a restart.
        port: of the server behind it.
    """

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.host = "127.0.0.1"
        self.port = 0
        self.connections_total = 0
        self.bytes_forwarded = 0
        self._mode: Mode = "forward"
        self._rate_bytes_s = 0.0
        self._passing = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._lines: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._passing.set()
        self._server = await asyncio.start_server(self._serve, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        await self._reset_all()

    def forward(self) -> None:
        """Let bytes pass again."""
        self._set("forward")

    async def cut(self) -> None:
        """Reset all connections; new ones are reset too until `forward`."""
        self._set("cut")
        await self._reset_all()

    def stall(self) -> None:
        """Keep connections, pass nothing: the senders' buffers fill."""
        self._set("stall")

    def half_open(self) -> None:
        """Swallow everything in both directions, and hide closes, as a NAT that has forgotten a connection does."""
        self._set("half_open")

    def slow(self, bytes_s: float) -> None:
        """Pass at most so many bytes a second and direction."""
        self._rate_bytes_s = bytes_s
        self._set("slow")

    def _set(self, mode: Mode) -> None:
        self._mode = mode
        if mode == "stall":
            self._passing.clear()
        else:
            self._passing.set()

    async def _reset_all(self) -> None:
        for writer in list(self._writers):
            _reset(writer)
        lines = list(self._lines)
        for line in lines:
            line.cancel()
        if lines:
            await asyncio.wait(lines)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._lines.add(task)
        self._writers.add(writer)
        self.connections_total += 1
        try:
            await self._connect(reader, writer)
        except asyncio.CancelledError:
            return  # reset: the streams module would report a cancelled connection as an error
        finally:
            self._lines.discard(task)
            self._writers.discard(writer)
            _reset(writer)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mode == "cut":
            return
        await self._passing.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.target)
        except OSError:
            return
        self._writers.add(far_writer)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far_writer), name="proxy up")
                group.create_task(self._pump(far_reader, writer), name="proxy down")
        finally:
            self._writers.discard(far_writer)
            _reset(far_writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await self._passing.wait()
            try:
                data = await reader.read(_CHUNK_BYTES)
            except OSError:
                data = b""
            await self._passing.wait()
            if not data:
                await self._close_far_side(writer)
                return
            if self._mode == "half_open":
                continue
            if self._mode == "slow":
                await asyncio.sleep(len(data) / self._rate_bytes_s)
            with contextlib.suppress(OSError):
                writer.write(data)
                await writer.drain()
                self.bytes_forwarded += len(data)

    async def _close_far_side(self, writer: asyncio.StreamWriter) -> None:
        while self._mode == "half_open":  # noqa: ASYNC110 - any change of the mode ends it, and there are many
            await asyncio.sleep(0.02)
        with contextlib.suppress(OSError):
            if writer.can_write_eof():
                writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a reset rather than politely."""
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
