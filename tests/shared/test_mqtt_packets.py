"""MQTT's packets, compared with what the embedded broker makes of them, which was written apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labrelay.up.mqtt import packets as broker
from shared.mqtt_packets import LENGTH_MAX, PUBACK, PUBLISH, Inflow, Malformed, Message, confirm, publish

CONNECT = bytes.fromhex("100f00044d5154540402003c0003616263")
"""The embedded broker listens to nobody who does not begin with it."""

topics = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="+#\0"), min_size=1, max_size=60)
payloads = st.one_of(st.binary(max_size=300), st.integers(100, 40_000).map(bytes))
messages = st.builds(Message, topics, payloads, st.integers(0, 65_535), st.booleans())


@given(messages)
def test_what_is_published_is_what_a_broker_reads(message: Message) -> None:
    splitter = broker.Splitter()
    line = CONNECT + publish(message.topic, message.payload, mid=message.mid, retain=message.retain)
    _, frame = splitter.feed(line)
    read = broker.parse_publish(frame)
    assert read.packet_id == (message.mid or None)
    assert read.message == broker.Message(message.topic, message.payload, 1 if message.mid else 0, message.retain)


@given(messages)
def test_what_a_broker_publishes_is_read_as_it_was_meant(message: Message) -> None:
    sent = broker.Message(message.topic, message.payload, 1, message.retain)
    line = broker.publish(sent, 1 if message.mid else 0, message.mid or None)
    [packet] = Inflow().take(line)
    assert packet.is_message
    assert packet.message() == message


@given(st.lists(messages, max_size=5), st.data())
def test_packets_come_whole_however_the_line_cuts_them(sent: list[Message], data: st.DataObject) -> None:
    line = b"".join(publish(one.topic, one.payload, mid=one.mid, retain=one.retain) for one in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(line)), max_size=8)))
    inflow, got = Inflow(), []
    for begin, end in zip([0, *cuts], [*cuts, len(line)], strict=True):
        got += [packet.message() for packet in inflow.take(line[begin:end])]
    assert got == sent


@given(st.integers(1, 65_535))
def test_a_confirmation_is_the_brokers(mid: int) -> None:
    assert confirm(mid) == broker.acknowledgement(broker.Type.PUBACK, mid)
    [packet] = Inflow().take(confirm(mid))
    assert (packet.kind, packet.confirmed(), packet.is_message) == (PUBACK, mid, False)


def test_a_message_that_takes_more_than_one_confirmation_is_none_of_ours() -> None:
    [packet] = Inflow().take(broker.publish(broker.Message("t", b"", 2, False), 2, 7))
    assert packet.kind == PUBLISH
    assert not packet.is_message


@given(st.binary(max_size=60))
def test_any_bytes_are_packets_or_malformed(line: bytes) -> None:
    try:
        for packet in Inflow().take(line):
            packet.confirmed()
            if packet.is_message:
                packet.message()
    except Malformed:
        pass


@pytest.mark.parametrize("line", [b"\x30\xff\xff\xff\xff\x01", b"\x30\x00", b"\x30\x03\x00\x05t", b"\x32\x03\x00\x01t"])
def test_a_packet_that_contradicts_itself_is_malformed(line: bytes) -> None:
    with pytest.raises(Malformed):
        [packet.message() for packet in Inflow().take(line)]


def test_a_topic_that_is_no_text_is_nobodys() -> None:
    [packet] = Inflow().take(b"\x30\x04\x00\x02\xff\xfe")
    assert packet.message().topic == "\ufffd\ufffd"


@pytest.mark.parametrize("topic", ["", "a/+", "a/#", "a" * 65_536])
def test_nothing_is_published_where_nothing_can_be(topic: str) -> None:
    with pytest.raises(ValueError, match="nothing can be published"):
        publish(topic, b"", mid=0, retain=False)


def test_a_message_beyond_what_mqtt_can_count_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        publish("t", bytes(LENGTH_MAX), mid=0, retain=False)
