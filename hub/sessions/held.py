"""How many readings a session holds back."""

from __future__ import annotations

from uuid import UUID

from hub.database.pool import Connection
from hub.telemetry.membership import of_sessions, series_of
from hub.telemetry.scan import TIMEOUT_S, horizon


async def count_settled(connection: Connection, session_id: UUID) -> tuple[int, int]:
    """Readings that are held back so far, while ingest goes on.

    Returns: how many have an id below the second number; those from there on may still be under way.
    Raises: StorageUnavailable.
    """
    end = await horizon(connection)
    return await count(connection, session_id, 0, end), end


async def count(connection: Connection, session_id: UUID, from_id: int, to_id: int) -> int:
    """Readings with ids from `from_id` to before `to_id` that are held back. Raises: StorageUnavailable."""
    found = await of_sessions(connection, [session_id])
    if not found or not len(found[0].held):
        return 0
    membership = found[0]
    series = await series_of(connection, found)
    condition = (
        f"{membership.condition(series, with_held=True)} and {membership.held.condition()} "
        f"and r.id >= {int(from_id)} and r.id < {int(to_id)}"
    )
    counted: int = await connection.fetchval(f"select count(*) from readings r where {condition}", timeout=TIMEOUT_S)
    return counted
