"""Packets, against bytes written down by hand from the standard, and against any bytes at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labrelay.up.mqtt import packets
from labrelay.up.mqtt.packets import Frame, MalformedPacket, Message, Splitter, Type

CONNECT = bytes.fromhex("1019 0004 4d515454 04 c2 003c 0003 616263 0002 7573 0004 70617373".replace(" ", ""))
PARSERS = {
    Type.CONNECT: packets.parse_connect,
    Type.PUBLISH: packets.parse_publish,
    Type.SUBSCRIBE: packets.parse_subscribe,
    Type.UNSUBSCRIBE: packets.parse_subscribe,
    Type.PUBACK: packets.parse_packet_id,
}


def _connected() -> Splitter:
    splitter = Splitter()
    splitter.feed(CONNECT)
    return splitter


def test_a_connect_packet_is_read() -> None:
    (frame,) = Splitter().feed(CONNECT)
    connect = packets.parse_connect(frame)
    assert (connect.client_id, connect.username, connect.password) == ("abc", "us", b"pass")
    assert connect.clean_session
    assert connect.keep_alive_s == 60
    assert connect.will is None


@given(
    topic=st.text(alphabet="abc/µ", min_size=1), payload=st.binary(max_size=300), qos=st.integers(0, 1), cut=st.data()
)
def test_a_message_survives_the_way_however_it_is_cut(topic: str, payload: bytes, qos: int, cut: st.DataObject) -> None:
    message = Message(topic, payload, qos, retain=False)
    data = packets.publish(message, qos, 7 if qos else None) * 2
    at = cut.draw(st.integers(0, len(data)))
    splitter = _connected()
    frames = splitter.feed(data[:at]) + splitter.feed(data[at:])
    assert [packets.parse_publish(frame).message for frame in frames] == [message, message]


@given(st.binary(max_size=200))
def test_any_bytes_are_packets_or_malformed(data: bytes) -> None:
    try:
        for frame in _connected().feed(data):
            PARSERS.get(frame.type, lambda _: None)(frame)
    except MalformedPacket:
        pass


def test_a_packet_that_is_too_large_is_refused_from_its_header() -> None:
    with pytest.raises(MalformedPacket, match="268435455"):
        _connected().feed(b"\x30\xff\xff\xff\x7f")


def test_a_stream_that_does_not_begin_with_connect_is_refused_at_its_first_byte() -> None:
    with pytest.raises(MalformedPacket):
        Splitter().feed(b"G")


@pytest.mark.parametrize(
    "frame",
    [
        Frame(Type.PUBLISH, 0, b"\x00\x03a/+"),
        Frame(Type.PUBLISH, 0b0110, b"\x00\x01a\x00\x01"),
        Frame(Type.PUBLISH, 0b0010, b"\x00\x01a\x00\x00"),
        Frame(Type.SUBSCRIBE, 0, b"\x00\x01\x00\x01a\x00"),
        Frame(Type.SUBSCRIBE, 2, b"\x00\x01"),
        Frame(Type.CONNECT, 0, b"\x00\x04MQXX\x04\x02\x00\x00\x00\x00"),
    ],
)
def test_what_the_standard_forbids_is_malformed(frame: Frame) -> None:
    with pytest.raises(MalformedPacket):
        PARSERS[frame.type](frame)
