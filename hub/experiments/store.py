"""SQL of experiments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import asyncpg

from hub.database.pool import Connection
from hub.experiments.filters import Filters

if TYPE_CHECKING:
    Row: TypeAlias = asyncpg.Record
else:
    Row = asyncpg.Record

COLUMNS = (
    "id",
    "project_id",
    "owner_id",
    "name",
    "description",
    "experiment_type",
    "tags",
    "metadata",
    "status",
    "archived_at",
    "created_at",
    "updated_at",
    "version",
)
"""What an experiment is shown as, everywhere."""
SELECTED = ", ".join(f"e.{column}" for column in COLUMNS)

# Ids sort by the time they were drawn, so the newest experiments come first.
_FILTERED = """
    from experiments e join project_members m on m.project_id = e.project_id
    where m.user_id = $1
    and ($2::uuid is null or e.project_id = $2)
    and ($3::text is null or e.status = $3)
    and ($4::text[] is null or e.tags @> $4)
    and ($5::timestamptz is null or e.created_at >= $5)
    and ($6::timestamptz is null or e.created_at <= $6)
"""
_PAGE = f"select {SELECTED} {_FILTERED} order by e.id desc limit $7 offset $8"
_COUNT = f"select count(*) {_FILTERED}"
EXPORT = f"select {SELECTED} {_FILTERED} order by e.id desc"
"""All experiments of a list; the parameters are a user's id and those of the filters."""

_ONE = f"""
    select {SELECTED}, m.role
    from experiments e join project_members m on m.project_id = e.project_id and m.user_id = $2
    where e.id = $1
"""
_ONE_LOCKED = f"{_ONE} for update of e"
_ADD = """
    insert into experiments (id, project_id, owner_id, name, description, experiment_type, tags, metadata, status,
                             archived_at, created_at, updated_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, case when $9 = 'archived' then $10::timestamptz end, $10, $10)
"""
_CHANGE = """
    update experiments set
        name = coalesce($3, name), description = coalesce($4, description),
        experiment_type = coalesce($5, experiment_type), tags = coalesce($6, tags), metadata = coalesce($7, metadata),
        status = coalesce($8, status),
        archived_at = case when $8 = 'archived' then $2 else archived_at end,
        updated_at = $2, version = version + 1
    where id = $1
"""
_DELETE = "delete from experiments where id = $1"
_COUNT_RUNS = "select count(*) from runs where experiment_id = $1"
_BUSY_RUN = """
    select r.id, r.name, r.status, s.ordinal_number, s.status as session_status
    from runs r left join capture_sessions s on s.run_id = r.id and s.status in ('running', 'backfilling')
    where r.experiment_id = $1 and (r.status = 'running' or s.id is not null)
    order by r.id limit 1
"""


@dataclass(frozen=True, slots=True)
class ExperimentFields:
    """What people say about an experiment; None leaves it as it is."""

    name: str | None = None
    description: str | None = None
    experiment_type: str | None = None
    tags: list[str] | None = None
    metadata: Mapping[str, Any] | None = None
    status: str | None = None

    def arguments(self) -> tuple[object, ...]:
        """In the order of the statements' parameters."""
        return self.name, self.description, self.experiment_type, self.tags, self.metadata, self.status


async def page(
    connection: Connection, user_id: UUID, filters: Filters, limit: int, offset: int
) -> tuple[list[Row], int]:
    """Experiments that the user may see, newest first, and how many there are in all."""
    rows = await connection.fetch(_PAGE, user_id, *filters.arguments(), limit, offset)
    total: int = await connection.fetchval(_COUNT, user_id, *filters.arguments())
    return rows, total


async def one(connection: Connection, experiment_id: UUID, user_id: UUID, *, lock: bool = False) -> Row | None:
    """An experiment in a project of the user's, with the user's role.

    Args:
        lock: let nobody else lock it, change it or add runs to it until the transaction ends.
    """
    return await connection.fetchrow(_ONE_LOCKED if lock else _ONE, experiment_id, user_id)


async def add(
    connection: Connection,
    experiment_id: UUID,
    project_id: UUID,
    owner_id: UUID,
    fields: ExperimentFields,
    now: datetime,
) -> None:
    """A new experiment, all of whose fields are given. Raises: asyncpg.UniqueViolationError (`experiments_name`)."""
    await connection.execute(_ADD, experiment_id, project_id, owner_id, *fields.arguments(), now)


async def change(connection: Connection, experiment_id: UUID, fields: ExperimentFields, now: datetime) -> None:
    """Other fields, and a higher version. Raises: asyncpg.UniqueViolationError (`experiments_name`)."""
    await connection.execute(_CHANGE, experiment_id, now, *fields.arguments())


async def delete(connection: Connection, experiment_id: UUID) -> int:
    """Remove a locked experiment with its runs. Returns: how many those were."""
    runs: int = await connection.fetchval(_COUNT_RUNS, experiment_id)
    await connection.execute(_DELETE, experiment_id)
    return runs


async def busy_run(connection: Connection, experiment_id: UUID) -> Row | None:
    """A run that is running, or has a session that is running or backfilling, if there is any."""
    return await connection.fetchrow(_BUSY_RUN, experiment_id)
