"""One connection to the broker, and what has come over it until somebody takes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiomqtt

from agent.logging import event_log
from shared.mqtt_line import MqttLine

INCOMING_MAX = 1_000
"""Messages of the hub that may wait; acknowledgements beyond it are lost, and their batches sent again."""

_log = event_log("link")


class Connection(MqttLine):
    """One connection to a broker. Made, entered and used on one event loop's thread; entered once.

    Args: those of `aiomqtt.Client`.
    """

    def __init__(self, *where: Any, **options: Any) -> None:
        super().__init__(*where, **options)
        self._incoming: asyncio.Queue[tuple[str, bytes] | None] = asyncio.Queue(INCOMING_MAX + 1)
        self._dropped = 0

    async def received(self) -> AsyncIterator[tuple[str, bytes]]:
        """Topic and payload of each message. Raises: aiomqtt.MqttError when the connection is lost."""
        while (message := await self._incoming.get()) is not None:
            yield message
        raise aiomqtt.MqttError("the connection was lost") from self._disconnected.exception()

    def came(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Queue a message, or drop and count it."""
        if self._incoming.qsize() < INCOMING_MAX:
            self._incoming.put_nowait((topic, payload))
            return
        if not self._dropped:
            _log.warning("messages_of_the_hub_dropped", waiting=INCOMING_MAX)
        self._dropped += 1

    def _ended(self, disconnected: asyncio.Future[None]) -> None:
        super()._ended(disconnected)
        self._incoming.put_nowait(None)  # for which there is always room
