"""HTTP of what is written: posts of sensors."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

from hub.access.identity import CurrentSensor
from hub.access.rules import SENSOR, rule
from hub.database.pool import acquire
from hub.errors import Problem, conflict, forbidden, invalid, not_found
from hub.ingest import posts
from hub.ingest.body import READINGS_MAX, decode_body, submission_of
from hub.ingest.register import SIGNALS_PER_SENSOR_MAX
from hub.services import CurrentServices, Services
from shared.errors import StorageUnavailable

router = APIRouter(prefix="/api/v1", tags=["telemetry"])

_NEW_SIGNALS = """
select (select count(*) from series where sensor_id = $1) as held,
       (select count(*) from unnest($2::text[]) as n (signal)
        where not exists (select from series x where x.sensor_id = $1 and x.signal = n.signal)) as new
"""
_READING: dict[str, Any] = {
    "type": "object",
    "required": ["timestamp", "raw_value"],
    "additionalProperties": False,
    "properties": {
        "timestamp": {"type": "string", "format": "date-time", "description": "RFC 3339, any offset."},
        "raw_value": {"type": "number"},
        "physical_value": {
            "type": ["number", "null"],
            "description": "By the client; else the hub converts.",
        },
        "signal": {
            "type": ["string", "null"],
            "maxLength": 200,
            "description": "By default `meta.signal` or `value`.",
        },
        "meta": {"type": ["object", "null"], "description": "Overrides the batch's."},
    },
}
_BODY: dict[str, Any] = {
    "type": "object",
    "required": ["sensor_id", "readings"],
    "additionalProperties": False,
    "properties": {
        "sensor_id": {"type": "string", "format": "uuid", "description": "The token's sensor."},
        "project_id": {"type": ["string", "null"], "format": "uuid"},
        "run_id": {"type": ["string", "null"], "format": "uuid"},
        "capture_session_id": {"type": ["string", "null"], "format": "uuid"},
        "meta": {"type": ["object", "null"]},
        "readings": {"type": "array", "minItems": 1, "maxItems": READINGS_MAX, "items": _READING},
    },
}


class Accepted(BaseModel):
    """What became of a post: how many readings are new."""

    status: Literal["accepted"] = "accepted"
    accepted: int


@router.post(
    "/telemetry",
    status_code=202,
    dependencies=[rule(SENSOR)],
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _BODY}}}},
)
async def post_telemetry(services: CurrentServices, sensor: CurrentSensor, request: Request) -> Accepted:
    """Store readings of the token's sensor. A repeat is accepted and stored once; answered after the commit."""
    body = decode_body(await request.body())
    if body.sensor_id != sensor.id:
        raise forbidden("the token is another sensor's", code="other_sensor")
    if body.project_id is not None and body.project_id not in sensor.project_ids:
        raise not_found("project")
    if sensor.status == "decommissioned":
        raise conflict("the sensor is decommissioned", code="decommissioned")
    async with acquire(services.pool) as connection:
        await posts.require_place(connection, sensor, body.run_id, body.capture_session_id)
    submission = submission_of(body)
    await _check_signals(services, sensor.id, submission.signals)
    outcome = services.ingest.submit(submission)
    try:
        done = await asyncio.wait_for(outcome, services.settings.ingest_post_timeout_s)
    except TimeoutError:
        raise StorageUnavailable("the readings could not be stored in time", hint="send them again") from None
    if done.set_aside and await _is_decommissioned(services, sensor.id):
        raise conflict("the sensor is decommissioned", code="decommissioned")
    return Accepted(accepted=done.new)


async def _check_signals(services: Services, sensor_id: Any, signals: tuple[str, ...]) -> None:
    """Raises: Problem 422 when the sensor would have too many signals."""
    async with acquire(services.pool) as connection:
        row = await connection.fetchrow(_NEW_SIGNALS, sensor_id, list(signals))
    if row is not None and row["new"] and row["held"] + row["new"] > SIGNALS_PER_SENSOR_MAX:
        raise invalid("signal", f"a sensor has at most {SIGNALS_PER_SENSOR_MAX} signals")


async def _is_decommissioned(services: Services, sensor_id: Any) -> bool:
    async with acquire(services.pool) as connection:
        status = await connection.fetchval("select status from sensors where id = $1", sensor_id)
    if status is None:
        raise Problem(401, "the sensor is gone", code="unauthorized")
    return bool(status == "decommissioned")
