"""One client of the broker: its packets in, its messages out, its keep-alive and its will.

::

    CONNECT ──► authenticating (nothing is read) ──► connected ──► closed
       │ 10 s                                           │ 1.5 × keep-alive without a packet
       └──► closed                                      └──► closed, the will is published

Messages to a client are bounded: `IN_FLIGHT_MAX` unacknowledged, `QUEUED_MAX` more waiting, and nothing of QoS 0 while
its line is full. What is beyond is dropped, counted, and logged once a connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from labrelay.up.mqtt import filters, packets
from labrelay.up.mqtt.credentials import User
from labrelay.up.mqtt.packets import Connect, Frame, MalformedPacket, Message, Refusal, Type

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S: Final = 10.0
IN_FLIGHT_MAX: Final = 200
QUEUED_MAX: Final = 20_000
QUEUED_BYTES_MAX: Final = 256 * 1024 * 1024
LINE_BYTES_MAX: Final = 4 * 1024 * 1024
SUBSCRIPTIONS_MAX: Final = 1000
_PACKET_IDS = 0xFFFF


class Hub(Protocol):
    """What a connection needs of its broker."""

    def opened(self, connection: Connection) -> bool:
        """A TCP connection came. Returns: whether there is room for it."""
        ...

    def authenticate(self, connection: Connection, connect: Connect) -> None:
        """Calls `connection.admit` or `connection.refuse`, later."""
        ...

    def publish(self, message: Message) -> None:
        """Distribute to all subscribers."""
        ...

    def subscribed(self, connection: Connection, topic_filter: str, qos: int) -> None:
        """A filter was added: retained messages are due, and routes have changed."""
        ...

    def unsubscribed(self) -> None:
        """Routes have changed."""
        ...

    def closed(self, connection: Connection) -> None:
        """The connection is gone."""
        ...


class Connection(asyncio.Protocol):
    """A client's TCP connection and all that belongs to it; nothing outlives it."""

    def __init__(self, hub: Hub) -> None:
        self.client_id = ""
        self.username = ""
        self.user: User | None = None
        self.subscriptions: dict[str, int] = {}
        self.dropped = 0
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._splitter = packets.Splitter(packets.CONNECT_BYTES_MAX)
        self._waiting_frames: list[Frame] = []
        self._connect: Connect | None = None
        self._will: Message | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._heard_s = 0.0
        self._line_full = False
        self._next_id = 0
        self._in_flight: set[int] = set()
        self._queue: deque[Message] = deque()
        self._queued_bytes = 0
        self._received_twice: set[int] = set()
        self._denied: set[str] = set()
        self._handlers: dict[Type, Callable[[Frame], None]] = {
            Type.PUBLISH: self._on_publish,
            Type.PUBACK: self._on_puback,
            Type.PUBREL: self._on_pubrel,
            Type.SUBSCRIBE: self._on_subscribe,
            Type.UNSUBSCRIBE: self._on_unsubscribe,
            Type.PINGREQ: lambda _: self._send(packets.pingresp()),
            Type.DISCONNECT: self._on_disconnect,
        }

    def __str__(self) -> str:
        return f"{self.username or '?'}/{self.client_id or '?'}"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for CONNECT."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=LINE_BYTES_MAX)
        if not self._hub.opened(self):
            transport.abort()
            return
        self._deadline = self._loop.call_later(CONNECT_TIMEOUT_S, self.abort, "no CONNECT")

    def data_received(self, data: bytes) -> None:
        """Handle the packets that are complete."""
        self._heard_s = self._loop.time()
        try:
            frames = self._splitter.feed(data)
            if self.user is None:
                self._before_admission(frames)
            else:
                self._handle(frames)
        except MalformedPacket as error:
            self.abort(f"malformed packet: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        """Publish the will unless the client took leave."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._queue.clear()
        self._hub.closed(self)
        if self._will is not None and self.user is not None and self.user.may_publish(self._will.topic):
            self._hub.publish(self._will)
        self._transport = None

    def pause_writing(self) -> None:
        """The line is full: messages of QoS 0 are dropped, others wait."""
        self._line_full = True

    def resume_writing(self) -> None:
        """The line takes bytes again."""
        self._line_full = False
        self._send_queued()

    @property
    def open(self) -> bool:
        """Whether anything can still be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def admit(self, user: User) -> None:
        """The broker knows this client."""
        if self._connect is None or self._transport is None or self._deadline is None:
            return  # gone in the meantime
        self._deadline.cancel()
        self.user = user
        self._splitter.bytes_max = packets.PACKET_BYTES_MAX
        self._will = self._connect.will
        self._send(packets.connack(Refusal.ACCEPTED))
        self._watch_keep_alive()
        self._transport.resume_reading()
        frames, self._waiting_frames = self._waiting_frames, []
        try:
            self._handle(frames)
        except MalformedPacket as error:
            self.abort(f"malformed packet: {error}")

    def refuse(self, refusal: Refusal) -> None:
        """Tell the client why it cannot stay."""
        if self._transport is not None:
            self._send(packets.connack(refusal))
            self._transport.close()

    def abort(self, why: str) -> None:
        """End the connection; the will, if any, is published."""
        if self.open and self._transport is not None:
            log.info("%s: closed: %s", self, why)
            self._transport.abort()

    def deliver(self, message: Message, qos: int) -> None:
        """Send a message to this client, or queue it, or drop it."""
        if not self.open:
            return
        if qos == 0 or message.qos == 0:
            if self._line_full:
                self._drop()
            else:
                self._send(packets.publish(message, 0, None))
        elif len(self._queue) >= QUEUED_MAX or self._queued_bytes >= QUEUED_BYTES_MAX:
            self._drop()
        else:
            self._queue.append(message)
            self._queued_bytes += len(message.payload)
            self._send_queued()

    def _drop(self) -> None:
        self.dropped += 1
        if self.dropped == 1:
            log.warning("%s: does not keep up, messages to it are dropped", self)

    def _send_queued(self) -> None:
        while self._queue and len(self._in_flight) < IN_FLIGHT_MAX and not self._line_full and self.open:
            message = self._queue.popleft()
            self._queued_bytes -= len(message.payload)
            self._send(packets.publish(message, 1, self._new_packet_id()))

    def _new_packet_id(self) -> int:
        while True:
            self._next_id = self._next_id % _PACKET_IDS + 1
            if self._next_id not in self._in_flight:
                self._in_flight.add(self._next_id)
                return self._next_id

    def _send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _before_admission(self, frames: list[Frame]) -> None:
        if not frames or self._transport is None:
            return
        if self._connect is not None:
            raise MalformedPacket("a packet before CONNACK")
        first, *self._waiting_frames = frames
        self._connect = packets.parse_connect(first)
        if self._connect.level != packets.PROTOCOL_LEVEL:
            self.refuse(Refusal.PROTOCOL_VERSION)
            return
        self.client_id = self._connect.client_id
        self.username = self._connect.username or ""
        self._transport.pause_reading()
        self._hub.authenticate(self, self._connect)

    def _watch_keep_alive(self) -> None:
        if not self.open or self._connect is None or not self._connect.keep_alive_s:
            return
        silent_s = self._loop.time() - self._heard_s
        left_s = self._connect.keep_alive_s * 1.5 - silent_s
        if left_s <= 0:
            self.abort("nothing heard for one and a half keep-alive intervals")
        else:
            self._deadline = self._loop.call_later(left_s, self._watch_keep_alive)

    def _handle(self, frames: list[Frame]) -> None:
        for frame in frames:
            if not self.open:
                return
            handler = self._handlers.get(frame.type)
            if handler is None:
                raise MalformedPacket(f"{frame.type.name} from a client")
            handler(frame)

    def _on_publish(self, frame: Frame) -> None:
        published = packets.parse_publish(frame)
        repeated = published.packet_id in self._received_twice
        if not repeated:
            self._forward(published.message)
        if published.packet_id is None:
            return
        if published.message.qos == 1:
            self._send(packets.acknowledgement(Type.PUBACK, published.packet_id))
            return
        if len(self._received_twice) >= IN_FLIGHT_MAX * 10:
            raise MalformedPacket("too many messages of QoS 2 without PUBREL")
        self._received_twice.add(published.packet_id)
        self._send(packets.acknowledgement(Type.PUBREC, published.packet_id))

    def _forward(self, message: Message) -> None:
        if self.user is not None and self.user.may_publish(message.topic) and not message.topic.startswith("$"):
            self._hub.publish(message)
        elif message.topic not in self._denied and len(self._denied) < 100:
            self._denied.add(message.topic)
            log.warning("%s: may not publish to %s", self, message.topic)

    def _on_puback(self, frame: Frame) -> None:
        self._in_flight.discard(packets.parse_packet_id(frame))
        self._send_queued()

    def _on_pubrel(self, frame: Frame) -> None:
        packet_id = packets.parse_packet_id(frame)
        self._received_twice.discard(packet_id)
        self._send(packets.acknowledgement(Type.PUBCOMP, packet_id))

    def _on_subscribe(self, frame: Frame) -> None:
        subscribe = packets.parse_subscribe(frame)
        granted = [self._grant(topic_filter, qos) for topic_filter, qos in subscribe.filters]
        self._send(packets.suback(subscribe.packet_id, granted))
        for (topic_filter, _), qos in zip(subscribe.filters, granted, strict=True):
            if qos != packets.SUBSCRIPTION_REFUSED:
                self._hub.subscribed(self, topic_filter, qos)

    def _grant(self, topic_filter: str, qos: int) -> int:
        full = len(self.subscriptions) >= SUBSCRIPTIONS_MAX
        if full or not filters.valid(topic_filter) or self.user is None or not self.user.may_subscribe(topic_filter):
            log.warning("%s: may not subscribe to %s", self, topic_filter)
            return packets.SUBSCRIPTION_REFUSED
        self.subscriptions[topic_filter] = min(qos, 1)
        return min(qos, 1)

    def _on_unsubscribe(self, frame: Frame) -> None:
        unsubscribe = packets.parse_subscribe(frame)
        for topic_filter, _ in unsubscribe.filters:
            self.subscriptions.pop(topic_filter, None)
        self._hub.unsubscribed()
        self._send(packets.acknowledgement(Type.UNSUBACK, unsubscribe.packet_id))

    def _on_disconnect(self, _: Frame) -> None:
        self._will = None
        if self._transport is not None:
            self._transport.close()
