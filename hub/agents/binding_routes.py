"""HTTP of an agent's sensor bindings."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from hub.access.identity import CurrentUser
from hub.access.rules import VIEWER, rule
from hub.agents import bindings
from hub.agents.access import find_agent
from hub.database.pool import acquire
from hub.paging import Paging
from hub.sensors.rules import SensorStatus
from hub.services import CurrentServices

router = APIRouter(prefix="/api/v1/agents/{agent_id}/bindings", tags=["agents"])

BindingState: TypeAlias = Literal["bound", "deleted", "refused"]


class SignalView(BaseModel):
    """A signal of a sensor, as it was announced first."""

    signal: str
    unit: str


class BindingView(BaseModel):
    """Which sensor an agent means by a name.

    What the agent sends by a name is stored while it is `bound`; `deleted` (the sensor was removed) stays so, and
    `refused` is beyond the sensors that one agent may have. All but name and state is the sensor's, as it is now.
    """

    sensor_name: str = Field(description="What the agent's configuration calls it.")
    state: BindingState
    sensor_id: UUID | None = Field(description="Null unless bound.")
    name: str | None = Field(description="What the sensor is called now.")
    status: SensorStatus | None
    active_profile_id: UUID | None
    signals: list[SignalView]


class Bindings(BaseModel):
    """A page of bindings."""

    bindings: list[BindingView]
    total: int
    page: int
    page_size: int


@router.get("", dependencies=[rule(VIEWER)])
async def list_bindings(
    services: CurrentServices,
    user: CurrentUser,
    agent_id: UUID,
    paging: Annotated[Paging, Depends()],
    state: Annotated[BindingState | None, Query(description="Only those in this state.")] = None,
) -> Bindings:
    """The sensor names that an agent has used, by name, and which sensors they stand for."""
    await find_agent(services, user, agent_id)
    async with acquire(services.pool) as connection:
        rows, total = await bindings.page(connection, agent_id, state, paging.page_size, paging.offset)
    views = [BindingView.model_validate(dict(row)) for row in rows]
    return Bindings(bindings=views, total=total, page=paging.page, page_size=paging.page_size)
