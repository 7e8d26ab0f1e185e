"""HTTP of a project's policies (`hub.access.policies`)."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field, model_validator

from hub.access import store as people
from hub.access.identity import CurrentUser, Role, require_role
from hub.access.policies import UNDECIDED, LateData
from hub.access.rules import OWNER, VIEWER, rule
from hub.database.pool import Connection, acquire
from hub.errors import require_same
from hub.etags import IfMatch, etag, require_match
from hub.events.change import CurrentChanges
from hub.events.event import NewEvent, SubjectType
from hub.fields import Body
from hub.projects import policies, store
from hub.services import CurrentServices, Services

router = APIRouter(prefix="/{project_id}/policies")


class HubPolicies(BaseModel):
    """What holds where a project has decided nothing."""

    retention_days: int
    clock_skew_s: int


class PoliciesView(BaseModel):
    """A project's policies; null: what the hub's settings say."""

    project_id: UUID
    late_data: LateData | None = Field(
        description="What becomes of readings that come when their session has stopped; null: hold what comes by REST "
        "and WebSocket, attach what agents bring."
    )
    viewers_see_raw: bool
    retention_days: int | None = Field(description="Age at which raw readings are dropped, 0 for never.")
    clock_skew_s: int | None = Field(description="How far ahead of the hub's clock a reading may lie.")
    session_start_role: Role = Field(description="The least role that may start a capture session.")
    updated_at: datetime | None = Field(description="Null while all is as it was.")
    version: int
    hub: HubPolicies


class PoliciesChange(Body):
    """What is to change; what is left out stays, null goes back to the hub's settings."""

    late_data: LateData | None = None
    viewers_see_raw: bool | None = None
    retention_days: Annotated[int, Field(strict=True, ge=0, le=36_500)] | None = None
    clock_skew_s: Annotated[int, Field(strict=True, ge=0, le=31_536_000)] | None = None
    session_start_role: Role | None = None
    project_id: UUID | None = Field(None, description="That of the path, if given.")

    @model_validator(mode="after")
    def _no_null(self) -> PoliciesChange:
        for name in ("viewers_see_raw", "session_start_role"):
            if name in self.model_fields_set and getattr(self, name) is None:
                raise ValueError(f"{name} must not be null")
        return self


@router.get("", dependencies=[rule(VIEWER)])
async def get_policies(services: CurrentServices, response: Response, project_id: UUID) -> PoliciesView:
    """What the project has decided."""
    async with acquire(services.pool) as connection:
        view = await _view(services, connection, project_id)
    response.headers["ETag"] = etag(view.version)
    return view


@router.put("", dependencies=[rule(OWNER)])
async def change_policies(
    changes: CurrentChanges,
    user: CurrentUser,
    response: Response,
    project_id: UUID,
    body: PoliciesChange,
    if_match: IfMatch = None,
) -> PoliciesView:
    """Decide; what is left out stays as it was decided."""
    require_same("project_id", body.project_id, project_id)
    services = changes.services
    async with changes.begin() as change:
        await store.lock(change.connection, project_id)
        require_role(await people.role(change.connection, user.id, project_id), Role.OWNER, "project")
        before = await _view(services, change.connection, project_id)
        require_match(if_match, before.version)
        wanted = before.model_copy(update=body.model_dump(exclude_unset=True, exclude={"project_id"}))
        await policies.decide(change.connection, project_id, wanted.model_dump(), change.now)
        view = await _view(services, change.connection, project_id)
        payload = view.model_dump(mode="json", exclude={"project_id", "hub"})
        change.record(NewEvent("project.policies_changed", SubjectType.PROJECT, project_id, project_id, payload))
    response.headers["ETag"] = etag(view.version)
    return view


async def _view(services: Services, connection: Connection, project_id: UUID) -> PoliciesView:
    row = await policies.one(connection, project_id)
    settings = services.settings
    hub = HubPolicies(retention_days=settings.retention_days, clock_skew_s=settings.future_skew_s)
    decided = dict(row) if row is not None else {**asdict(UNDECIDED), "updated_at": None, "version": 1}
    return PoliciesView(**{**decided, "project_id": project_id, "hub": hub})
