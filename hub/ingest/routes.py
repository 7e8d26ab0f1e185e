"""HTTP of what is written: posts of sensors."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

from hub.access.identity import CurrentSensor
from hub.access.rules import SENSOR, rule
from hub.ingest import entrance
from hub.ingest.body import READINGS_MAX, decode_body
from hub.services import CurrentServices

router = APIRouter(prefix="/api/v1", tags=["telemetry"])

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
BODY: dict[str, Any] = {
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
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": BODY}}}},
)
async def post_telemetry(services: CurrentServices, sensor: CurrentSensor, request: Request) -> Accepted:
    """Store readings of the token's sensor. A repeat is accepted and stored once; answered after the commit."""
    done = await entrance.take(services, sensor, decode_body(await request.body()))
    return Accepted(accepted=done.new)
