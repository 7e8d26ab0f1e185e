"""A change: one transaction that alters something, with what is told of it.

    async with changes.begin() as change:
        await store.archive(change.connection, run_id, change.now)
        change.record(NewEvent("run.archived", SubjectType.RUN, run_id, project_id, {...}))

Status, audit event and deliveries commit together or not at all. The events are written last, whenever they were
recorded: their ids rise in commit order, so whoever writes one keeps all others waiting until the commit.

A post that creates something goes through `once`, which honours `Idempotency-Key`: the answer is stored in the same
transaction, so that a repeat gets it whatever happened in between, and parallel ones wait for one another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Request, Response
from pydantic import BaseModel

from hub.access.identity import SensorPrincipal, User, caller_of
from hub.database.pool import Connection, Pool, transaction
from hub.errors import invalid
from hub.events import keys, store
from hub.events.event import Actor, ActorType, NewEvent
from hub.events.keys import KEY_LENGTH_MAX, Answer, Key
from hub.services import Services, ready_services

KEY_HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotency-Replayed"


@dataclass(frozen=True, slots=True)
class Change:
    """A transaction under way.

    Attributes:
        now: its moment, for all that it writes.
    """

    connection: Connection
    actor: Actor
    now: datetime
    events: list[NewEvent] = field(default_factory=list)

    def record(self, event: NewEvent) -> None:
        """Tell of what is done, if it is: written right before the commit."""
        self.events.append(event)


@asynccontextmanager
async def begin_change(pool: Pool, actor: Actor, now: datetime) -> AsyncIterator[Change]:
    """A transaction that ends with its events. Raises: StorageUnavailable, UnstorableValue."""
    async with transaction(pool) as connection:
        change = Change(connection, actor, now)
        yield change
        if change.events:
            await store.add(connection, actor, change.events, now)


@dataclass(frozen=True, slots=True)
class Changes:
    """What a request changes things through; a dependency, `CurrentChanges`."""

    services: Services
    request: Request

    @property
    def actor(self) -> Actor:
        """Whoever the route's rule has let in; the hub's own where anyone may."""
        address = self.request.client.host if self.request.client else ""
        request_id: str = getattr(self.request.state, "request_id", "")
        caller = caller_of(self.request)
        if isinstance(caller, User):
            return Actor(ActorType.USER, caller.id, address, request_id)
        if isinstance(caller, SensorPrincipal):
            return Actor(ActorType.SENSOR, caller.id, address, request_id)
        return Actor(ActorType.HUB, None, address, request_id)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Change]:
        """A change made by whoever asks. Raises: StorageUnavailable, UnstorableValue."""
        async with begin_change(self.services.pool, self.actor, self.services.now()) as change:
            yield change

    async def once(
        self,
        create: Callable[[Change], Awaitable[BaseModel]],
        *,
        status: int = 201,
        headers: Callable[[BaseModel], Mapping[str, str]] | None = None,
        stored: Callable[[BaseModel], BaseModel] | None = None,
        restored: Callable[[bytes], bytes] | None = None,
    ) -> Response:
        """Create something, once for each `Idempotency-Key`.

        Args:
            create: makes it and returns what to answer.
            headers: what to send with the answer, and with its repeats.
            stored: what to keep of the answer for repeats, where it holds something that must not be kept.
            restored: makes of what was kept what a repeat is answered.
        Raises: Problem 409 for a key that was used for something else, 422 for one that is none; what `create` raises.
        """
        key = await self._key()
        async with self.begin() as change:
            known = await keys.claim(change.connection, key, change.now) if key is not None else None
            if known is not None:
                body = restored(known.body) if restored is not None else known.body
                return _answer(Answer(known.status, body, {**known.headers, REPLAYED_HEADER: "true"}))
            view = await create(change)
            answer = Answer(status, _encoded(view), dict(headers(view)) if headers is not None else {})
            if key is not None:
                kept = replace(answer, body=_encoded(stored(view))) if stored is not None else answer
                await keys.keep(change.connection, key, kept)
        return _answer(answer)

    @property
    def key_text(self) -> str | None:
        """The request's `Idempotency-Key`, None without one."""
        return self.request.headers.get(KEY_HEADER)

    async def _key(self) -> Key | None:
        """The request's key, if it brings one. Raises: Problem 422."""
        text = self.key_text
        if text is None:
            return None
        if not 1 <= len(text) <= KEY_LENGTH_MAX or not text.isprintable():
            raise invalid(KEY_HEADER, f"must have 1 to {KEY_LENGTH_MAX} printable characters")
        actor = self.actor
        return Key(f"{actor.type}:{actor.id or actor.address}", text, await _fingerprint(self.request))


def changes(request: Request) -> Changes:
    """A dependency. Raises: StorageUnavailable."""
    return Changes(ready_services(request), request)


CurrentChanges = Annotated[Changes, Depends(changes)]


async def _fingerprint(request: Request) -> bytes:
    """What the request asks for: a repeat has the same."""
    digest = hashlib.sha256()
    for part in (request.method, request.url.path, request.url.query):
        digest.update(part.encode() + b"\0")
    digest.update(_canonical(await request.body()))
    return digest.digest()


def _canonical(body: bytes) -> bytes:
    """The same for all bodies that say the same in JSON: the order of names and blanks between them say nothing."""
    try:
        return json.dumps(json.loads(body), sort_keys=True, separators=(",", ":")).encode()
    except (ValueError, RecursionError):  # not JSON, or beyond what the parser takes
        return body


def _encoded(view: BaseModel) -> bytes:
    return view.model_dump_json(by_alias=True).encode()


def _answer(answer: Answer) -> Response:
    return Response(answer.body, status_code=answer.status, headers=answer.headers, media_type="application/json")
