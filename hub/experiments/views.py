"""Experiments as they come and go over HTTP."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field, model_validator

from hub.experiments.fields import JsonObject, Tags
from hub.experiments.rules import Status
from hub.experiments.store import ExperimentFields, Row
from hub.fields import Body, Name, QueryText, Text


class NewExperiment(Body):
    """An experiment to be."""

    name: Name
    project_id: UUID | None = Field(None, description="Its project; `project_id` in the query will do.")
    description: Text = ""
    experiment_type: QueryText = ""
    tags: Tags = Field([], description="Each once; blanks are trimmed.")
    metadata: JsonObject = Field({})
    status: Status = Field(Status.DRAFT, description="A draft, or what may follow one.")

    def fields(self) -> ExperimentFields:
        """For the database."""
        return ExperimentFields(
            self.name, self.description, self.experiment_type, self.tags, self.metadata, self.status
        )


class ExperimentChange(Body):
    """What is to change; what is left out, or null, stays. `tags` and `metadata` are replaced as a whole."""

    name: Name | None = None
    description: Text | None = None
    experiment_type: QueryText | None = None
    tags: Tags | None = None
    metadata: JsonObject | None = None
    status: Status | None = None
    project_id: UUID | None = Field(None, description="The experiment's, if given.")

    @model_validator(mode="after")
    def _changes_something(self) -> ExperimentChange:
        if self.fields() == ExperimentFields():
            raise ValueError("give at least one field to change")
        return self

    def fields(self) -> ExperimentFields:
        """For the database."""
        return ExperimentFields(
            self.name, self.description, self.experiment_type, self.tags, self.metadata, self.status
        )


class ExperimentView(BaseModel):
    """An experiment."""

    id: UUID
    project_id: UUID
    owner_id: UUID = Field(description="Who made it.")
    name: str
    description: str
    experiment_type: str
    tags: list[str]
    metadata: dict[str, Any]
    status: Status
    archived_at: datetime | None
    created_at: datetime
    updated_at: datetime
    version: int = Field(description="Rises with each change; the ETag.")

    @staticmethod
    def of(row: Row) -> ExperimentView:
        """A row of experiments."""
        return ExperimentView(**{name: row[name] for name in ExperimentView.model_fields})


class Experiments(BaseModel):
    """A page of experiments."""

    experiments: list[ExperimentView]
    total: int
    page: int
    page_size: int
