"""Changing an experiment, with what is told of it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from hub.events.change import Change
from hub.events.event import NewEvent, SubjectType
from hub.experiments import store
from hub.experiments.fields import same_json
from hub.experiments.rules import Status, require_transition
from hub.experiments.store import ExperimentFields
from hub.experiments.views import ExperimentView


def tell_created(change: Change, view: ExperimentView) -> None:
    """Tell of a new experiment."""
    change.record(_event("created", view, view.model_dump(mode="json")))


async def apply(change: Change, before: ExperimentView, wanted: ExperimentFields) -> bool:
    """Change what differs of a locked experiment.

    Returns: whether anything did; if nothing does, there is no new version and no event.
    Raises: Problem 409 for a status that cannot follow; asyncpg.UniqueViolationError (`experiments_name`).
    """
    different = _different(before, wanted)
    status = different.get("status")
    if status is not None:
        require_transition("experiment", before.status, Status(status))
    if not different:
        return False
    await store.change(change.connection, before.id, ExperimentFields(**different), change.now)
    _tell(change, before, different)
    return True


def tell_deleted(change: Change, view: ExperimentView, runs: int) -> None:
    """Tell what was removed, and how many runs with it."""
    change.record(_event("deleted", view, view.model_dump(mode="json") | {"runs_deleted": runs}))


def _different(before: ExperimentView, wanted: ExperimentFields) -> dict[str, Any]:
    """What is given and is not so yet."""
    given = {field.name: getattr(wanted, field.name) for field in fields(wanted)}
    return {
        name: value
        for name, value in given.items()
        if value is not None and not same_json(value, getattr(before, name))
    }


def _tell(change: Change, before: ExperimentView, different: dict[str, Any]) -> None:
    was = before.model_dump(mode="json")
    status = different.get("status")
    described = [name for name in different if name != "status"]
    if described:
        change.record(_event("updated", before, _both(was, different, described)))
    if status is not None:
        change.record(_event("status_changed", before, _both(was, different, ["status"])))
    if status == Status.ARCHIVED:
        change.record(_event("archived", before, {}))


def _both(before: dict[str, Any], after: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return {"before": {name: before[name] for name in names}, "after": {name: after[name] for name in names}}


def _event(what: str, view: ExperimentView, payload: dict[str, Any]) -> NewEvent:
    named = {"id": str(view.id), "name": view.name, **payload}
    return NewEvent(f"experiment.{what}", SubjectType.EXPERIMENT, view.id, view.project_id, named)
