"""SQL of events and of the deliveries that they cause."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import asyncpg
import orjson

from hub.database.ids import uuid7
from hub.database.pool import Connection, affected
from hub.events.event import Actor, ActorType, NewEvent

if TYPE_CHECKING:
    Row: TypeAlias = asyncpg.Record
else:
    Row = asyncpg.Record

_ADD = """
    insert into events (event_type, project_id, subject_type, subject_id, actor_type, actor_id, actor_role, address,
                        request_id, payload, is_public, created_at)
    select e.event_type, e.project_id, e.subject_type, e.subject_id, $1, $2,
           coalesce((select m.role from project_members m where m.user_id = $3 and m.project_id = e.project_id), ''),
           $4, $5, e.payload, e.is_public, $6
    from unnest($7::text[], $8::uuid[], $9::text[], $10::uuid[], $11::jsonb[], $12::boolean[]) with ordinality
         as e (event_type, project_id, subject_type, subject_id, payload, is_public, place)
    order by e.place
    returning id
"""
# Locked before the events: who removes a subscription holds its row when writing the event of that, and whoever writes
# an event keeps all others waiting. Locked afterwards, the two would wait for one another.
_SUBSCRIBERS = """
    select id, project_id, target_url, event_types from webhook_subscriptions
    where is_active and project_id = any($1::uuid[]) and event_types && $2::text[]
    order by id
    for key share
"""
_ADD_DELIVERIES = """
    insert into webhook_deliveries (id, subscription_id, project_id, event_id, event_type, target_url, request_body,
                                    dedup_key, next_attempt_at, created_at)
    select d.*, $1, $1
    from unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::text[])
         as d (id, subscription_id, project_id, event_id, event_type, target_url, request_body, dedup_key)
    on conflict (subscription_id, dedup_key) do nothing
"""
_OF_SUBJECT = """
    select id, event_type, actor_type, actor_id, actor_role, payload, created_at from events
    where subject_id = $1 and subject_type = $2 order by id desc limit $3 offset $4
"""
_COUNT_OF_SUBJECT = "select count(*) from events where subject_id = $1 and subject_type = $2"
_FILTERED = """
    from events
    where project_id = $1
      and ($2::text is null or event_type = $2)
      and ($3::text is null or subject_type = $3)
      and ($4::uuid is null or subject_id = $4)
      and ($5::uuid is null or actor_id = $5)
      and ($6::bigint is null or id > $6)
"""
_PAGE = f"select * {_FILTERED} order by id desc limit $7 offset $8"
_COUNT = f"select count(*) {_FILTERED}"
_PUBLIC = """
    select id, event_type, project_id, payload, created_at from events
    where is_public and id > $1 and id <= $2 order by id limit $3
"""
_PUBLIC_OF_PROJECTS = """
    select id, event_type, project_id, payload, created_at from events
    where is_public and project_id = any($4::uuid[]) and id > $1 and id <= $2 order by id limit $3
"""
_LAST = "select coalesce(max(id), 0) from events"
_PURGE = """
    delete from events where id in (select id from events where created_at < $1 order by created_at limit $2)
"""

ID_MAX = (1 << 53) - 1


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events of a project; None for any. `since_id`: those with higher ids."""

    project_id: UUID
    event_type: str | None = None
    subject_type: str | None = None
    subject_id: UUID | None = None
    actor_id: UUID | None = None
    since_id: int | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """A public event as streams and MQTT tell it.

    Attributes:
        body: JSON.
    """

    id: int
    event_type: str
    project_id: UUID
    body: bytes


async def add(connection: Connection, actor: Actor, events: Sequence[NewEvent], now: datetime) -> list[int]:
    """Write events and, for each subscriber of a public one, a delivery. The last thing that a transaction does.

    Returns: the events' ids.
    """
    public = [event for event in events if event.is_public]
    subscribers = await _subscribers(connection, public) if public else []
    rows = await connection.fetch(
        _ADD,
        actor.type,
        actor.id,
        actor.id if actor.type is ActorType.USER else None,
        actor.address,
        actor.request_id,
        now,
        [event.event_type for event in events],
        [event.project_id for event in events],
        [event.subject_type for event in events],
        [event.subject_id for event in events],
        [dict(event.payload) for event in events],
        [event.is_public for event in events],
    )
    ids = sorted(int(row["id"]) for row in rows)
    if subscribers:
        numbered = [(event_id, event) for event_id, event in zip(ids, events, strict=True) if event.is_public]
        await _add_deliveries(connection, numbered, subscribers, now)
    return ids


async def of_subject(
    connection: Connection, subject_type: str, subject_id: UUID, limit: int, offset: int
) -> tuple[list[Row], int]:
    """What was done to one thing, newest first, and how many times in all."""
    rows = await connection.fetch(_OF_SUBJECT, subject_id, subject_type, limit, offset)
    total: int = await connection.fetchval(_COUNT_OF_SUBJECT, subject_id, subject_type)
    return rows, total


async def page(connection: Connection, wanted: EventFilter, limit: int, offset: int) -> tuple[list[Row], int]:
    """A project's events, newest first, and how many there are in all."""
    rows = await connection.fetch(_PAGE, *astuple(wanted), limit, offset)
    total: int = await connection.fetchval(_COUNT, *astuple(wanted))
    return rows, total


async def public_after(
    connection: Connection, after: int, limit: int, *, until: int = ID_MAX, projects: Collection[UUID] | None = None
) -> list[Told]:
    """Public events with higher ids than `after`, up to `until`, in order; of these projects, else of all."""
    if projects is None:
        rows = await connection.fetch(_PUBLIC, after, until, limit)
    else:
        rows = await connection.fetch(_PUBLIC_OF_PROJECTS, after, until, limit, list(projects))
    return [
        Told(
            row["id"],
            row["event_type"],
            row["project_id"],
            body_of(row["event_type"], row["project_id"], row["created_at"], row["payload"], event_id=row["id"]),
        )
        for row in rows
    ]


async def last_id(connection: Connection) -> int:
    """The id up to which everything is committed now, and nothing lower will ever be."""
    last: int = await connection.fetchval(_LAST)
    return last


async def purge(connection: Connection, before: datetime, limit: int) -> int:
    """Forget at most so many events from before this moment. Returns: how many."""
    return affected(await connection.execute(_PURGE, before, limit))


def body_of(
    event_type: str, project_id: UUID | None, occurred_at: datetime, payload: Any, *, event_id: int | None = None
) -> bytes:
    """An event as everyone outside is told of it.

    Args:
        event_id: stands in streams and on MQTT, where no header can carry it.
    """
    moment = occurred_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    told = {"event_type": event_type, "project_id": project_id, "occurred_at": moment, "payload": payload}
    return orjson.dumps(told if event_id is None else {"id": event_id, **told}, default=str)


async def _subscribers(connection: Connection, public: Sequence[NewEvent]) -> list[Row]:
    return await connection.fetch(
        _SUBSCRIBERS, [event.project_id for event in public], [event.event_type for event in public]
    )


async def _add_deliveries(
    connection: Connection, public: Sequence[tuple[int, NewEvent]], subscribers: Sequence[Row], now: datetime
) -> None:
    deliveries = [
        (
            uuid7(),
            subscriber["id"],
            event.project_id,
            event_id,
            event.event_type,
            subscriber["target_url"],
            body_of(event.event_type, event.project_id, now, dict(event.payload)).decode(),
            f"event-{event_id}",
        )
        for event_id, event in public
        for subscriber in subscribers
        if subscriber["project_id"] == event.project_id and event.event_type in subscriber["event_types"]
    ]
    if deliveries:
        await connection.execute(_ADD_DELIVERIES, now, *zip(*deliveries, strict=True))
