import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(params=["127.0.0.1", "::1"])
def client(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, str]]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as opened:
        opened.settimeout(10)
        yield opened, request.param


def answers(client: socket.socket) -> list[Any]:
    return [json.loads(line) for line in client.recv(65_536).splitlines()]


def test_a_datagram_of_lines_is_answered_by_one_of_answers(push: Any, sink: Any, client: Any) -> None:
    sender, host = client
    sender.sendto(b'{"point": "a", "value": 1}\nnonsense\n{"values": {"b": 2}}', (host, push().udp))
    assert [answer["ok"] for answer in answers(sender)] == [True, False, True]
    assert [reading[:3] for reading in sink.readings()] == [("a", "value", 1.0), ("b", "value", 2.0)]


def test_it_is_answered_after_the_commit(push: Any, sink: Any, client: Any) -> None:
    sink.holds = True
    sender, host = client
    sender.sendto(b'{"point": "a", "value": 1}', (host, push().udp))
    sink.wait(1)
    sender.settimeout(0.2)
    with pytest.raises(TimeoutError):
        sender.recv(100)
    sender.settimeout(10)
    sink.promises[0].set_result(None)
    assert answers(sender) == [{"ok": True}]


def test_garbage_is_answered_and_harms_nobody(push: Any, client: Any) -> None:
    sender, host = client
    port = push().udp
    sender.sendto(bytes(range(256)) * 40, (host, port))
    assert all(not answer["ok"] for answer in answers(sender))
    sender.sendto(b"", (host, port))
    sender.sendto(b'{"point": "a", "value": 1}', (host, port))
    assert answers(sender) == [{"ok": True}]


def test_an_answer_never_outgrows_a_datagram(push: Any, client: Any) -> None:
    sender, host = client
    sender.sendto(b"x\n" * 5_000, (host, push().udp))
    assert answers(sender) == [
        {"ok": False, "error": "5000 of 5000 lines were refused", "hint": "send fewer lines in a datagram"}
    ]
