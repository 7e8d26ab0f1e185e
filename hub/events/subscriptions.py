"""SQL of webhook subscriptions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import asyncpg

from hub.database.pool import Connection

if TYPE_CHECKING:
    Row: TypeAlias = asyncpg.Record
else:
    Row = asyncpg.Record

_COLUMNS = """
    s.id, s.project_id, s.target_url, s.event_types, s.secret <> '' as is_signed, s.is_active, s.created_by,
    s.created_at, s.updated_at
"""
_ROLE = "(select m.role from project_members m where m.user_id = $2 and m.project_id = s.project_id) as role"
_OWNED = """
    from webhook_subscriptions s
    where s.project_id in (select m.project_id from project_members m where m.user_id = $1 and m.role = 'owner')
      and ($2::uuid is null or s.project_id = $2)
"""
_PAGE = f"select {_COLUMNS} {_OWNED} order by s.created_at desc, s.id desc limit $3 offset $4"
_COUNT = f"select count(*) {_OWNED}"
_ONE = f"select {_COLUMNS}, {_ROLE} from webhook_subscriptions s where s.id = $1"
_LOCK_ONE = f"{_ONE} for no key update of s"
_LOCK_PROJECT = "select id from projects where id = $1 for no key update"
_COUNT_OF_PROJECT = "select count(*) from webhook_subscriptions where project_id = $1"
_ADD = """
    insert into webhook_subscriptions
        (id, project_id, target_url, event_types, secret, is_active, created_by, created_at, updated_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $8)
"""
_ACTIVATE = "update webhook_subscriptions set is_active = $2, updated_at = $3 where id = $1"
_DELETE = "delete from webhook_subscriptions where id = $1"


@dataclass(frozen=True, slots=True)
class Subscription:
    """What someone wants to be told, and where. `secret` is empty where nothing is to be signed."""

    project_id: UUID
    target_url: str
    event_types: Sequence[str]
    secret: str
    is_active: bool


async def page(
    connection: Connection, user_id: UUID, project_id: UUID | None, limit: int, offset: int
) -> tuple[list[Row], int]:
    """Subscriptions of projects that the user owns (or of one), newest first, and how many there are."""
    rows = await connection.fetch(_PAGE, user_id, project_id, limit, offset)
    total: int = await connection.fetchval(_COUNT, user_id, project_id)
    return rows, total


async def one(connection: Connection, subscription_id: UUID, user_id: UUID) -> Row | None:
    """A subscription; `role` is the user's in its project, None for outsiders."""
    return await connection.fetchrow(_ONE, subscription_id, user_id)


async def lock_one(connection: Connection, subscription_id: UUID, user_id: UUID) -> Row | None:
    """The same, and nobody else changes it until the transaction ends."""
    return await connection.fetchrow(_LOCK_ONE, subscription_id, user_id)


async def count_locked(connection: Connection, project_id: UUID) -> int:
    """How many a project has, with nobody adding one until the transaction ends."""
    await connection.execute(_LOCK_PROJECT, project_id)
    count: int = await connection.fetchval(_COUNT_OF_PROJECT, project_id)
    return count


async def add(
    connection: Connection, subscription_id: UUID, subscription: Subscription, user_id: UUID, now: datetime
) -> None:
    """A new one."""
    await connection.execute(
        _ADD,
        subscription_id,
        subscription.project_id,
        subscription.target_url,
        subscription.event_types,
        subscription.secret,
        subscription.is_active,
        user_id,
        now,
    )


async def activate(connection: Connection, subscription_id: UUID, is_active: bool, now: datetime) -> None:
    """Switch it on or off."""
    await connection.execute(_ACTIVATE, subscription_id, is_active, now)


async def delete(connection: Connection, subscription_id: UUID) -> None:
    """Remove it with all its deliveries."""
    await connection.execute(_DELETE, subscription_id)
