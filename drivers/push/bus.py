"""The listening bus of a `push` device: its sockets, and an event loop of its own in the bus's thread."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import threading
from collections.abc import AsyncIterator, Callable
from typing import Literal

from drivers.api import Sink
from drivers.push import http, tcp
from drivers.push.connections import Connections
from drivers.push.device import PushDevice
from drivers.push.http import HEAD_BYTES_MAX, HttpServer
from drivers.push.reception import Reception
from drivers.push.tcp import READ_BYTES, LineServer
from drivers.push.udp import DatagramServer
from shared.clock import Clock
from shared.errors import InstrumentUnavailable

Protocol = Literal["tcp", "udp", "http"]
BACKLOG = 128
UDP_BUFFER_BYTES = 1_048_576


class PushBus:
    """Listens on all endpoints of one device.

    Raises: InstrumentUnavailable if a port cannot be had.
    """

    def __init__(self, device: PushDevice, clock: Clock) -> None:
        self._device = device
        self._clock = clock
        self._lock = threading.Lock()
        self._wake: Callable[[], None] | None = None
        self._closed = False
        self._sockets: dict[Protocol, list[socket.socket]] = {}
        endpoints = device.endpoints
        wanted: dict[Protocol, int | None] = {
            "tcp": endpoints.tcp_port,
            "udp": endpoints.udp_port,
            "http": endpoints.http_port,
        }
        try:
            for protocol, port in wanted.items():
                if port is not None:
                    self._sockets[protocol] = []
                    self._bind(protocol, port)
        except InstrumentUnavailable:
            self._release()
            raise

    def port(self, protocol: Protocol) -> int:
        """The port on which it listens."""
        found: int = self._sockets[protocol][0].getsockname()[1]
        return found

    def listen(self, sink: Sink) -> None:
        """See `ListeningBus.listen`."""
        try:
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._listen(sink))
        except OSError as error:
            raise InstrumentUnavailable(f"{self._device.name} cannot listen: {error}") from error
        finally:
            self._release()

    def close(self) -> None:
        """See `ListeningBus.close`. Senders that wait for an answer still get it, for a moment."""
        with self._lock:
            self._closed = True
            if self._wake is not None:
                self._wake()
            else:
                self._release()

    async def _listen(self, sink: Sink) -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        with self._lock:
            if self._closed:
                return
            self._wake = lambda: _tell(loop, stop)
        try:
            async with self._serving(Reception(self._device, sink, self._clock)):
                await stop.wait()
        finally:
            with self._lock:
                self._wake = None

    @contextlib.asynccontextmanager
    async def _serving(self, reception: Reception) -> AsyncIterator[None]:
        limits = self._device.limits
        posting = HttpServer(reception, limits, loopback=self._device.endpoints.loopback)
        lines = Connections(limits.connections_max, tcp.BUSY, LineServer(reception, limits.line_bytes_max).serve)
        posts = Connections(limits.connections_max, http.BUSY, posting.serve)
        async with asyncio.TaskGroup() as group:
            servers = [
                *[await asyncio.start_server(lines.accept, sock=at, limit=READ_BYTES) for at in self._at("tcp")],
                *[await asyncio.start_server(posts.accept, sock=at, limit=HEAD_BYTES_MAX) for at in self._at("http")],
            ]
            datagrams = [await _datagram_server(reception, at) for at in self._at("udp")]
            readers = [group.create_task(one.run(), name=f"push {self._device.name} udp") for one in datagrams]
            try:
                yield
            finally:
                for server in servers:
                    server.close()
                for task in readers:
                    task.cancel()
                await lines.end()
                await posts.end()
                for one in datagrams:
                    one.close()

    def _at(self, protocol: Protocol) -> list[socket.socket]:
        return self._sockets.get(protocol, [])

    def _bind(self, protocol: Protocol, port: int) -> None:
        """Open a protocol's sockets on all hosts, on the same port."""
        hosts = self._device.endpoints.hosts
        for host in hosts:
            try:
                opened = _open(protocol, host, port)
            except OSError as error:
                if len(hosts) > 1 and self._sockets[protocol] and _not_here(error):
                    continue  # a computer without IPv6
                raise InstrumentUnavailable(
                    f"{self._device.name} cannot listen on {protocol} port {port} of {host}: {error.strerror or error}",
                    hint="another program uses the port, or another `push` device does",
                ) from error
            self._sockets[protocol].append(opened)
            port = port or opened.getsockname()[1]

    def _release(self) -> None:
        for opened in self._sockets.values():
            for one in opened:
                one.close()


async def _datagram_server(reception: Reception, at: socket.socket) -> DatagramServer:
    _, server = await asyncio.get_running_loop().create_datagram_endpoint(lambda: DatagramServer(reception), sock=at)
    return server


def _tell(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    loop.call_soon_threadsafe(stop.set)


def _open(protocol: Protocol, host: str, port: int) -> socket.socket:
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    family, _, _, _, address = socket.getaddrinfo(host, port, type=kind, flags=socket.AI_PASSIVE)[0]
    opened = socket.socket(family, kind)
    try:
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if protocol == "udp":
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UDP_BUFFER_BYTES)
        elif hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows, where SO_REUSEADDR lets another program take the port
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setblocking(False)
        opened.bind(address)
        if protocol != "udp":
            opened.listen(BACKLOG)
    except OSError:
        opened.close()
        raise
    return opened


def _not_here(error: OSError) -> bool:
    """Whether the address family, rather than the port, is what cannot be had."""
    return error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
