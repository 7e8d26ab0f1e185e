"""The agent that a request names, if the caller may do to it what the route does."""

from __future__ import annotations

from uuid import UUID

from hub.access.identity import Role, User, member_of
from hub.agents import store
from hub.agents.store import Row
from hub.database.pool import acquire
from hub.errors import not_found
from hub.services import Services


async def find_agent(services: Services, user: User, agent_id: UUID, at_least: Role = Role.VIEWER) -> Row:
    """The agent's row. Raises: Problem 404, 403."""
    async with acquire(services.pool) as connection:
        row = await store.one(connection, agent_id)
    if row is None:
        raise not_found("agent")
    await member_of(services, user, row["project_id"], at_least, what="agent")
    return row
