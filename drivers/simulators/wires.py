"""The simulated instrument's end of a wire: a pseudo-terminal with a lasting name, or a TCP port.

POSIX only. A pty keeps what nobody reads; a serial port does not, so what lies unread beyond `STALE_BYTES` is flushed
before more is written.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import socket
import struct
import termios
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

CHUNK_BYTES = 65_536
STALE_BYTES = 2048
CLIENTS_MAX = 16
Peer = int
"""Who is at the other end: a file descriptor."""


class Wire(Protocol):
    """Where a simulated instrument is connected. All calls come from the simulator's thread but `close`."""

    @property
    def address(self) -> str:
        """What a driver is to be told: a path, or host:port."""
        ...

    def open(self, selector: selectors.BaseSelector) -> None:
        """Appear; what is to be waited for is registered."""
        ...

    def close(self, selector: selectors.BaseSelector) -> None:
        """Vanish: those connected see the port go. Idempotent."""
        ...

    def receive(self, ready: Peer) -> tuple[Peer, bytes] | None:
        """What has come, and from whom."""
        ...

    def send(self, peer: Peer, data: bytes) -> None:
        """Send to one; bytes that nobody takes are lost, as on a cable."""
        ...

    def peers(self) -> Iterator[Peer]:
        """Those connected."""
        ...


class PtyWire:
    """A pseudo-terminal in raw mode, reached through a symbolic link that stays the same.

    Args:
        link: path of the link; an existing link is replaced, anything else is not.
    """

    def __init__(self, link: Path) -> None:
        self._link = link
        self._master = -1
        self._slave = -1

    @property
    def address(self) -> str:
        return str(self._link)

    def open(self, selector: selectors.BaseSelector) -> None:
        if self._master >= 0:
            return
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        if self._link.is_symlink():
            self._link.unlink()
        self._link.symlink_to(os.ttyname(self._slave))
        selector.register(self._master, selectors.EVENT_READ)

    def close(self, selector: selectors.BaseSelector) -> None:
        if self._master < 0:
            return
        if self._master in selector.get_map():
            selector.unregister(self._master)
        if self._link.is_symlink() and str(self._link.readlink()) == os.ttyname(self._slave):
            self._link.unlink()
        os.close(self._master)
        os.close(self._slave)
        self._master = self._slave = -1

    def receive(self, ready: Peer) -> tuple[Peer, bytes] | None:
        with contextlib.suppress(OSError):
            return ready, os.read(ready, CHUNK_BYTES)
        return None

    def send(self, peer: Peer, data: bytes) -> None:
        if peer != self._master:
            return
        unread = struct.unpack("I", fcntl.ioctl(self._slave, termios.FIONREAD, b"\0\0\0\0"))[0]
        if unread > STALE_BYTES:
            termios.tcflush(self._slave, termios.TCIFLUSH)
        with contextlib.suppress(BlockingIOError):
            os.write(peer, data)

    def peers(self) -> Iterator[Peer]:
        if self._master >= 0:
            yield self._master


class TcpWire:
    """A listening TCP socket; every client hears the same stream.

    Args:
        host: address to bind.
        port: 0 for any free one, which stays the same when the wire vanishes and returns.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._host = host
        self._port = port
        self._listener: socket.socket | None = None
        self._clients: dict[Peer, socket.socket] = {}
        self._selector: selectors.BaseSelector | None = None

    @property
    def address(self) -> str:
        return f"{self._host}:{self._port}"

    @property
    def port(self) -> int:
        """The port, once the wire is open."""
        return self._port

    def open(self, selector: selectors.BaseSelector) -> None:
        if self._listener is not None:
            return
        self._listener = socket.create_server((self._host, self._port), reuse_port=False)
        self._listener.setblocking(False)
        self._port = self._listener.getsockname()[1]
        self._selector = selector
        selector.register(self._listener, selectors.EVENT_READ)

    def close(self, selector: selectors.BaseSelector) -> None:
        if self._listener is not None:
            selector.unregister(self._listener)
            self._listener.close()
            self._listener = None
        for peer in list(self._clients):
            self._forget(peer)

    def receive(self, ready: Peer) -> tuple[Peer, bytes] | None:
        if self._listener is not None and ready == self._listener.fileno():
            self._accept(self._listener)
            return None
        client = self._clients.get(ready)
        if client is None:
            return None
        try:
            data = client.recv(CHUNK_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            self._forget(ready)
            return None
        return ready, data

    def send(self, peer: Peer, data: bytes) -> None:
        client = self._clients.get(peer)
        if client is None:
            return
        try:
            client.send(data)
        except BlockingIOError:
            return
        except OSError:
            self._forget(peer)

    def peers(self) -> Iterator[Peer]:
        yield from list(self._clients)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            client, _ = listener.accept()
            if len(self._clients) >= CLIENTS_MAX or self._selector is None:
                client.close()
                return
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._clients[client.fileno()] = client
            self._selector.register(client, selectors.EVENT_READ)

    def _forget(self, peer: Peer) -> None:
        client = self._clients.pop(peer)
        if self._selector is not None:
            self._selector.unregister(client)
        client.close()
