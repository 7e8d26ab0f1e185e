"""Sessions that a sensor takes part in, as far as they stand in the way of its removal.

A session that is running or backfilling still counts on the sensor. One that has ended does not: its other sensors stay
as they are, and what this one recorded goes with it, as its readings do. Whoever wants to keep them decommissions the
sensor instead.
"""

from __future__ import annotations

from uuid import UUID

from hub.database.pool import Connection
from hub.errors import Problem
from hub.sensors import store

ACTIVE = frozenset({"running", "backfilling"})
SESSIONS_SHOWN_MAX = 100


async def removable_from(connection: Connection, sensor_id: UUID) -> list[UUID]:
    """See that no session stands in the way; to be asked with the locks of starts and of the catalogue.

    A session starts with the first lock and begins a backfill with the second, so none does before the commit.

    Returns: the ended sessions that the sensor took part in.
    Raises: Problem 409 naming the active ones.
    """
    sessions = await store.sessions(connection, sensor_id)
    active = [one for one in sessions if one["status"] in ACTIVE]
    if active:
        raise _in_session(active)
    return [one["id"] for one in sessions]


def _in_session(active: list[store.Row]) -> Problem:
    first = active[0]
    return Problem(
        409,
        f"the sensor takes part in session {first['ordinal_number']} ({first['id']}) of run {first['run_id']}, "
        f"which is {first['status']}; end that first, or decommission the sensor",
        code="session_active",
        extensions={
            "capture_session_id": first["id"],
            "capture_sessions": [
                {"id": one["id"], "run_id": one["run_id"], "status": one["status"]}
                for one in active[:SESSIONS_SHOWN_MAX]
            ],
        },
    )
