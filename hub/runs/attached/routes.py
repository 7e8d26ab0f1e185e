"""HTTP of the sensors attached to runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import Response

from hub.access.identity import CurrentUser
from hub.access.rules import EDITOR, VIEWER, rule
from hub.database.pool import Connection, acquire
from hub.errors import FieldError, Problem, conflict, require_same
from hub.etags import IfMatch, etag, require_match
from hub.events.change import CurrentChanges
from hub.experiments.rules import Status
from hub.fields import Body
from hub.runs import store as runs
from hub.runs.access import find_run, lock_run
from hub.runs.attached import store
from hub.runs.lifecycle import record_run
from hub.runs.store import Row
from hub.sensors.rules import SensorStatus
from hub.services import CurrentServices

router = APIRouter(prefix="/api/v1/runs/{run_id}/sensors", tags=["runs"])

SENSORS_MAX = 1000


class RunSensorsChange(Body):
    """The sensors that a run is to have, and no others."""

    sensor_ids: Annotated[list[UUID], Field(max_length=SENSORS_MAX)]
    run_id: UUID | None = Field(None, description="The path's, if given.")
    project_id: UUID | None = Field(None, description="The run's, if given.")


class AttachedSensor(BaseModel):
    """A sensor of a run."""

    id: UUID
    name: str
    type: str
    status: SensorStatus
    attached_at: datetime


class RunSensors(BaseModel):
    """All sensors of a run by name."""

    sensor_ids: list[UUID]
    sensors: list[AttachedSensor]


@router.get("", dependencies=[rule(VIEWER)])
async def list_sensors(services: CurrentServices, user: CurrentUser, response: Response, run_id: UUID) -> RunSensors:
    """The sensors that the sessions of a run record; without any, those of its project that are free."""
    async with acquire(services.pool) as connection:
        run = await find_run(connection, user, run_id)
        response.headers["ETag"] = etag(run["version"])
        return await _shown(connection, run_id)


@router.put("", dependencies=[rule(EDITOR)])
async def set_sensors(
    changes: CurrentChanges,
    user: CurrentUser,
    response: Response,
    run_id: UUID,
    body: RunSensorsChange,
    if_match: IfMatch = None,
) -> RunSensors:
    """Attach these sensors and no others. Sessions that have started keep theirs."""
    async with changes.begin() as change:
        run = await lock_run(change.connection, user, run_id)
        require_match(if_match, run["version"])
        require_same("run_id", body.run_id, run_id)
        require_same("project_id", body.project_id, run["project_id"])
        if run["status"] == Status.ARCHIVED:
            raise conflict("the run is archived", code="run_archived")
        before = [row["id"] for row in await store.attached(change.connection, run_id)]
        await _require_usable(change.connection, run, body.sensor_ids, before)
        version = run["version"]
        if set(before) != set(body.sensor_ids):
            await store.attach(change.connection, run_id, body.sensor_ids, change.now)
            await runs.touch(change.connection, run_id, change.now)
            version += 1
            told = {
                "run_id": str(run_id),
                "sensor_ids": sorted(map(str, set(body.sensor_ids))),
                "previous_sensor_ids": sorted(map(str, before)),
            }
            record_run(change, "run.sensors_changed", run, told)
        response.headers["ETag"] = etag(version)
        return await _shown(change.connection, run_id)


async def _require_usable(
    connection: Connection, run: Row, sensor_ids: Sequence[UUID], attached: Sequence[UUID]
) -> None:
    """See that the sensors belong to the run's project, and that new ones are in use. Raises: Problem 422."""
    statuses = await store.statuses(connection, run["project_id"], sensor_ids)
    wrong: list[FieldError] = []
    for index, sensor_id in enumerate(sensor_ids):
        status = statuses.get(sensor_id)
        if status is None:
            wrong.append(FieldError(f"sensor_ids.{index}", "is no sensor of the run's project"))
        elif status == SensorStatus.DECOMMISSIONED and sensor_id not in attached:
            wrong.append(FieldError(f"sensor_ids.{index}", "is decommissioned"))
    if wrong:
        detail = "; ".join(f"{field.field}: {field.message}" for field in wrong[:5])
        raise Problem(422, detail, code="invalid_field", fields=wrong)


async def _shown(connection: Connection, run_id: UUID) -> RunSensors:
    sensors = [AttachedSensor(**dict(row)) for row in await store.attached(connection, run_id)]
    return RunSensors(sensor_ids=[sensor.id for sensor in sensors], sensors=sensors)
