"""HTTP of what became of a sensor: when it was heard, what of it could not be stored or converted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from hub.access.identity import CurrentUser
from hub.access.rules import VIEWER, rule
from hub.database.pool import acquire
from hub.errors import invalid
from hub.paging import Paging
from hub.sensors import heard, mistakes
from hub.sensors.access import find_sensor, last_heard
from hub.services import CurrentServices, Services
from hub.telemetry.moments import Moment, parse_interval
from shared.readings import reason_of

router = APIRouter()

_EARLIEST = datetime(1, 1, 3, tzinfo=UTC)


class HeardBucket(BaseModel):
    """A stretch in which something of the sensor was stored."""

    bucket: datetime
    minutes: int = Field(description="Minutes of the bucket in which something came.")
    first: datetime
    last: datetime


class HeartbeatHistory(BaseModel):
    """When a sensor was heard; buckets in which nothing came are left out."""

    sensor_id: UUID
    time_from: datetime
    time_to: datetime
    bucket_interval: str
    last_heartbeat: datetime | None
    buckets: list[HeardBucket]


class SetAsideEntry(BaseModel):
    """Readings that were kept, but not as readings."""

    id: int
    created_at: datetime
    reason: str
    detail: str
    signal: str
    agent_id: UUID | None = Field(description="Who brought them; null for a post.")
    readings: int
    time_from: datetime
    time_to: datetime


class FailedHour(BaseModel):
    """Readings of an hour that have no physical value."""

    hour: datetime
    signal: str
    reason: str
    readings: int


class ErrorLog(BaseModel):
    """What could not be stored as readings (paged, newest first), and which readings failed (all, by hour)."""

    sensor_id: UUID
    time_from: datetime
    time_to: datetime
    errors: list[SetAsideEntry]
    failed_readings: list[FailedHour]
    total: int
    page: int
    page_size: int


@router.get("/{sensor_id}/error-log", dependencies=[rule(VIEWER)])
async def error_log(
    services: CurrentServices,
    user: CurrentUser,
    sensor_id: UUID,
    paging: Annotated[Paging, Depends()],
    time_from: Moment | None = None,
    time_to: Moment | None = None,
) -> ErrorLog:
    """What went wrong with a sensor's readings; by default within the last 24 hours, at most 7 days."""
    since, until = _span(services, time_from, time_to)
    if until - since > mistakes.SPAN_MAX:
        raise invalid("time_from", f"must be at most {mistakes.SPAN_MAX.days} days before time_to")
    async with acquire(services.pool) as connection:
        await find_sensor(connection, user, sensor_id)
        rows, total = await mistakes.set_aside(connection, sensor_id, since, until, paging.page_size, paging.offset)
        failed = await mistakes.failed(connection, sensor_id, since, until)
    return ErrorLog(
        sensor_id=sensor_id,
        time_from=since,
        time_to=until,
        errors=[SetAsideEntry(**dict(row)) for row in rows],
        failed_readings=[
            FailedHour(
                hour=row["hour"], signal=row["signal"], reason=reason_of(row["status"]).label, readings=row["readings"]
            )
            for row in failed
        ],
        total=total,
        page=paging.page,
        page_size=paging.page_size,
    )


@router.get("/{sensor_id}/heartbeat-history", dependencies=[rule(VIEWER)])
async def heartbeat_history(
    services: CurrentServices,
    user: CurrentUser,
    sensor_id: UUID,
    time_from: Moment | None = None,
    time_to: Moment | None = None,
    bucket_interval: Annotated[str, Query(max_length=20, description="A minute or more, such as 1m, 1h, 1d.")] = "1h",
) -> HeartbeatHistory:
    """When data came, by the time at which they were stored; by default of the last 24 hours."""
    since, until = _span(services, time_from, time_to)
    bucket_us = _bucket_us(bucket_interval)
    if (until - since) / timedelta(microseconds=bucket_us) > heard.BUCKETS_MAX:
        raise invalid("bucket_interval", f"more than {heard.BUCKETS_MAX} buckets; take a longer interval")
    async with acquire(services.pool) as connection:
        row = await find_sensor(connection, user, sensor_id)
        rows = await heard.buckets(connection, sensor_id, since, until, bucket_us)
    return HeartbeatHistory(
        sensor_id=sensor_id,
        time_from=since,
        time_to=until,
        bucket_interval=bucket_interval,
        last_heartbeat=last_heard(services, row),
        buckets=[HeardBucket(**dict(one)) for one in rows],
    )


def _span(services: Services, time_from: datetime | None, time_to: datetime | None) -> tuple[datetime, datetime]:
    """From when to when; by default the last 24 hours. Raises: Problem 422."""
    until = time_to or services.now()
    since = time_from or max(until, _EARLIEST) - timedelta(days=1)
    if since >= until:
        raise invalid("time_from", "must be before time_to")
    return since, until


def _bucket_us(text: str) -> int:
    """Raises: Problem 422."""
    try:
        interval_us = parse_interval(text)
    except ValueError as error:
        raise invalid("bucket_interval", str(error)) from None
    if interval_us < heard.MINUTE_US:
        raise invalid("bucket_interval", "must be a minute or more")
    return interval_us
