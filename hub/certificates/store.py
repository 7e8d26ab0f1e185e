"""SQL of certificates that were issued, and of the sessions that they are about."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import asyncpg

from hub.database.pool import Connection

if TYPE_CHECKING:
    Row: TypeAlias = asyncpg.Record
else:
    Row = asyncpg.Record

_SESSION = """
select s.*, r.name as run_name, x.id as experiment_id, x.name as experiment_name, p.name as project_name
from capture_sessions s
join runs r on r.id = s.run_id
join experiments x on x.id = r.experiment_id
join projects p on p.id = s.project_id
where s.id = $1 and ($2::uuid is null or s.run_id = $2)
"""
_LOCK = "select id from capture_sessions where id = $1 for update"
_LATEST = """
select version, digest, document, session_version from certificates where session_id = $1 order by version desc limit 1
"""
_ONE = "select document from certificates where session_id = $1 and version = $2"
_VERSIONS = "select version, state, made_at from certificates where session_id = $1 order by version desc"
_ADD = """
insert into certificates (session_id, version, state, made_at, session_version, digest, document)
values ($1, $2, $3, $4, $5, $6, $7)
"""
_STILL_HOLDS = "update certificates set session_version = $3 where session_id = $1 and version = $2"
_DUE = """
select s.id, s.version from capture_sessions s
where s.stopped_at > $1 and s.status in ('succeeded', 'failed', 'archived')
  and not exists (select from certificates c where c.session_id = s.id and c.session_version = s.version)
order by s.stopped_at desc limit $2
"""


async def session(connection: Connection, session_id: UUID, run_id: UUID | None = None) -> Row | None:
    """A session (of that run), with the names of what it belongs to."""
    return await connection.fetchrow(_SESSION, session_id, run_id)


async def lock(connection: Connection, session_id: UUID) -> bool:
    """Let nobody else issue a certificate of it until the transaction ends. Returns: whether it is there."""
    return await connection.fetchval(_LOCK, session_id) is not None


async def latest(connection: Connection, session_id: UUID) -> Row | None:
    """The last one that was issued."""
    return await connection.fetchrow(_LATEST, session_id)


async def document(connection: Connection, session_id: UUID, version: int) -> str | None:
    """A version as it was signed."""
    found: str | None = await connection.fetchval(_ONE, session_id, version)
    return found


async def versions(connection: Connection, session_id: UUID) -> list[Row]:
    """(version, state, made_at) of all, the latest first."""
    return await connection.fetch(_VERSIONS, session_id)


async def add(
    connection: Connection,
    session_id: UUID,
    version: int,
    state: str,
    made_at: datetime,
    session_version: int,
    digest: bytes,
    text: str,
) -> None:
    """Keep one as it was signed."""
    await connection.execute(_ADD, session_id, version, state, made_at, session_version, digest, text)


async def still_holds(connection: Connection, session_id: UUID, version: int, session_version: int) -> None:
    """The session was changed, and what its certificate says was not."""
    await connection.execute(_STILL_HOLDS, session_id, version, session_version)


async def due(connection: Connection, stopped_after: datetime, limit: int) -> Sequence[Row]:
    """Sessions (id, version) that have ended and have no certificate of what they are now, the latest first."""
    return await connection.fetch(_DUE, stopped_after, limit)
