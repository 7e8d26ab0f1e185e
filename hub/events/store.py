"""SQL of events and of the deliveries that they cause."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import asyncpg
import orjson

from hub.database.ids import uuid7
from hub.database.pool import Connection
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
_SUBSCRIBERS = """
    select id, project_id, target_url, event_types from webhook_subscriptions
    where is_active and project_id = any($1::uuid[]) and event_types && $2::text[]
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


async def add(connection: Connection, actor: Actor, events: Sequence[NewEvent], now: datetime) -> list[int]:
    """Write events and, for each subscriber of a public one, a delivery. The last thing that a transaction does.

    Returns: the events' ids.
    """
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
    public = [(event_id, event) for event_id, event in zip(ids, events, strict=True) if event.is_public]
    if public:
        await _add_deliveries(connection, public, now)
    return ids


async def of_subject(
    connection: Connection, subject_type: str, subject_id: UUID, limit: int, offset: int
) -> tuple[list[Row], int]:
    """What was done to one thing, newest first, and how many times in all."""
    rows = await connection.fetch(_OF_SUBJECT, subject_id, subject_type, limit, offset)
    total: int = await connection.fetchval(_COUNT_OF_SUBJECT, subject_id, subject_type)
    return rows, total


def body_of(event_type: str, project_id: UUID | None, occurred_at: datetime, payload: Any) -> bytes:
    """An event as everyone outside is told of it: webhooks, streams and MQTT send the same bytes."""
    moment = occurred_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return orjson.dumps(
        {"event_type": event_type, "project_id": project_id, "occurred_at": moment, "payload": payload}, default=str
    )


async def _add_deliveries(connection: Connection, public: Sequence[tuple[int, NewEvent]], now: datetime) -> None:
    subscribers = await connection.fetch(
        _SUBSCRIBERS, [event.project_id for _, event in public], [event.event_type for _, event in public]
    )
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
