"""Modbus TCP against a server that misbehaves: no wrong answer ever becomes a value."""

from __future__ import annotations

import itertools
import socket
import struct
import threading
import time

import pytest

from shared.errors import InstrumentTimeout, InstrumentUnavailable, InvalidAnswer, RequestRefused

POINTS = {"a": {"register": "holding:0"}, "b": {"register": "holding:1"}}


def answer(request, *values, unit=None, transaction=None, function=None):
    """The proper frame that answers `request`, or one that differs in a point."""
    data = struct.pack(f">{len(values)}H", *values)
    own_unit, own_function = request[6], request[7]
    pdu = bytes([function or own_function, len(data)]) + data
    head = struct.pack(">HHH", transaction or int.from_bytes(request[:2], "big"), 0, len(pdu) + 1)
    return head + bytes([own_unit if unit is None else unit]) + pdu


def misbehave_once(how):
    """Do `how(request, send)` to the first request, answer the others with 7 and 8."""
    requests = itertools.count()

    def behave(request, send):
        if next(requests) == 0:
            return how(request, send)
        send(answer(request, 7, 8))
        return None

    return behave


ODD_ANSWERS = {
    "another unit": (lambda request, send: send(answer(request, 1, 2, unit=9)), InvalidAnswer),
    "another function": (lambda request, send: send(answer(request, 1, 2, function=4)), InvalidAnswer),
    "too few registers": (lambda request, send: send(answer(request, 1)), InvalidAnswer),
    "too many registers": (lambda request, send: send(answer(request, 1, 2, 3)), InvalidAnswer),
    "a wrong byte count": (lambda request, send: send(answer(request, 1, 2)[:8] + b"\x02\0\1\0\2"), InvalidAnswer),
    "a header alone": (lambda request, send: send(request[:4] + b"\0\1" + request[6:7]), InvalidAnswer),
    "half an answer": (lambda request, send: send(answer(request, 1, 2)[:10]), InvalidAnswer),
    "garbage": (lambda request, send: send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), InvalidAnswer),
    "an absurd length": (lambda request, send: send(request[:4] + b"\xff\xff" + bytes(40)), InvalidAnswer),
    "nothing": (lambda request, send: None, InstrumentTimeout),
    "an older transaction's": (
        lambda request, send: send(answer(request, 1, 2, transaction=60_000)),
        InstrumentTimeout,
    ),
    "a hang-up": (lambda request, send: False, InstrumentUnavailable),
    "half an answer and a hang-up": (
        lambda request, send: bool(send(answer(request, 1, 2)[:10])),
        InstrumentUnavailable,
    ),
    "a dead unit behind a gateway": (lambda request, send: send(request[:4] + b"\0\3\1\x83\x0b"), InstrumentTimeout),
    "a refusal": (lambda request, send: send(request[:4] + b"\0\3\1\x83\x04"), RequestRefused),
}


def error_of(bus, device):
    try:
        exchange = bus.read(device, (0, 1))
    except InstrumentUnavailable as error:
        return error
    assert len(exchange.samples) == 0
    return exchange.errors[0]


@pytest.mark.parametrize("name", ODD_ANSWERS)
def test_an_odd_answer_is_an_error_and_the_next_poll_reads_its_own(name, raw_server, open_tcp):
    how, error = ODD_ANSWERS[name]
    server = raw_server(misbehave_once(how))
    bus, device = open_tcp(server.port, POINTS)
    assert type(error_of(bus, device)).__mro__[:-1].count(error) == 1
    for _ in range(2):
        exchange = bus.read(device, (0, 1))
        assert exchange.samples.raw.tolist() == [7, 8]
        assert not exchange.errors


def test_a_late_answer_is_not_taken_for_the_next_one(raw_server, open_tcp):
    def behave(request, send, turn=itertools.count(1)):  # noqa: B008 - one count for all calls
        number = next(turn)
        if number == 1:
            time.sleep(0.5)
        send(answer(request, number, number))

    server = raw_server(behave)
    bus, device = open_tcp(server.port, POINTS)
    assert isinstance(error_of(bus, device), InstrumentTimeout)
    assert [bus.read(device, (0, 1)).samples.raw.tolist() for _ in range(3)] == [[2, 2], [3, 3], [4, 4]]


def test_a_question_that_failed_takes_its_connection_with_it(raw_server, open_tcp):
    server = raw_server(misbehave_once(lambda request, send: send(answer(request, 1, 2)[:10])))
    bus, device = open_tcp(server.port, POINTS)
    assert isinstance(error_of(bus, device), InvalidAnswer)
    bus.read(device, (0, 1))
    assert server.connections == 2


def test_an_answer_in_crumbs_is_put_together(raw_server, open_tcp):
    def behave(request, send):
        for byte in answer(request, 7, 8):
            send(bytes([byte]))
            time.sleep(0.002)

    bus, device = open_tcp(raw_server(behave).port, POINTS)
    assert bus.read(device, (0, 1)).samples.raw.tolist() == [7, 8]


def test_crumbs_do_not_stretch_the_timeout(raw_server, open_tcp):
    def behave(request, send):
        for byte in answer(request, 7, 8):
            send(bytes([byte]))
            time.sleep(0.2)

    bus, device = open_tcp(raw_server(behave).port, POINTS)
    began_s = time.monotonic()
    assert isinstance(error_of(bus, device), InvalidAnswer)
    assert time.monotonic() - began_s < 1.5


def test_what_a_stale_transaction_brings_is_passed_over(raw_server, open_tcp):
    def behave(request, send):
        send(answer(request, 1, 2, transaction=65_000) + answer(request, 7, 8))

    bus, device = open_tcp(raw_server(behave).port, POINTS)
    assert bus.read(device, (0, 1)).samples.raw.tolist() == [7, 8]


def test_an_answer_sent_twice_does_not_answer_twice(raw_server, open_tcp):
    turn = itertools.count(1)

    def behave(request, send):
        number = next(turn)
        send(answer(request, number, number) * 2)

    bus, device = open_tcp(raw_server(behave).port, POINTS)
    read = []
    for _ in range(4):
        read.append(bus.read(device, (0, 1)).samples.raw.tolist()[0])
        time.sleep(0.02)
    assert read == [1, 2, 3, 4]


def test_a_connection_that_the_device_closes_when_idle_costs_no_poll(raw_server, open_tcp):
    def behave(request, send):
        send(answer(request, 7, 8))
        return False

    server = raw_server(behave)
    bus, device = open_tcp(server.port, POINTS)
    for _ in range(3):
        assert bus.read(device, (0, 1)).samples.raw.tolist() == [7, 8]
        time.sleep(0.05)
    assert server.connections == 3


def test_after_a_timeout_the_remaining_requests_are_not_tried(raw_server, open_tcp):
    requests = []
    server = raw_server(lambda request, send: requests.append(request))
    points = {"a": {"register": "holding:0"}, "b": {"register": "holding:500"}, "c": {"register": "input:0"}}
    bus, device = open_tcp(server.port, points)
    exchange = bus.read(device, (0, 1, 2))
    assert [type(error) for error in exchange.errors] == [InstrumentTimeout]
    assert len(requests) == 1


def test_what_was_read_before_a_failure_is_kept(raw_server, open_tcp):
    def behave(request, send):
        if request[7] == 3:
            send(answer(request, 5))

    bus, device = open_tcp(raw_server(behave).port, {"a": {"register": "holding:0"}, "b": {"register": "input:0"}})
    exchange = bus.read(device, (0, 1))
    assert (exchange.samples.point.tolist(), exchange.samples.raw.tolist()) == ([0], [5])
    assert [type(error) for error in exchange.errors] == [InstrumentTimeout]


def test_a_refused_connection_says_what_to_look_at(open_tcp):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(InstrumentUnavailable, match="cannot connect") as caught:
        open_tcp(port, POINTS)
    assert caught.value.hint


def test_closing_ends_a_read_at_once(raw_server, open_tcp):
    asked = threading.Event()
    bus, device = open_tcp(raw_server(lambda request, send: asked.set()).port, POINTS, timeout_s=30)
    errors = []
    reader = threading.Thread(target=lambda: errors.append(error_of(bus, device)))
    reader.start()
    assert asked.wait(5)
    bus.close()
    reader.join(5)
    assert not reader.is_alive()
    assert isinstance(errors[0], InstrumentUnavailable)
