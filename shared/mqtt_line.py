"""The client without its detours: what every message pays for is done here, all else is the libraries'.

aiomqtt makes a task, an event and a timer for each message that comes or goes. paho reads a packet byte by byte, has
the event loop watch the line for each write, and builds some forty objects a message, a table of reason codes among
them. A batch alone paid half a millisecond of CPU for that, on either side. Here what has come is read in one go;
messages and confirmations of ours are dealt with at once, and every other packet is handed to paho, whole. What is sent
goes into paho's own queue of packets and is written as it is sent, the loop being asked only while the line is full. So
connecting, subscribing, keeping alive and parting stay where they were.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import aiomqtt
from paho.mqtt import client as paho
from paho.mqtt.enums import MQTTErrorCode

from shared.mqtt import MqttClient
from shared.mqtt_packets import PUBACK, Inflow, Packet, confirm, publish

READ_BYTES_MAX = 64 * 1024
UNCONFIRMED_MAX = 10_000
"""Messages that may wait for their confirmation at the same time."""


class MqttLine(MqttClient):
    """One connection to a broker. Made, entered and used on one event loop's thread; entered once.

    Args: those of `aiomqtt.Client`.
    """

    def __init__(self, *where: Any, **options: Any) -> None:
        super().__init__(*where, **options)
        self._unconfirmed: dict[int, asyncio.Future[None]] = {}
        self._unwritten: set[asyncio.Future[None]] = set()
        self._inflow = Inflow()
        self._receive = self._client._sock_recv
        self._for_paho: bytes | None = b""
        self._client._sock_recv = self._hand_to_paho  # type: ignore[method-assign]
        self._disconnected.add_done_callback(self._ended)

    async def send(self, topic: str, payload: bytes, *, qos: int, retain: bool = False) -> None:
        """Returns when the broker has confirmed (QoS 1) or the line has taken it (QoS 0).

        Raises: aiomqtt.MqttError, also when that takes longer than `timeout`; ValueError for what MQTT cannot say.
        """
        mid = self._client._mid_generate() if qos else 0
        packet = publish(topic, payload, mid=mid, retain=retain)
        if self._client.socket() is None or self._disconnected.done():
            raise aiomqtt.MqttCodeError(MQTTErrorCode.MQTT_ERR_NO_CONN, "could not publish")
        if qos:
            await self._send_confirmed(mid, packet)
            return
        self._put(packet)
        if self._client.want_write():
            written: asyncio.Future[None] = self._loop.create_future()
            self._unwritten.add(written)
            try:
                await self._within_timeout(written)
            finally:
                self._unwritten.discard(written)

    def came(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Called with each message that came, before it is confirmed; must not block."""
        raise NotImplementedError

    async def _send_confirmed(self, mid: int, packet: bytes) -> None:
        if mid in self._unconfirmed or len(self._unconfirmed) >= UNCONFIRMED_MAX:
            raise aiomqtt.MqttError("too many messages wait for their confirmation")
        confirmed = self._unconfirmed[mid] = self._loop.create_future()
        try:
            self._put(packet)
            await self._within_timeout(confirmed)
        finally:
            self._unconfirmed.pop(mid, None)

    async def _within_timeout(self, done: asyncio.Future[None]) -> None:
        late = self._loop.call_later(self.timeout, _give_up, done)
        try:
            await done
        finally:
            late.cancel()

    def _put(self, packet: bytes) -> None:
        """Write a packet, as far as the line takes it now, behind those that wait already."""
        self._client._out_packet.append(
            {"command": 0, "mid": 0, "qos": 0, "pos": 0, "to_process": len(packet), "packet": packet, "info": None}
        )
        if not self._waits_for_line:
            self._write()

    def _write(self) -> None:
        super()._write()
        if not self._client.want_write():
            for written in self._unwritten:
                if not written.done():
                    written.set_result(None)

    def _read(self) -> None:
        try:
            while self._read_some():
                pass
        except Exception as error:  # noqa: BLE001 - whatever is raised here, the connection is lost
            self._lost(error)

    def _read_some(self) -> bool:
        """Take what has come. Returns: whether there is more of which the loop does not know."""
        try:
            part = self._receive(READ_BYTES_MAX)
        except BlockingIOError:
            return False
        except OSError:
            part = b""
        if not part:
            self._give_to_paho(None)  # which makes of it that the connection is lost
            return False
        self._client._last_bytes_received = paho.time_func()  # a line that is heard of needs no ping
        self._deal_with(part)
        line = self._client.socket()
        return isinstance(line, ssl.SSLSocket) and line.pending() > 0

    def _deal_with(self, part: bytes) -> None:
        confirmations: list[bytes] = []
        for packet in self._inflow.take(part):
            if packet.is_message:
                message = packet.message()
                self.came(message.topic, message.payload, retain=message.retain)
                if message.mid:
                    confirmations.append(confirm(message.mid))
            elif not (packet.kind == PUBACK and self._is_confirmed(packet)):
                self._give_to_paho(packet.whole)
        if confirmations and self._client.socket() is not None:
            self._put(b"".join(confirmations))

    def _is_confirmed(self, packet: Packet) -> bool:
        """Whether it confirms a message of ours."""
        confirmed = self._unconfirmed.pop(packet.confirmed(), None)
        if confirmed is not None and not confirmed.done():
            confirmed.set_result(None)
        return confirmed is not None

    def _give_to_paho(self, packet: bytes | None) -> None:
        """Let paho read a packet, or, for None, the end of the line."""
        self._for_paho = packet
        self._client.loop_read()

    def _hand_to_paho(self, bufsize: int) -> bytes:
        if self._for_paho is None:
            return b""
        if not self._for_paho:
            raise BlockingIOError
        part, self._for_paho = self._for_paho[:bufsize], self._for_paho[bufsize:]
        return part

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        """One that takes more than one confirmation, which nobody subscribes to."""
        self.came(message.topic, bytes(message.payload), retain=message.retain)

    def _ended(self, disconnected: asyncio.Future[None]) -> None:
        if not disconnected.cancelled():
            disconnected.exception()  # has been seen
        for waiting in (*self._unconfirmed.values(), *self._unwritten):
            if not waiting.done():
                waiting.set_exception(aiomqtt.MqttError("the connection was lost"))


def _give_up(confirmed: asyncio.Future[None]) -> None:
    if not confirmed.done():
        confirmed.set_exception(aiomqtt.MqttError("the broker does not confirm"))
