"""SQL of runs.

Whoever changes a run holds its experiment (shared) before the run, and the run before its sessions: see `lock`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import asyncpg

from hub.database.pool import Connection
from hub.runs.rules import Timing

if TYPE_CHECKING:
    Row: TypeAlias = asyncpg.Record
else:
    Row = asyncpg.Record

_OF_CALLER = """
    from runs r left join project_members m on m.project_id = r.project_id and m.user_id = $2
"""
_ONE = f"select r.*, m.role {_OF_CALLER} where r.id = $1"
_MANY = "select * from runs where id = any($1)"
_LOCKED = f"select r.*, m.role {_OF_CALLER} where r.id = any($1) order by r.id for update of r"
_HOLD = "select true from runs where id = $1 for key share"
_LOCK_EXPERIMENTS = """
    select e.id from experiments e
    where e.id in (select experiment_id from runs where id = any($1)) order by e.id for share
"""
_EXPERIMENT_STATUS = "select status from experiments where id = $1"

_ADD = """
    insert into runs (id, experiment_id, project_id, created_by, name, params, git_sha, env, notes, tags, metadata,
                      auto_complete_after_minutes, created_at, updated_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13)
"""
_CHANGE = """
    update runs set
        name = $2, params = $3, git_sha = $4, env = $5, notes = $6, tags = $7, metadata = $8,
        auto_complete_after_minutes = $9, updated_at = $10, version = version + 1
    where id = $1
"""
_SET_STATUS = """
    update runs set
        status = $2, started_at = $3, finished_at = $4, duration_seconds = $5, updated_at = $6, version = version + 1
    where id = $1
"""
_SET_TAGS = "update runs set tags = $2, updated_at = $3, version = version + 1 where id = $1"
_TOUCH = "update runs set updated_at = $2, version = version + 1 where id = $1"
_DELETE = "delete from runs where id = $1"

_ACTIVE_SESSIONS = """
    select run_id, id, ordinal_number, status from capture_sessions
    where run_id = any($1) and status in ('draft', 'running', 'backfilling') order by run_id, ordinal_number
"""
_OVERDUE = """
    select r.id from runs r
    where r.status = 'running' and r.auto_complete_after_minutes is not null
        and r.started_at + r.auto_complete_after_minutes * interval '1 minute' <= $1
        and not exists (
            select from capture_sessions s
            where s.run_id = r.id and s.status in ('draft', 'running', 'backfilling')
        )
    order by r.id limit $2
"""
# What became of sessions and artifacts of the run is told even when they are gone.
_OF_RUN = """
    (subject_id = $1 and subject_type = 'run'
     or payload ->> 'run_id' = $1::text and subject_type in ('capture_session', 'artifact'))
"""
_EVENTS = f"""
    select id, event_type, subject_type, subject_id, actor_type, actor_id, actor_role, payload, created_at
    from events where {_OF_RUN} order by id desc limit $2 offset $3
"""
_COUNT_EVENTS = f"select count(*) from events where {_OF_RUN}"


@dataclass(frozen=True, slots=True)
class RunFields:
    """What people say about a run."""

    name: str
    params: dict[str, Any]
    git_sha: str
    env: str
    notes: str
    tags: list[str]
    metadata: dict[str, Any]
    auto_complete_after_minutes: int | None

    def arguments(self) -> tuple[object, ...]:
        """In the order of the statements' parameters."""
        return (
            self.name,
            self.params,
            self.git_sha,
            self.env,
            self.notes,
            self.tags,
            self.metadata,
            self.auto_complete_after_minutes,
        )


async def one(connection: Connection, run_id: UUID, user_id: UUID) -> Row | None:
    """A run; `role` is the user's in its project, None for outsiders."""
    return await connection.fetchrow(_ONE, run_id, user_id)


async def lock(connection: Connection, run_ids: Sequence[UUID], user_id: UUID | None) -> list[Row]:
    """Let nobody else change these runs, nor remove or archive their experiments, until the transaction ends.

    Returns: those that are there, in order of id, each with the user's `role`.
    """
    await connection.fetch(_LOCK_EXPERIMENTS, run_ids)
    return await connection.fetch(_LOCKED, run_ids, user_id)


async def hold(connection: Connection, run_id: UUID) -> bool:
    """Keep a run from being removed until the transaction ends. Returns: whether it is there."""
    return await connection.fetchval(_HOLD, run_id) is not None


async def many(connection: Connection, run_ids: Sequence[UUID]) -> list[Row]:
    """Those of these runs that are there."""
    return await connection.fetch(_MANY, run_ids)


async def experiment_status(connection: Connection, experiment_id: UUID) -> str:
    """The status of a run's experiment."""
    status: str = await connection.fetchval(_EXPERIMENT_STATUS, experiment_id)
    return status


async def add(
    connection: Connection,
    run_id: UUID,
    experiment_id: UUID,
    project_id: UUID,
    created_by: UUID,
    fields: RunFields,
    now: datetime,
) -> None:
    """A new run, a draft."""
    await connection.execute(_ADD, run_id, experiment_id, project_id, created_by, *fields.arguments(), now)


async def change(connection: Connection, run_id: UUID, fields: RunFields, now: datetime) -> None:
    """What people say about a run now."""
    await connection.execute(_CHANGE, run_id, *fields.arguments(), now)


async def set_status(connection: Connection, run_id: UUID, status: str, timing: Timing, now: datetime) -> None:
    """Another status, with the times that it sets."""
    await connection.execute(
        _SET_STATUS, run_id, status, timing.started_at, timing.finished_at, timing.duration_seconds, now
    )


async def set_tags(connection: Connection, run_id: UUID, tags: list[str], now: datetime) -> None:
    """Other tags."""
    await connection.execute(_SET_TAGS, run_id, tags, now)


async def touch(connection: Connection, run_id: UUID, now: datetime) -> None:
    """Another version, of what stands in other tables."""
    await connection.execute(_TOUCH, run_id, now)


async def delete(connection: Connection, run_id: UUID) -> None:
    """Remove a run with all that belongs to it. Raises: asyncpg.ForeignKeyViolationError."""
    await connection.execute(_DELETE, run_id)


async def active_sessions(connection: Connection, run_ids: Sequence[UUID]) -> list[Row]:
    """(run_id, id, ordinal_number, status) of the runs' sessions that are draft, running or backfilling."""
    return await connection.fetch(_ACTIVE_SESSIONS, run_ids)


async def overdue(connection: Connection, now: datetime, limit: int) -> list[UUID]:
    """Running runs that are older than they said they would be, without an active session; `limit` at most."""
    return [row["id"] for row in await connection.fetch(_OVERDUE, now, limit)]


async def events(connection: Connection, run_id: UUID, limit: int, offset: int) -> tuple[list[Row], int]:
    """What was done to a run, its sessions and artifacts, newest first, and how many times in all."""
    rows = await connection.fetch(_EVENTS, run_id, limit, offset)
    total: int = await connection.fetchval(_COUNT_EVENTS, run_id)
    return rows, total
