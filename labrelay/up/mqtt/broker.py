"""The broker: who is connected, who gets what, and what is retained.

Sessions end with their connections (every client is treated as if it had asked for a clean session, and told so), and
what is retained ends with the broker: hub and agents publish their retained messages anew whenever they connect. A
client id belongs to a user, so that nobody can take over another's connection; nothing is done for a client before its
password was verified.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import ssl
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Self

from labrelay.up.mqtt import filters
from labrelay.up.mqtt.connection import Connection
from labrelay.up.mqtt.credentials import Credentials, User
from labrelay.up.mqtt.packets import Connect, Message, Refusal

log = logging.getLogger(__name__)

CONNECTIONS_MAX: Final = 1000
RETAINED_MAX: Final = 20_000
RETAINED_BYTES_MAX: Final = 128 * 1024 * 1024
FAILED_LOGIN_PAUSE_S: Final = 1.0
_LOGINS_AT_ONCE: Final = 2
_REFRESH_INTERVAL_S: Final = 0.5
_ROUTES_CACHED: Final = 4096

Route = list[tuple[Connection, int]]


@dataclass(frozen=True, slots=True)
class Listener:
    """Where to listen; port 0 for any free one."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None


class Broker:
    """An MQTT 3.1.1 broker. An async context manager: it serves while its context lasts."""

    def __init__(self, credentials: Credentials, listeners: list[Listener]) -> None:
        self.ports: list[int] = []
        self._credentials = credentials
        self._listeners = listeners
        self._servers: list[asyncio.Server] = []
        self._connections: set[Connection] = set()
        self._clients: dict[tuple[str, str], Connection] = {}
        self._retained: dict[str, Message] = {}
        self._retained_bytes = 0
        self._routes: dict[str, Route] = {}
        self._logins = asyncio.Semaphore(_LOGINS_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Listen. Raises: OSError when a port is taken."""
        self._credentials.refresh()
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            server = await loop.create_server(
                lambda: Connection(self), listener.host, listener.port, ssl=listener.tls, backlog=256
            )
            self._servers.append(server)
            self.ports.append(server.sockets[0].getsockname()[1])
        self._keep(self._watch_credentials(), "watch credentials")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.close()
        for connection in list(self._connections):
            connection.abort("the broker ends")
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.sleep(0)  # transports call `connection_lost` in the next round

    def opened(self, connection: Connection) -> bool:
        """Part of `connection.Hub`."""
        if len(self._connections) >= CONNECTIONS_MAX:
            log.error("more than %d connections, one refused", CONNECTIONS_MAX)
            return False
        self._connections.add(connection)
        return True

    def closed(self, connection: Connection) -> None:
        """Part of `connection.Hub`."""
        self._connections.discard(connection)
        key = (connection.username, connection.client_id)
        if self._clients.get(key) is connection:
            del self._clients[key]
            log.info("%s: gone, %d messages to it were dropped", connection, connection.dropped)
        self._routes.clear()

    def authenticate(self, connection: Connection, connect: Connect) -> None:
        """Part of `connection.Hub`. The password is hashed on another thread, two at a time."""
        self._keep(self._authenticate(connection, connect), f"authenticate {connection}")

    def publish(self, message: Message) -> None:
        """Part of `connection.Hub`."""
        if message.retain:
            self._retain(message)
        route = self._routes.get(message.topic)
        if route is None:
            route = self._find_route(message.topic)
        passing = replace(message, retain=False) if message.retain else message
        for connection, qos in route:
            connection.deliver(passing, qos)

    def subscribed(self, connection: Connection, topic_filter: str, qos: int) -> None:
        """Part of `connection.Hub`."""
        self._routes.clear()
        for topic, message in self._retained.items():
            if filters.matches(topic_filter, topic):
                connection.deliver(message, qos)

    def unsubscribed(self) -> None:
        """Part of `connection.Hub`."""
        self._routes.clear()

    async def _authenticate(self, connection: Connection, connect: Connect) -> None:
        self._refresh_credentials()  # whoever was enrolled a moment ago is let in
        user: User | None = None
        if connect.username is not None and connect.password is not None:
            async with self._logins:
                user = await asyncio.to_thread(self._credentials.verify, connect.username, connect.password)
        if user is None:
            log.warning("%s: wrong user or password", connection)
            await asyncio.sleep(FAILED_LOGIN_PAUSE_S)
            connection.refuse(Refusal.NOT_AUTHORISED)
            return
        if not connection.open:
            return
        connection.client_id = connection.client_id or f"anonymous-{secrets.token_hex(8)}"
        key = (connection.username, connection.client_id)
        if (before := self._clients.get(key)) is not None:
            before.abort("the same client connected again")
        self._clients[key] = connection
        log.info("%s: connected", connection)
        connection.admit(user)

    async def _watch_credentials(self) -> None:
        while True:
            await asyncio.sleep(_REFRESH_INTERVAL_S)
            self._refresh_credentials()

    def _refresh_credentials(self) -> None:
        if not self._credentials.refresh():
            return
        for connection in list(self._clients.values()):
            if self._credentials.users.get(connection.username) != connection.user:
                connection.abort("its user was changed or revoked")

    def _retain(self, message: Message) -> None:
        held = self._retained.pop(message.topic, None)
        self._retained_bytes -= len(held.payload) if held else 0
        if not message.payload:
            return
        if len(self._retained) >= RETAINED_MAX or self._retained_bytes + len(message.payload) > RETAINED_BYTES_MAX:
            log.error("no room to retain a message to %s", message.topic)
            return
        self._retained[message.topic] = message
        self._retained_bytes += len(message.payload)

    def _find_route(self, topic: str) -> Route:
        route = []
        for connection in self._clients.values():
            granted = [
                qos for topic_filter, qos in connection.subscriptions.items() if filters.matches(topic_filter, topic)
            ]
            if granted:
                route.append((connection, max(granted)))
        if len(self._routes) >= _ROUTES_CACHED:
            self._routes.clear()
        self._routes[topic] = route
        return route

    def _keep(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)
