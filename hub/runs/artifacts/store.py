"""SQL of artifacts. Whoever changes one holds its run (`hub.runs.access.hold_run`) before the artifact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from hub.database.pool import Connection
from hub.runs.store import Row

_FILTERED = """
    from artifacts
    where run_id = $1 and ($2::text is null or type = $2) and ($3::boolean is null or (approved_by is not null) = $3)
"""
_PAGE = f"select * {_FILTERED} order by id desc limit $4 offset $5"
_COUNT = f"select count(*) {_FILTERED}"
_ONE = "select * from artifacts where id = $1 and run_id = $2"
_LOCKED = f"{_ONE} for update"
_ADD = """
    insert into artifacts (id, run_id, project_id, created_by, uri, name, type, checksum, size, content_type, metadata,
                           created_at, updated_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12)
"""
_CHANGE = """
    update artifacts set
        uri = $2, name = $3, type = $4, checksum = $5, size = $6, content_type = $7, metadata = $8, updated_at = $9,
        version = version + 1
    where id = $1 returning *
"""
_SET_CONTENT = """
    update artifacts set
        stored = true, content_key = $2, checksum = $3, size = $4, content_type = $5, updated_at = $6,
        version = version + 1
    where id = $1 returning *
"""
_SET_APPROVAL = """
    update artifacts set
        approved_by = $2, approved_at = case when $2::uuid is null then null else $3::timestamptz end,
        updated_at = $3, version = version + 1
    where id = $1 returning *
"""
_DELETE = "delete from artifacts where id = $1"
_KNOWN_KEYS = "select content_key from artifacts where content_key = any($1)"


@dataclass(frozen=True, slots=True)
class ArtifactFields:
    """What is said of an artifact.

    Attributes:
        checksum: of the content; SHA-256 in hexadecimal digits where the hub keeps that.
        size: of the content in bytes.
    """

    uri: str
    name: str
    type: str
    checksum: str
    size: int | None
    content_type: str
    metadata: dict[str, Any]

    def arguments(self) -> tuple[object, ...]:
        """In the order of the statements' parameters."""
        return self.uri, self.name, self.type, self.checksum, self.size, self.content_type, self.metadata


async def page(
    connection: Connection,
    run_id: UUID,
    *,
    type_: str | None,
    approved: bool | None,
    limit: int,
    offset: int,
) -> tuple[list[Row], int]:
    """Artifacts of a run, newest first, and how many there are in all."""
    rows = await connection.fetch(_PAGE, run_id, type_, approved, limit, offset)
    total: int = await connection.fetchval(_COUNT, run_id, type_, approved)
    return rows, total


async def one(connection: Connection, run_id: UUID, artifact_id: UUID, *, lock: bool = False) -> Row | None:
    """An artifact of the run, which nobody else changes until the transaction ends with `lock`."""
    return await connection.fetchrow(_LOCKED if lock else _ONE, artifact_id, run_id)


async def add(
    connection: Connection,
    artifact_id: UUID,
    *,
    run_id: UUID,
    project_id: UUID,
    created_by: UUID,
    fields: ArtifactFields,
    now: datetime,
) -> None:
    """A new artifact, without content at the hub."""
    await connection.execute(_ADD, artifact_id, run_id, project_id, created_by, *fields.arguments(), now)


async def change(connection: Connection, artifact_id: UUID, fields: ArtifactFields, now: datetime) -> Row:
    """What is said of an artifact now."""
    return await _changed(connection, _CHANGE, artifact_id, *fields.arguments(), now)


async def set_content(
    connection: Connection, artifact_id: UUID, key: str, checksum: str, size: int, content_type: str, now: datetime
) -> Row:
    """The content that the hub keeps now."""
    return await _changed(connection, _SET_CONTENT, artifact_id, key, checksum, size, content_type, now)


async def set_approval(connection: Connection, artifact_id: UUID, approved_by: UUID | None, now: datetime) -> Row:
    """Approved by somebody, or by nobody any more."""
    return await _changed(connection, _SET_APPROVAL, artifact_id, approved_by, now)


async def delete(connection: Connection, artifact_id: UUID) -> None:
    """Remove an artifact."""
    await connection.execute(_DELETE, artifact_id)


async def known_keys(connection: Connection, keys: Sequence[str]) -> set[str]:
    """Those of these keys that artifacts name."""
    return {row["content_key"] for row in await connection.fetch(_KNOWN_KEYS, keys)}


async def _changed(connection: Connection, statement: str, *arguments: object) -> Row:
    row = await connection.fetchrow(statement, *arguments)
    assert row is not None  # locked before
    return row
