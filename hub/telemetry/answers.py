"""What the telemetry routes answer, for OpenAPI; the answers themselves are put together from columns."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field


class Point(BaseModel):
    """A reading."""

    id: int = Field(description="Rises in the order in which readings were committed; a cursor.")
    project_id: UUID = Field(description="The sensor's primary project.")
    sensor_id: UUID
    signal: str
    timestamp: datetime
    raw_value: float | None
    physical_value: float | None
    ingested_at: datetime | None = Field(description="When the hub stored it, to the second.")
    conversion_status: Literal["raw_only", "converted", "client_provided", "conversion_failed"]
    conversion_profile_id: UUID | None
    run_id: UUID | None
    capture_session_id: UUID | None
    meta: dict[str, Any] = Field(description="`__system` is the hub's own, e.g. `reason` of a failed conversion.")


class Points(BaseModel):
    """A page of readings."""

    points: list[Point]
    next_since_id: int | None = Field(description="`since_id` of the next page; null on the last.")


class Bucket(BaseModel):
    """Readings of one signal summed up."""

    bucket: datetime = Field(description="Where the bucket begins.")
    sensor_id: UUID
    signal: str
    capture_session_id: UUID | None
    sample_count: int
    avg_raw: float | None
    min_raw: float | None
    max_raw: float | None
    avg_physical: float | None
    min_physical: float | None
    max_physical: float | None


class Aggregated(BaseModel):
    """Buckets by time, then signal."""

    buckets: list[Bucket]
    bucket_interval: str
