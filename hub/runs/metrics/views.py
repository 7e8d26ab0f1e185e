"""Metrics as the API takes and shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, Field, model_validator

from hub.fields import Body, Name, QueryText
from hub.runs.metrics.store import Point
from hub.telemetry.moments import Moment

POINTS_MAX = 10_000
STEP_MAX = (1 << 53) - 1
VALUE_MAX = 1e300
"""Sums of values must stay finite."""

Step = Annotated[int, Field(strict=True, ge=0, le=STEP_MAX)]
StepQuery = Annotated[int | None, Query(ge=0, le=STEP_MAX)]
NameQuery = Annotated[QueryText | None, Query(description="Only of this name.")]


class NewPoint(Body):
    """A number to be."""

    name: Name
    value: float = Field(ge=-VALUE_MAX, le=VALUE_MAX, allow_inf_nan=False)
    step: Step = 0
    timestamp: Moment | None = Field(None, description="Now, if left out.")
    run_id: UUID | None = Field(None, description="The path's, if given.")

    def point(self, now: datetime) -> Point:
        """For the database."""
        return Point(self.name, self.step, self.value, self.timestamp or now)


class NewMetrics(Body):
    """One number, or many in `metrics`."""

    metrics: Annotated[list[NewPoint], Field(min_length=1, max_length=POINTS_MAX)] | None = None
    name: Name | None = None
    value: float | None = Field(None, ge=-VALUE_MAX, le=VALUE_MAX, allow_inf_nan=False)
    step: Step | None = None
    timestamp: Moment | None = None
    run_id: UUID | None = Field(None, description="The path's, if given.")
    project_id: UUID | None = Field(None, description="The run's, if given.")

    @model_validator(mode="after")
    def _one_or_many(self) -> NewMetrics:
        alone = (self.name, self.value, self.step, self.timestamp)
        if self.metrics is not None and any(field is not None for field in alone):
            raise ValueError("give either metrics, or name and value of one")
        if self.metrics is None and (self.name is None or self.value is None):
            raise ValueError("give name and value, or many of them as metrics")
        return self

    def points(self, now: datetime) -> list[Point]:
        """For the database."""
        if self.metrics is not None:
            return [point.point(now) for point in self.metrics]
        assert self.name is not None
        assert self.value is not None
        return [Point(self.name, self.step or 0, self.value, self.timestamp or now)]


class Accepted(BaseModel):
    """How many numbers were taken."""

    status: str = "accepted"
    accepted: int


class MetricView(BaseModel):
    """A number."""

    id: UUID
    run_id: UUID
    name: str
    step: int
    value: float
    timestamp: datetime


class Metrics(BaseModel):
    """A page of numbers by name, step and time."""

    metrics: list[MetricView]
    total: int
    page: int
    page_size: int


class MetricSummary(BaseModel):
    """All numbers of one name; the last one is the latest of the highest step."""

    name: str
    count: int
    min: float
    max: float
    avg: float
    first_step: int
    last_step: int
    last_value: float
    last_timestamp: datetime


class Summaries(BaseModel):
    """A page of summaries by name."""

    metrics: list[MetricSummary]
    total: int
    page: int
    page_size: int


class MetricBucket(BaseModel):
    """The numbers of one name with `step_from` <= step <= `step_to`."""

    name: str
    step_from: int
    step_to: int
    count: int
    avg: float
    min: float
    max: float


class Aggregated(BaseModel):
    """Buckets by name and step; what holds no number is left out."""

    buckets: list[MetricBucket]
    bucket_size: int
