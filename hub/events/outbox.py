"""SQL of deliveries: claimed, judged, tried again, purged.

Invariants
    * A delivery is claimed by one hub at a time. Claims are made one after the other (an advisory lock), so that no two
      hubs send to one target at the same time.
    * Whoever ends an attempt names its claim (`locked_at`): what was taken away meanwhile is not touched.
    * A claim that is older than an attempt can last no longer holds its target up, but the delivery itself is given
      back only by `release_stuck`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import asyncpg

from hub.database.pool import Connection, affected
from hub.events.send import Message

if TYPE_CHECKING:
    Row: TypeAlias = asyncpg.Record
else:
    Row = asyncpg.Record

_SERIALISE_CLAIMS = "select pg_advisory_xact_lock(1280459057, 3)"
_CLAIM = """
    with ready as (
        select distinct on (s.target_url) d.id, s.secret
        from webhook_subscriptions s
        cross join lateral (
            select w.id, w.next_attempt_at, w.event_id from webhook_deliveries w
            where w.subscription_id = s.id and w.status = 'pending' and w.next_attempt_at <= $1
            order by w.next_attempt_at, w.event_id limit 1
        ) d
        where s.is_active and not exists (
            select from webhook_deliveries b
            where b.status = 'in_progress' and b.locked_at > $3 and b.target_url = s.target_url
        )
        order by s.target_url, d.next_attempt_at, d.event_id
    ), chosen as (
        select d.id, r.secret from webhook_deliveries d join ready r on r.id = d.id
        where d.status = 'pending'
        order by d.next_attempt_at, d.event_id limit $2
        for update of d skip locked
    )
    update webhook_deliveries d
    set status = 'in_progress', locked_at = $1, attempt_count = d.attempt_count + 1
    from chosen c where d.id = c.id
    returning d.id, d.event_id, d.event_type, d.target_url, d.request_body, d.attempt_count, c.secret
"""
_NEXT_DUE = """
    select min(d.next_attempt_at) from webhook_subscriptions s
    cross join lateral (
        select w.next_attempt_at from webhook_deliveries w
        where w.subscription_id = s.id and w.status = 'pending' order by w.next_attempt_at, w.event_id limit 1
    ) d
    where s.is_active
"""
_SUCCEED = """
    update webhook_deliveries set status = 'succeeded', locked_at = null, last_error = '', finished_at = $3
    where id = $1 and status = 'in_progress' and locked_at = $2
"""
_FAIL = """
    update webhook_deliveries set
        status = case when $4::timestamptz is null then 'dead_lettered' else 'pending' end,
        locked_at = null, last_error = $3, next_attempt_at = coalesce($4, next_attempt_at),
        finished_at = case when $4::timestamptz is null then $5::timestamptz end
    where id = $1 and status = 'in_progress' and locked_at = $2
"""
_GIVE_BACK = """
    update webhook_deliveries set status = 'pending', locked_at = null, attempt_count = attempt_count - 1
    where id = $1 and status = 'in_progress' and locked_at = $2
"""
_RELEASE_STUCK = """
    update webhook_deliveries set
        status = 'pending', locked_at = null, last_error = 'the hub that sent it ended', next_attempt_at = $2
    where status = 'in_progress' and locked_at < $1
"""
_PURGE = """
    delete from webhook_deliveries where id in (
        select id from webhook_deliveries where finished_at < $1 and status = $2 order by finished_at limit $3
    )
"""
_COLUMNS = """
    d.id, d.subscription_id, d.project_id, d.event_id, d.event_type, d.target_url, d.request_body, d.status,
    d.attempt_count, d.last_error, d.dedup_key, d.locked_at, d.next_attempt_at, d.created_at, d.finished_at
"""
_OWNED = """
    from webhook_deliveries d
    where d.project_id in (select m.project_id from project_members m where m.user_id = $1 and m.role = 'owner')
      and ($2::uuid is null or d.project_id = $2)
      and ($3::text is null or d.status = $3)
      and ($4::uuid is null or d.subscription_id = $4)
"""
_PAGE = f"select {_COLUMNS} {_OWNED} order by d.id desc limit $5 offset $6"
_COUNT = f"select count(*) {_OWNED}"
_LOCK_ONE = f"""
    select {_COLUMNS},
           (select m.role from project_members m where m.user_id = $2 and m.project_id = d.project_id) as role
    from webhook_deliveries d where d.id = $1 for update of d
"""
_RETRY = """
    update webhook_deliveries set
        status = 'pending', attempt_count = 0, next_attempt_at = $2, locked_at = null, finished_at = null
    where id = $1
"""
_WAKE = "select pg_notify('labrelay_events', '')"


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that is this hub's to make.

    Attributes:
        attempts: this one included.
    """

    message: Message
    attempts: int
    locked_at: datetime


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries of the projects that a user owns; None for any."""

    user_id: UUID
    project_id: UUID | None = None
    status: str | None = None
    subscription_id: UUID | None = None

    def arguments(self) -> tuple[object, ...]:
        """In the order of the statements' parameters."""
        return self.user_id, self.project_id, self.status, self.subscription_id


async def claim(connection: Connection, limit: int, now: datetime, live_since: datetime) -> list[Claim]:
    """Take deliveries that are due, at most one a target and none for a target that has one under way.

    Args:
        connection: in a transaction.
        live_since: claims from before are of hubs that have died.
    """
    await connection.execute(_SERIALISE_CLAIMS)
    rows = await connection.fetch(_CLAIM, now, limit, live_since)
    return [
        Claim(
            Message(
                row["id"],
                row["event_id"],
                row["event_type"],
                row["target_url"],
                row["request_body"].encode(),
                row["secret"],
            ),
            row["attempt_count"],
            now,
        )
        for row in rows
    ]


async def next_due(connection: Connection) -> datetime | None:
    """When the next delivery is due, None if none waits."""
    due: datetime | None = await connection.fetchval(_NEXT_DUE)
    return due


async def succeed(connection: Connection, done: Claim, now: datetime) -> None:
    """The target has taken it."""
    await connection.execute(_SUCCEED, done.message.delivery_id, done.locked_at, now)


async def fail(
    connection: Connection, failed: Claim, reason: str, next_attempt_at: datetime | None, now: datetime
) -> None:
    """The attempt failed; without a next one the delivery is dead-lettered."""
    await connection.execute(_FAIL, failed.message.delivery_id, failed.locked_at, reason, next_attempt_at, now)


async def give_back(connection: Connection, claims: list[Claim]) -> None:
    """Nobody has finished these: another hub, or this one after its restart, makes them."""
    await connection.executemany(_GIVE_BACK, [(one.message.delivery_id, one.locked_at) for one in claims])


async def release_stuck(connection: Connection, before: datetime, now: datetime) -> int:
    """Make pending what hubs that have died had under way. Returns: how many."""
    return affected(await connection.execute(_RELEASE_STUCK, before, now))


async def purge(connection: Connection, status: str, before: datetime, limit: int) -> int:
    """Forget at most so many deliveries that ended before this moment. Returns: how many."""
    return affected(await connection.execute(_PURGE, before, status, limit))


async def page(connection: Connection, wanted: DeliveryFilter, limit: int, offset: int) -> tuple[list[Row], int]:
    """Deliveries, newest first, and how many there are in all."""
    rows = await connection.fetch(_PAGE, *wanted.arguments(), limit, offset)
    total: int = await connection.fetchval(_COUNT, *wanted.arguments())
    return rows, total


async def lock_one(connection: Connection, delivery_id: UUID, user_id: UUID) -> Row | None:
    """A delivery, which no hub claims until the transaction ends; `role` is the user's in its project."""
    return await connection.fetchrow(_LOCK_ONE, delivery_id, user_id)


async def retry(connection: Connection, delivery_id: UUID, now: datetime) -> None:
    """Make it due now, with all its attempts before it."""
    await connection.execute(_RETRY, delivery_id, now)


async def wake(connection: Connection) -> None:
    """Tell all hubs, once this transaction has committed, that there may be something to deliver."""
    await connection.execute(_WAKE)
