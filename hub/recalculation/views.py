"""Recalculation tasks as the API takes and shows them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, Field, model_validator

from hub.fields import Body
from hub.recalculation.rules import Scope, TaskStatus, share
from hub.recalculation.store import Row
from hub.telemetry.moments import Moment

SESSIONS_MAX = 1000


class NewBackfill(Body):
    """Which readings are converted anew; all of it may be left out."""

    scope: Scope = Scope.ALL
    capture_session_ids: list[UUID] = Field(default_factory=list, max_length=SESSIONS_MAX)
    time_from: Moment | None = Field(None, description="From this time on.")
    time_to: Moment | None = Field(None, description="Up to and including this time.")
    sensor_id: UUID | None = Field(None, description="The path's, if given.")
    project_id: UUID | None = Field(None, description="The sensor's, if given.")

    @model_validator(mode="after")
    def _fits(self) -> NewBackfill:
        if (self.scope is Scope.CAPTURE_SESSIONS) != bool(self.capture_session_ids):
            raise ValueError("capture_session_ids go with the scope capture_sessions, at least one")
        if self.time_from is not None and self.time_to is not None and self.time_to < self.time_from:
            raise ValueError("time_to must not be before time_from")
        return self


class BackfillStarted(BaseModel):
    """Where to look for the task."""

    backfill_task_id: UUID


class BackfillTask(BaseModel):
    """A recalculation of stored readings with one profile."""

    id: UUID
    sensor_id: UUID
    project_id: UUID = Field(description="The sensor's primary project.")
    profile_id: UUID
    scope: Scope
    capture_session_ids: list[UUID]
    time_from: datetime | None
    time_to: datetime | None
    status: TaskStatus
    total_records: int | None = Field(description="Readings to go through; null until they were counted.")
    processed_records: int = Field(description="Readings that were looked at so far.")
    changed_records: int = Field(description="Of these, the ones whose value, status or profile changed.")
    progress: float = Field(description="From 0 to 1.")
    error: str | None = Field(description="Why it failed, or who ended it.")
    created_by: UUID | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @staticmethod
    def of(row: Row) -> BackfillTask:
        """A row of the store."""
        fields = {name: row[name] for name in BackfillTask.model_fields if name != "progress"}
        done = row["status"] == TaskStatus.SUCCEEDED
        return BackfillTask(**fields, progress=1.0 if done else share(row["processed_records"], row["total_records"]))


class BackfillTasks(BaseModel):
    """A page of tasks, newest first."""

    backfill_tasks: list[BackfillTask]
    total: int
    page: int
    page_size: int


class PreviousProfile(BaseModel):
    """Readings of one signal that were converted otherwise before.

    Those from `time_from` up to and including `time_to` whose ids lie between `first_id` and `last_id`, both included,
    and over which a profile decides.
    """

    signal: str
    time_from: datetime
    time_to: datetime
    first_id: int
    last_id: int
    readings: int
    conversion_profile_id: UUID | None = Field(description="The profile that they had; null: they were raw.")
    backfill_task_id: UUID | None = Field(description="What replaced it; null: they came from an agent like that.")
    replaced_at: datetime


class PreviousProfiles(BaseModel):
    """A page, in order of time."""

    previous_profiles: list[PreviousProfile]
    total: int
    page: int
    page_size: int
