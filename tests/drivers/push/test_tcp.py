import json
import socket
import time
from typing import Any

import pytest

from drivers.api import Point
from drivers.push.device import Limits, Range
from shared.errors import SpoolFull, SpoolUnavailable
from shared.readings import Reason


class Client:
    """A script that pushes lines."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection((host, port), timeout=10)
        self.file = self.socket.makefile("rb")

    def send(self, *items: Any) -> None:
        self.socket.sendall(b"".join(json.dumps(item).encode() + b"\n" for item in items))

    def answer(self) -> Any:
        return json.loads(self.file.readline())

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_line_is_answered_after_it_is_on_disk_and_not_before(push: Any, sink: Any, host: str) -> None:
    sink.holds = True
    with Client(push().tcp, host) as client:
        client.send({"point": "temp", "value": 21.5})
        sink.wait(1)
        client.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.socket.recv(1)
        client.socket.settimeout(10)
        sink.promises[0].set_result(None)
        assert json.loads(client.socket.recv(1000)) == {"ok": True}


def test_new_points_become_known_and_values_without_a_time_get_the_clocks(push: Any, sink: Any, clock: Any) -> None:
    rig = push()
    with Client(rig.tcp) as client:
        client.send({"point": "temp", "value": 21.5, "unit": "°C"}, {"values": {"a": 1, "TEMP": 22}})
        assert [client.answer(), client.answer()] == [{"ok": True}] * 2
    now_us = clock.now_us()
    assert sink.readings() == [
        ("temp", "value", 21.5, now_us, 0),
        ("a", "value", 1.0, now_us, 0),
        ("temp", "value", 22.0, now_us, 0),
    ]
    assert rig.device.points == (Point("temp", "script.temp", "value", "°C"), Point("a", "script.a"))


def test_answers_come_in_order_and_one_wrong_line_does_not_hold_up_the_others(push: Any, sink: Any) -> None:
    with Client(push().tcp) as client:
        client.send(*({"point": "n", "value": n} if n % 3 else {"pont": "n"} for n in range(300)))
        answers = [client.answer() for _ in range(300)]
    assert [answer["ok"] for answer in answers] == [bool(n % 3) for n in range(300)]
    assert "did you mean `point`" in answers[0]["hint"]
    assert [raw for _, _, raw, _, _ in sink.readings()] == [float(n) for n in range(300) if n % 3]
    assert sink.errors


def test_the_last_line_needs_no_end(push: Any) -> None:
    with Client(push().tcp) as client:
        client.socket.sendall(b'{"point": "a", "value": 1}')
        client.socket.shutdown(socket.SHUT_WR)
        assert client.answer() == {"ok": True}
        assert client.file.read() == b""


def test_configured_points_have_their_range_and_answer_to_their_name(push: Any, sink: Any) -> None:
    configured = (Point("temp", "oven", "core", "°C"),)
    with Client(push(configured=configured, ranges={"temp": Range(0, 100)}).tcp) as client:
        client.send({"point": "temp", "value": 20}, {"point": "temp", "signal": "core", "value": 101})
        assert [client.answer(), client.answer()] == [{"ok": True}] * 2
    assert [(name, raw, reason) for name, _, raw, _, reason in sink.readings()] == [
        ("temp", 20.0, Reason.NONE),
        ("temp", 101.0, Reason.OUT_OF_RANGE),
    ]


def test_another_unit_is_refused(push: Any) -> None:
    with Client(push().tcp) as client:
        client.send({"point": "t", "value": 1, "unit": "°C"}, {"point": "t", "value": 1, "unit": "K"})
        assert client.answer() == {"ok": True}
        assert "'°C', not 'K'" in client.answer()["error"]


def test_points_are_bounded(push: Any, sink: Any) -> None:
    with Client(push(Limits(points_max=2)).tcp) as client:
        client.send(*({"point": name, "value": 1} for name in ("a", "b", "c", "a")))
        answers = [client.answer() for _ in range(4)]
    assert [answer["ok"] for answer in answers] == [True, True, False, True]
    assert "points_max" in answers[2]["hint"]
    assert len(sink.points) == 2


@pytest.mark.parametrize("refusal", [SpoolFull("the spool is full", hint="free some disk")])
def test_when_acquisition_is_blocked_the_sender_is_told(push: Any, sink: Any, refusal: SpoolFull) -> None:
    sink.refuses = refusal
    with Client(push().tcp) as client:
        client.send({"point": "a", "value": 1})
        assert client.answer() == {"ok": False, "error": "the spool is full", "hint": "free some disk"}


def test_when_the_commit_fails_the_sender_is_told(push: Any, sink: Any) -> None:
    sink.holds = True
    with Client(push().tcp) as client:
        client.send({"point": "a", "value": 1})
        sink.wait(1)
        sink.promises[0].set_exception(SpoolUnavailable("the disk is gone"))
        assert client.answer() == {"ok": False, "error": "the disk is gone", "hint": "try again later"}


def test_when_the_commit_takes_too_long_the_sender_is_told_and_the_promise_is_left_alone(push: Any, sink: Any) -> None:
    sink.holds = True
    with Client(push(Limits(answer_timeout_s=0.1)).tcp) as client:
        client.send({"point": "a", "value": 1})
        assert "within 0.1 s" in client.answer()["error"]
    assert not sink.promises[0].cancelled()
    sink.promises[0].set_result(None)


@pytest.mark.parametrize("data", [b"x" * 200, b'{"point":"a","value":1}\n' + b"x" * 200, b"x" * 200 + b"\n"])
def test_a_line_that_is_too_long_is_refused_and_the_connection_closed(push: Any, sink: Any, data: bytes) -> None:
    with Client(push(Limits(line_bytes_max=100)).tcp) as client:
        client.socket.sendall(data)
        answers = [json.loads(line) for line in client.file]
    assert "more than 100 bytes" in answers[-1]["error"]
    assert [answer["ok"] for answer in answers[:-1]] == [True] * (len(answers) - 1)


def test_a_browser_that_was_led_to_the_port_pushes_nothing(push: Any, sink: Any) -> None:
    with Client(push().tcp) as client:
        client.socket.sendall(b'POST / HTTP/1.1\r\nHost: x\r\n\r\n{"point": "a", "value": 1}\n')
        answers = [json.loads(line) for line in client.file]
    assert "not HTTP" in answers[-1]["error"]
    assert sink.samples == []


def test_too_many_connections_are_turned_away(push: Any) -> None:
    rig = push(Limits(connections_max=1))
    with Client(rig.tcp) as first:
        first.send({"point": "a", "value": 1})
        assert first.answer() == {"ok": True}
        with Client(rig.tcp) as second:
            assert "too many connections" in second.answer()["error"]
        first.send({"point": "a", "value": 2})
        assert first.answer() == {"ok": True}


def test_a_sender_that_goes_away_in_the_middle_harms_nobody(push: Any, sink: Any) -> None:
    rig = push()
    sink.holds = True
    with Client(rig.tcp) as client:
        client.send(*({"point": "a", "value": n} for n in range(100)))
        sink.wait(1)
    for promise in sink.promises:
        promise.set_result(None)
    sink.holds = False
    with Client(rig.tcp) as client:
        client.send({"point": "a", "value": 1})
        assert client.answer() == {"ok": True}


def test_close_lets_a_waiting_sender_have_its_answer(push: Any, sink: Any) -> None:
    sink.holds = True
    rig = push()
    with Client(rig.tcp) as idle, Client(rig.tcp) as client:
        client.send({"point": "a", "value": 1})
        sink.wait(1)
        rig.bus.close()
        assert idle.file.read() == b""
        sink.promises[0].set_result(None)
        assert client.answer() == {"ok": True}
    rig.thread.join(timeout=10)
    assert not rig.thread.is_alive()


def test_points_survive_a_new_bus_of_the_same_device(push: Any, sink: Any, clock: Any) -> None:
    rig = push()
    with Client(rig.tcp) as client:
        client.send({"point": "a", "value": 1}, {"point": "a", "signal": "b", "value": 2})
        assert [client.answer()["ok"], client.answer()["ok"]] == [True, True]
    rig.close()
    again = type(rig)(rig.device, sink, clock)
    try:
        with Client(again.tcp) as client:
            client.send({"point": "a", "signal": "b", "value": 3})
            assert client.answer() == {"ok": True}
    finally:
        again.close()
    assert sink.readings()[-1][:3] == ("a:b", "b", 3.0)
    assert len(rig.device.points) == 2


def test_many_lines_are_taken_quickly(push: Any, sink: Any) -> None:
    lines = b'{"point": "a", "value": 1.25}\n' * 20_000
    with Client(push().tcp) as client:
        started = time.monotonic()
        client.socket.sendall(lines)
        client.socket.shutdown(socket.SHUT_WR)
        assert client.file.read().count(b'{"ok":true}\n') == 20_000
    assert time.monotonic() - started < 30
    assert len(sink.samples) < 1_000
