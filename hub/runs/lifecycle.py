"""A run enters another status: what must hold, what is written, and what is told of it."""

from __future__ import annotations

from typing import Any

from hub.errors import Problem, conflict
from hub.events.change import Change
from hub.events.event import NewEvent, SubjectType
from hub.experiments.rules import Status, require_transition
from hub.runs import store
from hub.runs.rules import Timing, events_of, needs_idle_sessions
from hub.runs.store import Row
from hub.runs.views import RunView
from hub.telemetry.moments import text_of


async def enter(change: Change, run: Row, status: Status, *, reason: str = "") -> bool:
    """Give a locked run another status.

    Args:
        reason: why, where nobody asked for it.

    Returns: whether anything changes; the same status again does nothing.
    Raises: Problem 409.
    """
    if not require_transition("run", Status(run["status"]), status):
        return False
    await _require_idle_sessions(change, run, status)
    await _require_open_experiment(change, run, status)
    timing = Timing(run["started_at"], run["finished_at"], run["duration_seconds"]).entering(status, change.now)
    await store.set_status(change.connection, run["id"], status, timing, change.now)
    payload = _told(run, status, timing, reason)
    for event_type in events_of(status):
        change.record(NewEvent(event_type, SubjectType.RUN, run["id"], run["project_id"], payload))
    return True


async def start_run(change: Change, run: Row) -> bool:
    """Set a locked draft run running, as a session of it starts. Returns: whether it was a draft."""
    return Status(run["status"]) is Status.DRAFT and await enter(change, run, Status.RUNNING)


def record_run(change: Change, event_type: str, run: Row, payload: dict[str, Any]) -> None:
    """Tell of something that was done to a run."""
    change.record(NewEvent(event_type, SubjectType.RUN, run["id"], run["project_id"], payload))


def record_tags(change: Change, run: Row, tags: list[str]) -> None:
    """Tell of other tags than those that the run had."""
    payload = _named(run) | {"tags": tags, "previous_tags": list(run["tags"])}
    record_run(change, "run.tags_updated", run, payload)


def record_created(change: Change, view: RunView) -> None:
    """Tell of a new run."""
    change.record(
        NewEvent("run.created", SubjectType.RUN, view.id, view.project_id, {"run": view.model_dump(mode="json")})
    )


async def _require_idle_sessions(change: Change, run: Row, status: Status) -> None:
    if not needs_idle_sessions(status):
        return
    active = await store.active_sessions(change.connection, [run["id"]])
    if active:
        raise active_sessions_conflict(active, f"become {status}")


async def _require_open_experiment(change: Change, run: Row, status: Status) -> None:
    if status is not Status.RUNNING:
        return
    if await store.experiment_status(change.connection, run["experiment_id"]) == Status.ARCHIVED:
        raise conflict("the run's experiment is archived", code="experiment_archived")


def active_sessions_conflict(sessions: list[Row], what: str) -> Problem:
    """409 that names the sessions which keep a run from something."""
    named = ", ".join(f"{session['ordinal_number']} ({session['status']})" for session in sessions[:10])
    return Problem(
        409,
        f"the run cannot {what} while capture sessions of it are active: {named}",
        code="active_sessions",
        extensions={"capture_session_ids": [session["id"] for session in sessions]},
    )


def _named(run: Row) -> dict[str, Any]:
    return {"run_id": str(run["id"]), "experiment_id": str(run["experiment_id"]), "name": run["name"]}


def _told(run: Row, status: Status, timing: Timing, reason: str) -> dict[str, Any]:
    told = _named(run) | {
        "status": status,
        "previous_status": run["status"],
        "started_at": timing.started_at and text_of(timing.started_at),
        "finished_at": timing.finished_at and text_of(timing.finished_at),
        "duration_seconds": timing.duration_seconds,
        "tags": list(run["tags"]),
    }
    return told | ({"reason": reason} if reason else {})
