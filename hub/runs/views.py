"""Runs as the API takes and shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, Field, StringConstraints, model_validator

from hub.events.event import ActorType
from hub.experiments.fields import JsonObject, Tags, same_json
from hub.experiments.rules import Status
from hub.fields import Body, Name, QueryText, Text
from hub.runs.store import Row, RunFields

RUNS_AT_ONCE_MAX = 500
_CAN_BE_NOTHING = frozenset({"auto_complete_after_minutes"})
_MINUTES_MAX = 366 * 24 * 60

Minutes = Annotated[int, Field(strict=True, gt=0, le=_MINUTES_MAX)]
RunIds = Annotated[list[UUID], Field(min_length=1, max_length=RUNS_AT_ONCE_MAX)]
GitSha = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z._/-]{0,100}$")]


class NewRun(Body):
    """A run to be."""

    name: Name
    params: JsonObject = Field(default_factory=dict)
    git_sha: GitSha = ""
    env: QueryText = ""
    notes: Text = ""
    tags: Tags = Field(default_factory=list)
    metadata: JsonObject = Field(default_factory=dict)
    status: Status = Field(Status.DRAFT, description="A draft, or what may follow one: `running` starts it at once.")
    auto_complete_after_minutes: Minutes | None = Field(
        None, description="A run that runs for so long succeeds by itself, unless a session of it is active."
    )
    experiment_id: UUID | None = Field(None, description="The path's, if given.")
    project_id: UUID | None = Field(None, description="The experiment's, if given.")

    def fields(self) -> RunFields:
        """For the database."""
        return RunFields(
            name=self.name,
            params=self.params,
            git_sha=self.git_sha,
            env=self.env,
            notes=self.notes,
            tags=self.tags,
            metadata=self.metadata,
            auto_complete_after_minutes=self.auto_complete_after_minutes,
        )


class RunChange(Body):
    """What is to change; what is left out, or null, stays, but for `auto_complete_after_minutes`, which null unsets."""

    name: Name | None = None
    params: JsonObject | None = None
    git_sha: GitSha | None = None
    env: QueryText | None = None
    notes: Text | None = None
    tags: Tags | None = None
    metadata: JsonObject | None = None
    status: Status | None = None
    auto_complete_after_minutes: Minutes | None = None
    run_id: UUID | None = Field(None, description="The run's own id, if given.")
    experiment_id: UUID | None = Field(None, description="The run's, if given.")
    project_id: UUID | None = Field(None, description="The run's, if given.")

    @model_validator(mode="after")
    def _says_something(self) -> RunChange:
        if not self._said() and self.status is None and self.tags is None:
            raise ValueError("name something to change")
        return self

    def changes(self, run: Row) -> dict[str, Any]:
        """What people say of the run that is another thing than before; tags and status left aside."""
        said = ((name, getattr(self, name)) for name in sorted(self._said()))
        return {name: value for name, value in said if not same_json(value, run[name])}

    def _said(self) -> set[str]:
        """The fields to write, tags and status left aside."""
        named = self.model_fields_set - {"run_id", "experiment_id", "project_id", "status", "tags"}
        return {name for name in named if name in _CAN_BE_NOTHING or getattr(self, name) is not None}


class BatchStatus(Body):
    """One status for many runs."""

    run_ids: RunIds
    status: Status


class BulkTags(Body):
    """Other tags for many runs: all of them, or some more and some less.

    Clients that write down all the fields they know send the others too: null, or beside `set_tags` empty lists.
    """

    run_ids: RunIds
    set_tags: Tags | None = Field(None, description="All tags that the runs are to have; null leaves it out.")
    add_tags: Tags | None = None
    remove_tags: Tags | None = None

    @model_validator(mode="after")
    def _one_way(self) -> BulkTags:
        if self.set_tags is None and self.add_tags is None and self.remove_tags is None:
            raise ValueError("give either set_tags, or add_tags and remove_tags")
        if self.set_tags is not None and (self.add_tags or self.remove_tags):
            raise ValueError("give either set_tags, or add_tags and remove_tags, not both")
        if set(self.add_tags or ()) & set(self.remove_tags or ()):
            raise ValueError("add_tags and remove_tags must not share a tag")
        return self


class RunView(BaseModel):
    """A run."""

    id: UUID
    experiment_id: UUID
    project_id: UUID
    created_by: UUID | None
    name: str
    params: dict[str, Any]
    git_sha: str
    env: str
    notes: str
    tags: list[str]
    metadata: dict[str, Any]
    status: Status
    started_at: datetime | None
    finished_at: datetime | None
    duration_seconds: float | None
    auto_complete_after_minutes: int | None
    created_at: datetime
    updated_at: datetime
    version: int

    @classmethod
    def of(cls, row: Row) -> RunView:
        """Of a row of the table."""
        return cls.model_validate({name: row[name] for name in cls.model_fields})


class Runs(BaseModel):
    """A page of runs."""

    runs: list[RunView]
    total: int
    page: int
    page_size: int


class ChangedRuns(BaseModel):
    """All runs that were named, in the order in which they were."""

    runs: list[RunView]


class RunEvent(BaseModel):
    """Something that was done to a run, or to a session or artifact of it."""

    id: int
    event_type: str
    subject_type: str
    subject_id: UUID | None
    actor_type: ActorType
    actor_id: UUID | None
    actor_role: str
    payload: dict[str, Any]
    created_at: datetime


class RunEvents(BaseModel):
    """A page of events, newest first."""

    events: list[RunEvent]
    total: int
    page: int
    page_size: int
