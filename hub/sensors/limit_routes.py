"""HTTP of the limits of a sensor's signals."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import AfterValidator, BaseModel, Field, StringConstraints, model_validator

from hub.access.identity import CurrentUser, Role
from hub.access.rules import EDITOR, VIEWER, rule
from hub.database.pool import Connection, acquire
from hub.errors import require_same
from hub.events.change import CurrentChanges
from hub.events.event import NewEvent, SubjectType
from hub.fields import Body, Flag, storable
from hub.sensors import limit_store
from hub.sensors.access import find_sensor
from hub.sensors.limits import Limit, Side
from hub.services import CurrentServices
from shared.readings import DEFAULT_SIGNAL

LIMITS_MAX = 200
SILENCE_S_MAX = 30 * 86_400.0

router = APIRouter()

Signal = Annotated[str, AfterValidator(storable), StringConstraints(min_length=1, max_length=200)]
Finite = Annotated[float, Field(allow_inf_nan=False, strict=True)]


class LimitBody(Body):
    """What is watched of a signal; at least one of `low`, `high` and `silence_s`."""

    signal: Signal = DEFAULT_SIGNAL
    low: Finite | None = Field(None, description="Values below it are told; physical ones, raw without a profile.")
    high: Finite | None = Field(None, description="Values above it are told.")
    hysteresis: Finite = Field(0.0, ge=0, description="How far back within it clears a limit.")
    silence_s: Finite | None = Field(None, ge=1, le=SILENCE_S_MAX, description="How long nothing may come.")
    exceeded: Side | None = Field(None, description="As it was shown; changes nothing.")
    silent: Flag = Field(False, description="As it was shown; changes nothing.")

    @model_validator(mode="after")
    def _fits(self) -> LimitBody:
        if self.low is None and self.high is None and self.silence_s is None:
            raise ValueError("give at least one of low, high and silence_s")
        if self.low is not None and self.high is not None:
            if self.low >= self.high:
                raise ValueError("low must be below high")
            if self.low + self.hysteresis > self.high - self.hysteresis:
                raise ValueError("low and high must be at least twice the hysteresis apart")
        return self

    def limit(self) -> Limit:
        """As it is judged by."""
        return Limit(self.low, self.high, self.hysteresis, self.silence_s)


class LimitsBody(Body):
    """All that is watched of a sensor: what is not named is watched no longer."""

    limits: Annotated[list[LimitBody], Field(max_length=LIMITS_MAX)]
    sensor_id: UUID | None = Field(None, description="The path's, if given.")
    project_id: UUID | None = Field(None, description="The sensor's primary one, if given.")

    @model_validator(mode="after")
    def _distinct(self) -> LimitsBody:
        if len({one.signal for one in self.limits}) < len(self.limits):
            raise ValueError("a signal stands twice in limits")
        return self


class LimitView(BaseModel):
    """What is watched of a signal, and how it stands."""

    signal: str
    low: float | None
    high: float | None
    hysteresis: float
    silence_s: float | None
    exceeded: Side | None = Field(description="Which limit is exceeded now.")
    silent: bool


class LimitsView(BaseModel):
    """All that is watched of a sensor."""

    limits: list[LimitView]


@router.get("/{sensor_id}/limits", dependencies=[rule(VIEWER)])
async def get_limits(services: CurrentServices, user: CurrentUser, sensor_id: UUID) -> LimitsView:
    """The limits of a sensor's signals, and how they stand."""
    async with acquire(services.pool) as connection:
        await find_sensor(connection, user, sensor_id)
        return await _view(connection, sensor_id)


@router.put("/{sensor_id}/limits", dependencies=[rule(EDITOR)])
async def set_limits(changes: CurrentChanges, user: CurrentUser, sensor_id: UUID, body: LimitsBody) -> LimitsView:
    """Watch these signals. What stays as it was goes on as it stands; the next reading judges what was changed."""
    require_same("sensor_id", body.sensor_id, sensor_id)
    async with changes.begin() as change:
        row = await find_sensor(change.connection, user, sensor_id, Role.EDITOR)
        require_same("project_id", body.project_id, row["project_id"])
        wanted = {one.signal: one.limit() for one in body.limits}
        await limit_store.replace(change.connection, sensor_id, wanted, change.now)
        view = await _view(change.connection, sensor_id)
        payload = {"sensor_id": str(sensor_id), "name": row["name"], **view.model_dump(mode="json")}
        event_type = "sensor.limits_changed"
        change.record(NewEvent(event_type, SubjectType.SENSOR, sensor_id, row["project_id"], payload))
        return view


async def _view(connection: Connection, sensor_id: UUID) -> LimitsView:
    rows = await limit_store.of_sensor(connection, sensor_id)
    return LimitsView(limits=[LimitView(**dict(row)) for row in rows])
