"""The client without its detours.

aiomqtt makes a task and a timer for each message that comes or goes, and has the event loop call it back for every
write. A batch alone paid 0.3 ms of CPU for that. Here a message is written as it is published, the loop being asked
only when the line is full; confirmations and messages that come in each complete a future.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import aiomqtt
from paho.mqtt import client as paho
from paho.mqtt.enums import MQTTErrorCode

from agent.logging import event_log
from shared.mqtt import MqttClient

INCOMING_MAX = 1_000
"""Messages of the hub that may wait; acknowledgements beyond it are lost, and their batches sent again."""

_log = event_log("link")


class Connection(MqttClient):
    """One connection to a broker. Made, entered and used on one event loop's thread; entered once.

    Args: those of `aiomqtt.Client`.
    """

    def __init__(self, *where: Any, **options: Any) -> None:
        super().__init__(*where, **options)
        self._unconfirmed: dict[int, asyncio.Future[None]] = {}
        self._incoming: asyncio.Queue[tuple[str, bytes] | None] = asyncio.Queue(INCOMING_MAX + 1)
        self._dropped = 0
        self._disconnected.add_done_callback(self._ended)

    async def send(self, topic: str, payload: bytes, *, qos: int, retain: bool = False) -> None:
        """Returns when the broker has confirmed (QoS 1) or the line has taken it (QoS 0).

        Raises: aiomqtt.MqttError, also when that takes longer than `timeout`.
        """
        sent = self._client.publish(topic, payload, qos, retain)
        if sent.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise aiomqtt.MqttCodeError(sent.rc, "could not publish")
        if sent.is_published():
            return
        confirmed = self._unconfirmed[sent.mid] = self._loop.create_future()
        late = self._loop.call_later(self.timeout, _give_up, confirmed)
        try:
            await confirmed
        finally:
            late.cancel()
            self._unconfirmed.pop(sent.mid, None)

    async def received(self) -> AsyncIterator[tuple[str, bytes]]:
        """Topic and payload of each message. Raises: aiomqtt.MqttError when the connection is lost."""
        while (message := await self._incoming.get()) is not None:
            yield message
        raise aiomqtt.MqttError("the connection was lost") from self._disconnected.exception()

    def _ended(self, disconnected: asyncio.Future[None]) -> None:
        disconnected.exception()  # has been seen
        self._incoming.put_nowait(None)  # for which there is always room

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        if self._incoming.qsize() < INCOMING_MAX:
            self._incoming.put_nowait((message.topic, bytes(message.payload)))
            return
        if not self._dropped:
            _log.warning("messages_of_the_hub_dropped", waiting=INCOMING_MAX)
        self._dropped += 1

    def _on_publish(self, client: paho.Client, userdata: Any, mid: int, *more: Any) -> None:
        confirmed = self._unconfirmed.pop(mid, None)
        if confirmed is None:
            super()._on_publish(client, userdata, mid, *more)
        elif not confirmed.done():
            confirmed.set_result(None)

    def _on_socket_register_write(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        """There is something to write. On the loop's thread and outside of a callback it is written here and now."""
        if threading.get_ident() != self._thread or client._in_callback_mutex.locked():
            super()._on_socket_register_write(client, userdata, sock)
            return
        self._write()
        if client.want_write() and client.socket() is not None:
            self._await_line(sock)


def _give_up(confirmed: asyncio.Future[None]) -> None:
    if not confirmed.done():
        confirmed.set_exception(aiomqtt.MqttError("the broker does not confirm"))
