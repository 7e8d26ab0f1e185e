"""The artifact that a request names, if the caller may do to it what the route does; and what is told of it."""

from __future__ import annotations

from uuid import UUID

from hub.access.identity import Role, User
from hub.database.pool import Connection
from hub.errors import conflict, not_found
from hub.events.change import Change
from hub.events.event import NewEvent, SubjectType
from hub.runs.access import find_run, hold_run
from hub.runs.artifacts import store
from hub.runs.artifacts.views import ArtifactView
from hub.runs.store import Row


async def find_artifact(
    connection: Connection, user: User, run_id: UUID, artifact_id: UUID, at_least: Role = Role.VIEWER
) -> Row:
    """The artifact's row. Raises: Problem 404, 403."""
    await find_run(connection, user, run_id, at_least)
    row = await store.one(connection, run_id, artifact_id)
    if row is None:
        raise not_found("artifact")
    return row


async def lock_artifact(
    connection: Connection, user: User, run_id: UUID, artifact_id: UUID, at_least: Role = Role.EDITOR
) -> Row:
    """The artifact's row, which nobody else changes until the transaction ends. Raises: Problem 404, 403."""
    await hold_run(connection, user, run_id, at_least)
    row = await store.one(connection, run_id, artifact_id, lock=True)
    if row is None:
        raise not_found("artifact")
    return row


def require_unapproved(row: Row) -> None:
    """See that nobody has approved the artifact as it is. Raises: Problem 409."""
    if row["approved_by"] is not None:
        raise conflict("the artifact is approved; an owner can withdraw that", code="artifact_approved")


def record_artifact(change: Change, event_type: str, view: ArtifactView) -> None:
    """Tell of something that was done to an artifact."""
    payload = {"run_id": str(view.run_id), "artifact": view.model_dump(mode="json")}
    change.record(NewEvent(event_type, SubjectType.ARTIFACT, view.id, view.project_id, payload))
