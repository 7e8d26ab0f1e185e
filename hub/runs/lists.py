"""SQL of lists of runs: pages, and whole ones as files."""

from __future__ import annotations

from uuid import UUID

from hub.database.pool import Connection
from hub.experiments.filters import Filters
from hub.export.download import Query
from hub.export.formats import Sheet
from hub.runs.store import Row
from hub.runs.views import RunView

SHEET = Sheet("runs", tuple(RunView.model_fields))
"""What a file of runs holds: what the API shows."""
_COLUMNS = ", ".join(f"r.{column}" for column in SHEET.columns)

# Ids sort by the time they were drawn, so the newest runs come first.
_FILTERED = """
    from runs r
    where r.experiment_id = $1
    and ($2::uuid is null or r.project_id = $2)
    and ($3::text is null or r.status = $3)
    and ($4::text[] is null or r.tags @> $4)
    and ($5::timestamptz is null or r.created_at >= $5)
    and ($6::timestamptz is null or r.created_at <= $6)
"""
_PAGE = f"select {_COLUMNS} {_FILTERED} order by r.id desc limit $7 offset $8"
_COUNT = f"select count(*) {_FILTERED}"
_ALL = f"select {_COLUMNS} {_FILTERED} order by r.id desc"


async def page(
    connection: Connection, experiment_id: UUID, filters: Filters, limit: int, offset: int
) -> tuple[list[Row], int]:
    """Runs of an experiment, newest first, and how many there are in all."""
    rows = await connection.fetch(_PAGE, experiment_id, *filters.arguments(), limit, offset)
    total: int = await connection.fetchval(_COUNT, experiment_id, *filters.arguments())
    return rows, total


def whole(experiment_id: UUID, filters: Filters) -> Query:
    """All of them, for a file."""
    return Query(_ALL, (experiment_id, *filters.arguments()))
