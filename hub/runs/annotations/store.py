"""SQL of annotations."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from datetime import datetime
from uuid import UUID

from hub.database.pool import Connection
from hub.runs.store import Row

_COLUMNS = "id, run_id, capture_session_id, timestamp, text, kind, created_by, created_at"
_FILTERED = """
    from annotations
    where run_id = $1
    and ($2::uuid is null or capture_session_id = $2)
    and ($3::text is null or kind = $3)
    and ($4::timestamptz is null or timestamp >= $4)
    and ($5::timestamptz is null or timestamp <= $5)
"""
_PAGE = f"select {_COLUMNS} {_FILTERED} order by timestamp, id limit $6 offset $7"
_COUNT = f"select count(*) {_FILTERED}"
_ADD = f"insert into annotations ({_COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7, $8)"
_DELETE = f"delete from annotations where id = $1 and run_id = $2 returning {_COLUMNS}"
_HAS_SESSION = "select exists (select from capture_sessions where id = $1 and run_id = $2 for key share)"


@dataclass(frozen=True, slots=True)
class Annotation:
    """What somebody noted."""

    id: UUID
    run_id: UUID
    capture_session_id: UUID | None
    timestamp: datetime
    text: str
    kind: str
    created_by: UUID | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class AnnotationFilter:
    """Which annotations of a run."""

    run_id: UUID
    capture_session_id: UUID | None = None
    kind: str | None = None
    time_from: datetime | None = None
    time_to: datetime | None = None

    def arguments(self) -> tuple[object, ...]:
        """In the order of the statements' parameters."""
        return self.run_id, self.capture_session_id, self.kind, self.time_from, self.time_to


async def page(connection: Connection, wanted: AnnotationFilter, limit: int, offset: int) -> tuple[list[Row], int]:
    """Annotations by time, and how many there are in all."""
    rows = await connection.fetch(_PAGE, *wanted.arguments(), limit, offset)
    total: int = await connection.fetchval(_COUNT, *wanted.arguments())
    return rows, total


async def has_session(connection: Connection, run_id: UUID, session_id: UUID) -> bool:
    """Whether a session is one of the run's; it stays so until the transaction ends."""
    found: bool = await connection.fetchval(_HAS_SESSION, session_id, run_id)
    return found


async def add(connection: Connection, annotation: Annotation) -> None:
    """A new annotation."""
    await connection.execute(_ADD, *astuple(annotation))


async def delete(connection: Connection, run_id: UUID, annotation_id: UUID) -> Row | None:
    """Remove an annotation. Returns: what it was, None if the run has no such one."""
    return await connection.fetchrow(_DELETE, annotation_id, run_id)
