"""The run that a request names, if the caller may do to it what the route does.

A run is changed with locks in this order: its experiment (shared), the run, its sessions. So nobody waits for somebody
who waits for him.
"""

from __future__ import annotations

from uuid import UUID

from hub.access.identity import Role, User, require_role
from hub.database.pool import Connection
from hub.errors import not_found
from hub.runs import store
from hub.runs.store import Row


async def find_run(connection: Connection, user: User, run_id: UUID, at_least: Role = Role.VIEWER) -> Row:
    """The run's row. Raises: Problem 404, 403."""
    row = await store.one(connection, run_id, user.id)
    require_role(row["role"] if row else None, at_least, "run")
    assert row is not None
    return row


async def lock_run(connection: Connection, user: User, run_id: UUID, at_least: Role = Role.EDITOR) -> Row:
    """The run's row, which nobody else changes until the transaction ends. Raises: Problem 404, 403."""
    await find_run(connection, user, run_id, at_least)
    rows = await store.lock(connection, [run_id], user.id)
    if not rows:  # removed meanwhile
        raise not_found("run")
    require_role(rows[0]["role"], at_least, "run")
    return rows[0]


async def hold_run(connection: Connection, user: User, run_id: UUID, at_least: Role) -> Row:
    """The run's row, kept from being removed until the transaction ends: enough to add to a run what it consists of.

    Raises: Problem 404, 403.
    """
    row = await find_run(connection, user, run_id, at_least)
    if not await store.hold(connection, run_id):
        raise not_found("run")
    return row
