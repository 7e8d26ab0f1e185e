"""Where webhooks may go: public addresses only, unless the operator allows others; the address that was checked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.database.ids import uuid7
from hub.events import send
from hub.events.send import Message, Sender
from hub.events.target import Guard, TargetRefused, carried, parse
from shared.clock import AnchoredClock
from tests.fixtures.receiver import Receiver


class Names:
    """A name service that a test fills, and that may change its mind."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def lookup(self, host: str, port: int) -> Sequence[str]:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "198.18.0.1",
        "192.0.2.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "fe80::1",
        "fec0::1",
        "fc00::1",
        "fd12:3456::1",
        "ff02::1",
        "2001:db8::1",
        "100::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    ],
)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert not Guard().may_use(ip_address(address))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"]
)
def test_public_addresses_may_be_used(address: str) -> None:
    assert Guard().may_use(ip_address(address))


@given(st.ip_addresses(v=4))
def test_an_address_carried_by_another_counts_as_itself(address: object) -> None:
    guard, plain = Guard(), ip_address(str(address))
    for carrier in (f"::ffff:{plain}", f"64:ff9b::{plain}"):
        assert carried(ip_address(carrier)) == plain
        assert guard.may_use(ip_address(carrier)) == guard.may_use(plain)


def test_the_operator_allows_networks() -> None:
    guard = Guard(["10.0.0.0/8", "fd00::/8"])
    assert guard.may_use(ip_address("10.1.2.3"))
    assert guard.may_use(ip_address("::ffff:10.1.2.3"))
    assert guard.may_use(ip_address("fd12::1"))
    assert not guard.may_use(ip_address("192.168.0.1"))
    assert not guard.may_use(ip_address("127.0.0.1"))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hook",
        "//host/hook",
        "ftp://host/hook",
        "file:///etc/passwd",
        "gopher://host/",
        "javascript:alert(1)",
        "http://",
        "http:///hook",
        "http://user@host/",
        "http://user:secret@host/",
        "http://:secret@host/",
        "http://host:port/",
        "http://host:70000/",
        "http://host:0/",
        "http://[::1/",
        "http://[fe80::1%25eth0]/",
        "http://ho st/",
        "http://host/\nX: y",
        "http://host\\@other/",
        "http://hößt/",
        "http://host/" + "x" * 2000,
    ],
)
def test_urls_that_are_none_are_refused(url: str) -> None:
    with pytest.raises(TargetRefused):
        parse(url)


def test_a_url_is_taken_apart() -> None:
    target = parse("HTTPS://Hooks.Example:8443/a/b?c=d#e")
    assert (target.scheme, target.host, target.port, target.path) == ("https", "hooks.example", 8443, "/a/b?c=d")
    assert target.authority == "hooks.example:8443"
    assert target.url_at(ip_address("2606:4700::1")) == "https://[2606:4700::1]:8443/a/b?c=d"
    assert parse("http://host").authority == "host"
    assert parse("http://[2606:4700::1]/").authority == "[2606:4700::1]"


async def test_one_private_address_among_public_ones_refuses_the_name() -> None:
    guard = Guard(lookup=Names(["8.8.8.8", "10.0.0.1"]).lookup)
    with pytest.raises(TargetRefused):
        await guard.addresses(parse("http://both.example/"))


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f.0.0.1", "017700000001", "[::ffff:7f00:1]"])
async def test_other_spellings_of_this_machine_are_seen_through(host: str) -> None:
    with pytest.raises(TargetRefused):
        await Guard().addresses(parse(f"http://{host}:9/"))


def message(url: str) -> Message:
    return Message(uuid7(), 1, "run.started", url, b"{}", "secret")


async def test_the_connection_goes_to_the_address_that_was_checked(receiver: Receiver) -> None:
    names = Names(["127.0.0.1"], ["10.0.0.1"])
    sender = Sender(Guard(["127.0.0.0/8"], lookup=names.lookup), AnchoredClock(), timeout_s=3)
    try:
        assert await sender.attempt(message(f"http://hooks.invalid:{receiver.port}/x")) == ""
        assert names.asked == 1
        assert receiver.requests[0].headers["host"] == f"hooks.invalid:{receiver.port}"
        assert "refused" in await sender.attempt(message(f"http://hooks.invalid:{receiver.port}/x"))
        assert len(receiver.requests) == 1
    finally:
        await sender.close()


async def test_a_dead_address_is_passed_over(receiver: Receiver) -> None:
    names = Names(["127.0.0.2", "127.0.0.1"])
    sender = Sender(Guard(["127.0.0.0/8"], lookup=names.lookup), AnchoredClock(), timeout_s=3)
    try:
        assert await sender.attempt(message(f"http://hooks.invalid:{receiver.port}/")) == ""
    finally:
        await sender.close()


async def test_a_redirect_is_a_failure_and_not_followed(receiver: Receiver) -> None:
    receiver.answer = lambda _: (307, {"Location": receiver.url("/private")})
    sender = Sender(Guard(["127.0.0.0/8"]), AnchoredClock(), timeout_s=3)
    try:
        assert (await sender.attempt(message(receiver.url()))).startswith("HTTP 307")
        assert len(receiver.requests) == 1
    finally:
        await sender.close()


async def test_a_proxy_of_the_environment_is_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    sender = Sender(Guard(["127.0.0.0/8"]), AnchoredClock(), timeout_s=3)
    try:
        assert await sender.attempt(message(receiver.url())) == ""
    finally:
        await sender.close()


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 300_000])
async def test_an_answer_that_is_none_is_a_failure(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sender = Sender(Guard(["127.0.0.0/8"]), AnchoredClock(), timeout_s=3)
    try:
        reason = await sender.attempt(message(f"http://127.0.0.1:{port}/"))
        assert reason
        assert len(reason) <= 300
    finally:
        await sender.close()
        server.close()


HANDSHAKE = b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc"
"""The beginning of a TLS server's first record, of 16 KiB."""


@pytest.mark.parametrize(
    ("scheme", "first", "then", "timeout_s"),
    [
        ("http", b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.5),
        ("http", b"HTTP/1.1 200 OK\r\n", b"X", 0.5),
        ("http", b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", 0.5),
        ("https", HANDSHAKE, b"\x00", 10.0),
    ],
)
async def test_a_target_that_answers_in_trickles_is_given_up_and_its_connection_closed(
    monkeypatch: pytest.MonkeyPatch, scheme: str, first: bytes, then: bytes, timeout_s: float
) -> None:
    monkeypatch.setattr(send, "CONNECT_PART", 0.05 if scheme == "https" else 1.0)
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        try:
            writer.write(first)
            while True:
                writer.write(then)
                await writer.drain()
                await asyncio.sleep(0.02)
        except OSError:
            ended.set()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sender = Sender(Guard(["127.0.0.0/8"]), AnchoredClock(), timeout_s=timeout_s)
    try:
        async with asyncio.timeout(60):
            reason = await sender.attempt(message(f"{scheme}://127.0.0.1:{port}/"))
            assert reason == f"no answer within {timeout_s:g} s"
            await ended.wait()
    finally:
        await sender.close()
        server.close()


async def test_a_body_without_end_is_not_read() -> None:
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while sent < 500_000_000:
                writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                await writer.drain()
                sent += 65536
        except OSError:
            pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sender = Sender(Guard(["127.0.0.0/8"]), AnchoredClock(), timeout_s=5)
    try:
        assert await sender.attempt(message(f"http://127.0.0.1:{port}/")) == ""
        assert sent < 50_000_000
    finally:
        await sender.close()
        server.close()
        await asyncio.sleep(0.05)
