"""MQTT 3.1.1 on the line, as far as each message takes it: publishing, and confirming that. Pure.

============  ==========================================================================================
fixed header  a byte: the type in its upper half, for PUBLISH also dup, QoS (two bits) and retain;
              one to four bytes: the length of what follows, seven bits each, the lowest first
PUBLISH       topic (two bytes of length, UTF-8), id (two bytes; not with QoS 0), payload
PUBACK        id (two bytes)
============  ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

PUBLISH, PUBACK = 3, 4
"""Types of packets."""
LENGTH_MAX = (1 << 28) - 1
TOPIC_BYTES_MAX = 65_535
_LENGTH_BYTES_MAX = 4
_RETAIN, _QOS_1, _QOS_2 = 0x01, 0x02, 0x04


class Malformed(ValueError):
    """The other side does not speak MQTT."""


@dataclass(frozen=True, slots=True)
class Message:
    """What came with a PUBLISH.

    Attributes:
        mid: its id, which is to be confirmed; 0 where it is not.
    """

    topic: str
    payload: bytes
    mid: int
    retain: bool


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet of any type.

    Attributes:
        whole: as it stood on the line.
        body_at: where its fixed header ends.
    """

    whole: bytes
    body_at: int

    @property
    def kind(self) -> int:
        """Its type."""
        return self.whole[0] >> 4

    @property
    def is_message(self) -> bool:
        """Whether it is a PUBLISH that takes no more than one confirmation."""
        return self.kind == PUBLISH and not self.whole[0] & _QOS_2

    def message(self) -> Message:
        """What a PUBLISH holds. Raises: Malformed."""
        whole, topic_at = self.whole, self.body_at + 2
        topic_end = topic_at + int.from_bytes(whole[self.body_at : topic_at], "big")
        payload_at = topic_end + 2 if whole[0] & _QOS_1 else topic_end
        if len(whole) < max(payload_at, topic_at):
            raise Malformed("a message that ends within its header")
        topic = whole[topic_at:topic_end].decode(errors="replace")  # brokers let no other in; nothing is for such a one
        mid = int.from_bytes(whole[topic_end:payload_at], "big")
        return Message(topic, whole[payload_at:], mid, bool(whole[0] & _RETAIN))

    def confirmed(self) -> int:
        """The id that a PUBACK confirms; 0 where it holds none."""
        return int.from_bytes(self.whole[self.body_at : self.body_at + 2], "big")


class Inflow:
    """Takes bytes as they come, and gives packets when they are whole."""

    def __init__(self) -> None:
        self._held = bytearray()

    def take(self, part: bytes) -> Iterator[Packet]:
        """The packets that are whole with this. Raises: Malformed."""
        held = self._held
        held += part
        at = 0
        try:
            while (bounds := _bounds(held, at)) is not None:
                begin, (body_at, at) = at, bounds
                yield Packet(bytes(held[begin:at]), body_at - begin)
        finally:
            del held[:at]


def _bounds(held: bytearray, at: int) -> tuple[int, int] | None:
    """Where the body of the packet at this place begins and ends; None while it is not whole."""
    length = 0
    for place in range(_LENGTH_BYTES_MAX):
        body_at = at + 2 + place
        if len(held) < body_at:
            return None
        byte = held[body_at - 1]
        length |= (byte & 0x7F) << (7 * place)
        if not byte & 0x80:
            end = body_at + length
            return (body_at, end) if len(held) >= end else None
    raise Malformed("a packet whose length has more than four bytes")


def publish(topic: str, payload: bytes, *, mid: int, retain: bool) -> bytes:
    """A PUBLISH: of QoS 1 with an id, of QoS 0 with 0 for none. Raises: ValueError for what MQTT cannot say."""
    name = topic.encode()
    if not 0 < len(name) <= TOPIC_BYTES_MAX or "+" in topic or "#" in topic:
        raise ValueError(f"nothing can be published to {topic!r}")
    length = 2 + len(name) + (2 if mid else 0) + len(payload)
    if length > LENGTH_MAX:
        raise ValueError(f"a message of {len(payload)} bytes is too long for MQTT")
    head = bytearray((PUBLISH << 4 | (_QOS_1 if mid else 0) | (_RETAIN if retain else 0),))
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return b"".join((head, len(name).to_bytes(2, "big"), name, mid.to_bytes(2, "big") if mid else b"", payload))


def confirm(mid: int) -> bytes:
    """A PUBACK."""
    return bytes((PUBACK << 4, 2, mid >> 8, mid & 0xFF))
