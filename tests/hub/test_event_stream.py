"""The response behind the stream: what it sends, and that it ends with its client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from hub import event_stream
from hub.event_stream import EventStream


class Client:
    """The other end of an ASGI connection."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.started = asyncio.Event()
        self.messages: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.messages.append(message)
        self.started.set()


class Events:
    """A generator that knows whether it was closed."""

    def __init__(self, *parts: bytes, forever: bool = False) -> None:
        self.parts = parts
        self.forever = forever
        self.closed = False

    async def __call__(self) -> AsyncGenerator[bytes, None]:
        try:
            for part in self.parts:
                yield part
            if self.forever:
                await asyncio.Event().wait()
        finally:
            self.closed = True


async def respond(events: Events, client: Client) -> None:
    await EventStream(events())({"type": "http"}, client.receive, client.send)


async def test_events_are_sent_as_they_come_and_the_response_ends_with_them() -> None:
    client = Client()
    await asyncio.wait_for(respond(Events(b"a", b"b"), client), 5)
    assert [message.get("body") for message in client.messages] == [None, b"a", b"b", b""]
    headers = dict(client.messages[0]["headers"])
    assert headers[b"cache-control"] == b"no-cache"
    assert headers[b"x-accel-buffering"] == b"no"
    assert b"content-length" not in headers


async def test_a_client_that_leaves_closes_the_events_at_once() -> None:
    client, events = Client(), Events(b"a", forever=True)
    responding = asyncio.create_task(respond(events, client))
    await client.started.wait()
    client.gone.set()
    await asyncio.wait_for(responding, 5)
    assert events.closed


async def test_a_client_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "SEND_TIMEOUT_S", 0.05)
    client, events = Client(), Events(b"a", b"b", forever=True)
    accept = client.send

    async def stuck(message: Any) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()
        await accept(message)

    client.send = stuck  # type: ignore[method-assign]
    await asyncio.wait_for(respond(events, client), 5)
    assert events.closed


async def test_a_cancelled_response_closes_the_events() -> None:
    client, events = Client(), Events(b"a", forever=True)
    responding = asyncio.create_task(respond(events, client))
    await client.started.wait()
    await asyncio.sleep(0)
    responding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await responding
    assert events.closed
