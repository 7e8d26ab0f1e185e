import http.client
import json
import socket
from typing import Any

import httpx
import pytest

from drivers.push.device import Limits
from shared.errors import SpoolFull

LINE = b'{"point": "a", "value": 1}'


def post(port: int, body: bytes = LINE, path: str = "/push", **headers: str) -> httpx.Response:
    return httpx.post(f"http://127.0.0.1:{port}{path}", content=body, headers=headers, timeout=10)


def raw(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        return client.makefile("rb").read()


def test_a_post_is_200_after_the_commit(push: Any, sink: Any) -> None:
    port = push().http
    for path in ("/", "/push", "/push?x=1"):
        response = post(port, LINE + b"\n" + LINE, path)
        assert (response.status_code, response.json()) == (200, {"ok": True, "accepted": 2})
    assert post(port, b'[{"values": {"a": 1, "b": 2}}]').json()["accepted"] == 2
    assert len(sink.readings()) == 8


def test_one_connection_serves_many_requests(push: Any) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{push(Limits(connections_max=1)).http}") as client:
        for _ in range(5):
            assert client.post("/", content=LINE).status_code == 200


def test_a_body_is_taken_whole_or_not_at_all(push: Any, sink: Any) -> None:
    response = post(push().http, LINE + b'\n{"point": "b"}')
    assert response.status_code == 400
    assert response.json()["error"] == "object 2: no `value`"
    assert sink.samples == []


def test_too_large_a_body_is_413(push: Any) -> None:
    assert post(push(Limits(body_bytes_max=1000)).http, b" " * 1001).status_code == 413


def test_while_acquisition_is_blocked_it_is_503_with_retry_after(push: Any, sink: Any) -> None:
    sink.refuses = SpoolFull("the spool is full")
    response = post(push().http)
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    sink.refuses, sink.holds = None, True
    assert post(push(Limits(answer_timeout_s=0.1)).http).status_code == 503


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Origin": "http://evil.example"}, 403), ({"Host": "evil.example"}, 403), ({"Host": "localhost:80"}, 200)],
)
def test_a_page_in_a_browser_cannot_push(push: Any, headers: dict[str, str], status: int) -> None:
    assert post(push().http, LINE, "/", **headers).status_code == status


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"405"),
        (b"POST /other HTTP/1.1\r\nContent-Length: 0\r\n\r\n", b"404"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"411"),
        (b"POST / HTTP/1.1\r\n\r\n", b"411"),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"411"),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\n folded\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", b"431"),
        (b"POST / HTTP/1.1\r\n" + b"X: 1\r\n" * 200 + b"\r\n", b"400"),
        (b"POST / HTTP/2.0\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00garbage\r\n\r\n", b"400"),
        (b'{"point": "a", "value": 1}\n', b"400"),
    ],
)
def test_what_is_no_request_gets_its_status_and_the_listener_lives(
    push: Any, request_bytes: bytes, status: bytes
) -> None:
    port = push().http
    answer = raw(port, request_bytes)
    assert answer.split(b" ")[1] == status, answer
    json.loads(answer.partition(b"\r\n\r\n")[2])
    assert post(port).status_code == 200


def test_a_sender_may_wait_for_100_continue(push: Any) -> None:
    request = b"POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nConnection: close\r\n"
    answer = raw(push().http, request + b"Content-Length: %d\r\n\r\n" % len(LINE) + LINE)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")


def test_half_a_body_is_nothing(push: Any, sink: Any) -> None:
    assert raw(push().http, b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\n" + LINE) == b""
    assert sink.samples == []


def test_an_old_client_is_served_and_its_connection_closed(push: Any) -> None:
    answer = raw(push().http, b"POST / HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(LINE) + LINE)
    assert b"200 OK" in answer
    assert b"Connection: close" in answer


def test_the_standard_librarys_client_works(push: Any) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", push().http, timeout=10)
    connection.request("POST", "/", LINE)
    assert connection.getresponse().status == 200
    connection.close()
