"""SQL of broker credentials: what members read live values and events of their projects with."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import asyncpg

from hub.database.pool import Connection

if TYPE_CHECKING:
    Row: TypeAlias = asyncpg.Record
else:
    Row = asyncpg.Record

_MAKING = "select pg_advisory_xact_lock_shared(1280459057, 8)"
_FOLLOWING = "select pg_advisory_xact_lock(1280459057, 8)"
_LOCK_USER = "select id from users where id = $1 for no key update"
_COUNT = "select count(*) from broker_credentials where user_id = $1 and revoked_at is null"
_COLUMNS = """
    c.id, c.name, c.mqtt_username, c.created_at, c.lost_at,
    array(select m.project_id from project_members m where m.user_id = c.user_id order by m.project_id) as project_ids
"""
_ADD = "insert into broker_credentials (id, user_id, name, mqtt_username, created_at) values ($1, $2, $3, $4, $5)"
_ONE = f"select {_COLUMNS} from broker_credentials c where c.id = $1"
_PAGE = f"""
    select {_COLUMNS} from broker_credentials c
    where c.user_id = $1 and c.revoked_at is null
    order by c.id desc limit $2 offset $3
"""
_REVOKE = """
    update broker_credentials set revoked_at = $3 where id = $1 and user_id = $2 and revoked_at is null
    returning id, name, mqtt_username
"""
_WANTED = """
    select c.mqtt_username, array(
        select m.project_id from project_members m join users u on u.id = m.user_id
        where m.user_id = c.user_id and u.is_active
    ) as project_ids
    from broker_credentials c
    where c.revoked_at is null
"""
_NOTE_LOST = """
    update broker_credentials set lost_at = case when mqtt_username = any($1::text[]) then $2::timestamptz end
    where revoked_at is null and (lost_at is not null) <> (mqtt_username = any($1::text[]))
"""


async def making(connection: Connection) -> None:
    """Until the transaction ends, nobody takes what it makes at the broker for something that is left over."""
    await connection.execute(_MAKING)


async def following(connection: Connection) -> None:
    """Until the transaction ends, nobody makes credentials and no other hub compares."""
    await connection.execute(_FOLLOWING)


async def count(connection: Connection, user_id: UUID) -> int:
    """How many credentials the user has; none is added by anyone else until the transaction ends."""
    await connection.execute(_LOCK_USER, user_id)
    return int(await connection.fetchval(_COUNT, user_id))


async def add(
    connection: Connection, credential_id: UUID, user_id: UUID, name: str, username: str, now: datetime
) -> Row:
    """New credentials, with the `project_ids` that they reach."""
    await connection.execute(_ADD, credential_id, user_id, name, username, now)
    row = await connection.fetchrow(_ONE, credential_id)
    assert row is not None
    return row


async def page(connection: Connection, user_id: UUID, limit: int, offset: int) -> tuple[list[Row], int]:
    """The user's credentials, newest first, and how many there are; without those that were revoked."""
    rows = await connection.fetch(_PAGE, user_id, limit, offset)
    return rows, await connection.fetchval(_COUNT, user_id)


async def revoke(connection: Connection, credential_id: UUID, user_id: UUID, now: datetime) -> Row | None:
    """Make credentials worthless. Returns: them, None if the user has no such ones."""
    return await connection.fetchrow(_REVOKE, credential_id, user_id, now)


async def wanted(connection: Connection) -> dict[str, list[UUID]]:
    """All credentials that are good, by name at the broker, and the projects that they reach: none of the inactive."""
    return {row["mqtt_username"]: row["project_ids"] for row in await connection.fetch(_WANTED)}


async def note_lost(connection: Connection, usernames: Collection[str], now: datetime) -> None:
    """These, and no others, are not known to the broker."""
    await connection.execute(_NOTE_LOST, list(usernames), now)
