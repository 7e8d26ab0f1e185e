"""HTTP of what became of a sensor: when it was heard, what of it could not be stored or converted."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from hub.access.identity import CurrentUser
from hub.access.rules import VIEWER, rule
from hub.database.pool import acquire
from hub.errors import invalid
from hub.sensors import heard
from hub.sensors.access import find_sensor
from hub.services import CurrentServices
from hub.telemetry.moments import Moment, parse_interval

router = APIRouter()


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
    until = time_to or services.now()
    since = time_from or max(until, datetime.min.replace(tzinfo=until.tzinfo) + timedelta(days=2)) - timedelta(days=1)
    bucket_us = _bucket_us(bucket_interval)
    if since >= until:
        raise invalid("time_from", "must be before time_to")
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
        last_heartbeat=row["last_heartbeat"],
        buckets=[HeardBucket(**dict(one)) for one in rows],
    )


def _bucket_us(text: str) -> int:
    """Raises: Problem 422."""
    try:
        interval_us = parse_interval(text)
    except ValueError as error:
        raise invalid("bucket_interval", str(error)) from None
    if interval_us < heard.MINUTE_US:
        raise invalid("bucket_interval", "must be a minute or more")
    return interval_us
