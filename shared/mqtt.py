"""aiomqtt's client without its races.

paho connects on a thread of its own, and aiomqtt has the event loop watch the new socket while that thread still uses
it. A broker that closes the line in that moment (a proxy whose broker is away, a broker that is just ending) is noticed
by the loop first, and the thread then has a socket watched that is closed: a traceback in the log, or, worse, the
watching of whatever else the system gives that number to. An attempt that fails or is cancelled leaves its socket and
a task behind. And until Python 3.12 `asyncio.wait_for`, through which aiomqtt waits, may swallow a cancellation.

Here the loop begins to watch once the thread is through, and only for who still wants the connection; nothing but the
loop's thread watches and closes; and what was not entered is closed.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
from collections.abc import Awaitable
from types import TracebackType
from typing import Any, Self, TypeVar

import aiomqtt

T = TypeVar("T")

_log = logging.getLogger("labrelay.mqtt")
_log.setLevel(logging.CRITICAL)  # what the libraries log, they raise as well, and whoever tries again logs it once


class MqttClient(aiomqtt.Client):
    """One connection to a broker. Made, entered and used on one event loop's thread; entered once.

    Args: those of `aiomqtt.Client`.
    """

    def __init__(self, *where: Any, **options: Any) -> None:
        super().__init__(*where, logger=_log, **options)
        self._thread = threading.get_ident()
        self._given_up = False
        self._waits_for_line = False

    async def __aenter__(self) -> Self:
        """Connect. Raises: aiomqtt.MqttError; whatever is raised, nothing stays open."""
        try:
            return await super().__aenter__()
        except BaseException:
            self._close()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say goodbye, and close. Raises: aiomqtt.MqttError that ended the connection."""
        try:
            await super().__aexit__(kind, error, trace)
        finally:
            self._close()

    def _close(self) -> None:
        self._given_up = True
        self._client._sock_close()
        if self._misc_task is not None:
            self._misc_task.cancel()
        for ended in (self._connected, self._disconnected):
            if ended.done() and not ended.cancelled():
                ended.exception()  # has been seen

    def _client_connect(self) -> None:
        """On a thread."""
        super()._client_connect()
        self._loop.call_soon_threadsafe(self._watch)

    def _watch(self) -> None:
        """Let the loop serve the line, on which the greeting waits to be written."""
        line = self._client.socket()
        if self._given_up or line is None:
            self._close()
            return
        self._loop.add_reader(line.fileno(), self._read)
        self._misc_task = self._loop.create_task(self._misc_loop(), name="mqtt keep-alive")
        if self._client.want_write():
            self._await_line(line)

    def _await_line(self, line: Any) -> None:
        self._waits_for_line = True
        self._loop.add_writer(line.fileno(), self._write)

    def _read(self) -> None:
        try:
            self._client.loop_read()
            while isinstance(line := self._client.socket(), ssl.SSLSocket) and line.pending():
                self._client.loop_read()
        except Exception as error:  # noqa: BLE001 - whatever paho raises here, the connection is lost
            self._lost(error)

    def _write(self) -> None:
        try:
            self._client.loop_write()
        except Exception as error:  # noqa: BLE001 - the same
            self._lost(error)

    def _lost(self, error: Exception) -> None:
        if not self._disconnected.done():
            self._disconnected.set_exception(error)

    def _on_socket_open(self, client: Any, userdata: Any, sock: Any) -> None:
        """Still on the thread that connects: `_watch` follows."""

    def _on_socket_register_write(self, client: Any, userdata: Any, sock: Any) -> None:
        if threading.get_ident() == self._thread:
            self._await_line(sock)

    def _on_socket_unregister_write(self, client: Any, userdata: Any, sock: Any) -> None:
        if self._waits_for_line:
            self._waits_for_line = False
            super()._on_socket_unregister_write(client, userdata, sock)

    def _on_disconnect(self, *told: Any, **more: Any) -> None:
        """Give an attempt up as soon as the line is closed before the broker has answered, as a proxy does whose broker
        is away; aiomqtt itself would wait for its whole timeout."""
        if self._connected.cancelled():
            return
        if self._connected.done():
            super()._on_disconnect(*told, **more)
        else:
            self._connected.set_exception(aiomqtt.MqttError("the line was closed before the broker answered"))

    async def _wait_for(self, awaited: Awaitable[T], timeout: float | None) -> T:  # noqa: ASYNC109 - the library's
        try:
            async with asyncio.timeout(self.timeout if timeout is None else timeout):
                return await awaited
        except TimeoutError:
            raise aiomqtt.MqttError("the broker does not answer") from None
