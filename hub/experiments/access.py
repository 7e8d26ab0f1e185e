"""The experiment that a request names, if the caller may do to it what the route does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import asyncpg

from hub.access.identity import Role, User, require_role
from hub.database.pool import Connection
from hub.errors import conflict, not_found
from hub.experiments import store
from hub.experiments.store import Row


async def find_experiment(
    connection: Connection, user: User, experiment_id: UUID, at_least: Role = Role.VIEWER, *, lock: bool = False
) -> Row:
    """The experiment's row.

    Args:
        lock: let nobody else change it, nor add or start runs of it, until the transaction ends. Whoever locks runs
            too locks them afterwards.

    Raises: Problem 404, 403.
    """
    row = await store.one(connection, experiment_id, user.id, lock=lock)
    if row is None:
        raise not_found("experiment")
    require_role(row["role"], at_least, "experiment")
    return row


@contextmanager
def unique_names() -> Iterator[None]:
    """Names are unique per project, whatever the case. Raises: Problem 409."""
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name != "experiments_name":
            raise
        raise conflict("the project has an experiment of this name already", code="taken") from None
