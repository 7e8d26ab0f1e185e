"""What is told of recalculations."""

from __future__ import annotations

from hub.events.event import NewEvent, SubjectType
from hub.recalculation.store import Row
from hub.recalculation.views import BackfillTask


def task_event(event_type: str, row: Row) -> NewEvent:
    """Something that happened to a task, told of its profile, with what the task is now."""
    view = BackfillTask.of(row)
    payload = {"backfill_task_id": str(view.id), **view.model_dump(mode="json")}
    return NewEvent(event_type, SubjectType.PROFILE, view.profile_id, view.project_id, payload)
