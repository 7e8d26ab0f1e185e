"""MQTT 3.1.1 packets as pure functions on bytes (OASIS standard, 29 October 2014).

::

    type << 4 | flags     1 byte
    remaining length      1 to 4 bytes, 7 bits each, least significant first
    body                  as many bytes; strings and packet ids are big-endian, strings prefixed by 2 bytes of length

Everything that comes from outside is bounded before it is kept: a packet may have `PACKET_BYTES_MAX`, and is refused
from its header alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

PACKET_BYTES_MAX: Final = 8 * 1024 * 1024
CONNECT_BYTES_MAX: Final = 256 * 1024
PROTOCOL_LEVEL: Final = 4
_TOPICS_MAX: Final = 1000


class Type(IntEnum):
    """The high four bits of a packet's first byte."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14


class Refusal(IntEnum):
    """Return codes of CONNACK; 0 is acceptance."""

    ACCEPTED = 0
    PROTOCOL_VERSION = 1
    IDENTIFIER = 2
    UNAVAILABLE = 3
    NOT_AUTHORISED = 5


SUBSCRIPTION_REFUSED: Final = 0x80


class MalformedPacket(Exception):
    """Bytes that are not MQTT 3.1.1; the connection cannot go on."""


@dataclass(frozen=True, slots=True)
class Message:
    """What is published: a topic, a payload, and how."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


@dataclass(frozen=True, slots=True)
class Connect:
    """A client introduces itself."""

    level: int
    client_id: str
    clean_session: bool
    keep_alive_s: int
    username: str | None
    password: bytes | None
    will: Message | None


@dataclass(frozen=True, slots=True)
class Publish:
    """A message, with the packet id that is to be acknowledged (None for QoS 0)."""

    message: Message
    packet_id: int | None


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Topic filters and the QoS wished for each; for UNSUBSCRIBE the QoS says nothing."""

    packet_id: int
    filters: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """One packet, not yet understood."""

    type: Type
    flags: int
    body: bytes


class Splitter:
    """Cuts a stream of bytes into packets.

    Attributes:
        bytes_max: the largest packet taken; small until the client is known.
    """

    def __init__(self, bytes_max: int = PACKET_BYTES_MAX) -> None:
        self.bytes_max = bytes_max
        self._buffer = bytearray()
        self._begun = False

    def feed(self, data: bytes) -> list[Frame]:
        """The packets that are complete now. Raises: MalformedPacket, at once for what does not begin with CONNECT."""
        if not self._begun and data:
            self._begun = True
            if data[0] != Type.CONNECT << 4:
                raise MalformedPacket("the first packet is not CONNECT")
        self._buffer += data
        frames = []
        start = 0
        while (found := self._next(start)) is not None:
            frame, start = found
            frames.append(frame)
        if start:
            del self._buffer[:start]
        return frames

    def _next(self, start: int) -> tuple[Frame, int] | None:
        length = shift = 0
        at = start + 1
        while True:
            if at >= len(self._buffer):
                return None
            byte = self._buffer[at]
            at += 1
            length |= (byte & 0x7F) << shift
            if not byte & 0x80:
                break
            shift += 7
            if shift > 21:
                raise MalformedPacket("remaining length of more than four bytes")
        if length > self.bytes_max:
            raise MalformedPacket(f"a packet of {length} bytes")
        if len(self._buffer) < at + length:
            return None
        first = self._buffer[start]
        try:
            kind = Type(first >> 4)
        except ValueError:
            raise MalformedPacket(f"packet type {first >> 4}") from None
        return Frame(kind, first & 0x0F, bytes(self._buffer[at : at + length])), at + length


class _Reader:
    """Takes fields from the front of a body."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def take(self, count: int) -> bytes:
        taken = self._body[self._at : self._at + count]
        if len(taken) < count:
            raise MalformedPacket("shorter than it says")
        self._at += count
        return taken

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def blob(self) -> bytes:
        return self.take(self.number(2))

    def text(self) -> str:
        try:
            text = self.blob().decode()
        except UnicodeDecodeError:
            raise MalformedPacket("a string that is not UTF-8") from None
        if "\0" in text:
            raise MalformedPacket("a string with a null character")
        return text

    def rest(self) -> bytes:
        return self._body[self._at :]

    @property
    def done(self) -> bool:
        return self._at >= len(self._body)


def parse_connect(frame: Frame) -> Connect:
    """Raises: MalformedPacket."""
    reader = _Reader(frame.body)
    if reader.text() not in ("MQTT", "MQIsdp"):
        raise MalformedPacket("not MQTT")
    level = reader.number(1)
    flags = reader.number(1)
    keep_alive_s = reader.number(2)
    if level != PROTOCOL_LEVEL:
        return Connect(level, "", True, keep_alive_s, None, None, None)
    if flags & 1:
        raise MalformedPacket("reserved flag set")
    client_id = reader.text()
    will = None
    if flags & 0x04:
        topic, payload = reader.text(), reader.blob()
        will = Message(topic, payload, _qos(flags >> 3 & 3), bool(flags & 0x20))
    username = reader.text() if flags & 0x80 else None
    password = reader.blob() if flags & 0x40 else None
    return Connect(level, client_id, bool(flags & 2), keep_alive_s, username, password, will)


def parse_publish(frame: Frame) -> Publish:
    """Raises: MalformedPacket."""
    reader = _Reader(frame.body)
    topic = reader.text()
    if not topic or "+" in topic or "#" in topic:
        raise MalformedPacket("a topic name with wildcards, or none")
    qos = _qos(frame.flags >> 1 & 3)
    packet_id = _packet_id(reader) if qos else None
    return Publish(Message(topic, reader.rest(), qos, bool(frame.flags & 1)), packet_id)


def parse_subscribe(frame: Frame) -> Subscribe:
    """SUBSCRIBE or UNSUBSCRIBE. Raises: MalformedPacket."""
    if frame.flags != 2:
        raise MalformedPacket("reserved flags")
    reader = _Reader(frame.body)
    packet_id = _packet_id(reader)
    filters = []
    while not reader.done:
        topic = reader.text()
        filters.append((topic, _qos(reader.number(1)) if frame.type is Type.SUBSCRIBE else 0))
        if len(filters) > _TOPICS_MAX:
            raise MalformedPacket("too many topic filters")
    if not filters:
        raise MalformedPacket("no topic filter")
    return Subscribe(packet_id, tuple(filters))


def parse_packet_id(frame: Frame) -> int:
    """Of an acknowledgement. Raises: MalformedPacket."""
    return _packet_id(_Reader(frame.body))


def _packet_id(reader: _Reader) -> int:
    packet_id = reader.number(2)
    if not packet_id:
        raise MalformedPacket("packet id 0")
    return packet_id


def _qos(value: int) -> int:
    if value > 2:
        raise MalformedPacket("QoS 3")
    return value


def connack(refusal: Refusal) -> bytes:
    """Sessions are never kept, so `session present` is never set."""
    return bytes((Type.CONNACK << 4, 2, 0, refusal))


def acknowledgement(kind: Type, packet_id: int) -> bytes:
    """PUBACK, PUBREC, PUBCOMP or UNSUBACK."""
    return bytes((kind << 4, 2)) + packet_id.to_bytes(2, "big")


def suback(packet_id: int, granted: list[int]) -> bytes:
    """One byte a filter: the QoS granted, or `SUBSCRIPTION_REFUSED`."""
    return _packet(Type.SUBACK, 0, packet_id.to_bytes(2, "big") + bytes(granted))


def pingresp() -> bytes:
    """The answer to PINGREQ."""
    return bytes((Type.PINGRESP << 4, 0))


def publish(message: Message, qos: int, packet_id: int | None) -> bytes:
    """A message on its way to a subscriber, at the subscription's QoS."""
    topic = message.topic.encode()
    head = len(topic).to_bytes(2, "big") + topic
    if packet_id is not None:
        head += packet_id.to_bytes(2, "big")
    return _packet(Type.PUBLISH, qos << 1 | message.retain, head + message.payload)


def _packet(kind: Type, flags: int, body: bytes) -> bytes:
    length = len(body)
    header = bytearray((kind << 4 | flags,))
    while True:
        length, low = divmod(length, 0x80)
        header.append(low | (0x80 if length else 0))
        if not length:
            return bytes(header) + body
