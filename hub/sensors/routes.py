"""HTTP of sensors."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response

from hub.access.identity import CurrentUser, Role, User, member_of
from hub.access.named_project import project_to_be
from hub.access.rules import EDITOR, SIGNED_IN, VIEWER, rule
from hub.access.tokens import token_hash
from hub.database.ids import uuid7
from hub.database.pool import acquire
from hub.errors import conflict, invalid, not_found, require_same
from hub.events.change import Change, CurrentChanges
from hub.events.event import PublicEvent
from hub.fields import QueryText
from hub.paging import Paging
from hub.sensors import profiles, store, tokens
from hub.sensors.access import find_sensor, last_heard, unique_names, view_sensor
from hub.sensors.history import deletion_event, profile_event, publication_events, sensor_event, shared_event
from hub.sensors.history_routes import router as history_router
from hub.sensors.limit_routes import router as limit_router
from hub.sensors.participation import removable_from
from hub.sensors.profile_routes import router as profile_router
from hub.sensors.rules import ConnectionStatus, ProfileStatus, SensorStatus, connection_status
from hub.sensors.store import SensorFilter
from hub.sensors.tokens import PREVIEW_LENGTH, KeptSensor
from hub.sensors.views import (
    NewProfile,
    NewSensor,
    ProjectIds,
    ProjectOfSensor,
    SensorChange,
    Sensors,
    SensorWithToken,
    StatusSummary,
)
from hub.sensors.views import SensorView as View
from hub.services import CurrentServices
from hub.telemetry.moments import Moment

router = APIRouter(prefix="/api/v1/sensors", tags=["sensors"])
router.include_router(profile_router)
router.include_router(limit_router)
router.include_router(history_router)

ProjectId = Annotated[UUID | None, Query(description="Only sensors of this project.")]


@router.get("", dependencies=[rule(SIGNED_IN)])
async def list_sensors(
    services: CurrentServices,
    user: CurrentUser,
    paging: Annotated[Paging, Depends()],
    project_id: ProjectId = None,
    status: SensorStatus | None = None,
    type: QueryText | None = None,  # noqa: A002 - the contract's name
    created_after: Moment | None = None,
    created_before: Moment | None = None,
) -> Sensors:
    """Sensors by name; without `project_id`, those of all projects of the caller."""
    if project_id is not None:
        await member_of(services, user, project_id, Role.VIEWER)
    wanted = SensorFilter(user.id, project_id, status, type, created_after, created_before)
    async with acquire(services.pool) as connection:
        rows, total = await store.page(connection, wanted, paging.page_size, paging.offset)
    views = [view_sensor(services, row) for row in rows]
    return Sensors(sensors=views, total=total, page=paging.page, page_size=paging.page_size)


@router.get("/status-summary", dependencies=[rule(SIGNED_IN)])
async def summarise(services: CurrentServices, user: CurrentUser, project_id: ProjectId = None) -> StatusSummary:
    """How many sensors are online."""
    if project_id is not None:
        await member_of(services, user, project_id, Role.VIEWER)
    async with acquire(services.pool) as connection:
        rows = await store.all_heard(connection, user.id, project_id)
    now = services.now()
    connections = [connection_status(last_heard(services, row), now) for row in rows]
    statuses = [SensorStatus(row["status"]) for row in rows]
    return StatusSummary(
        total=len(rows),
        online=connections.count(ConnectionStatus.ONLINE),
        delayed=connections.count(ConnectionStatus.DELAYED),
        offline=connections.count(ConnectionStatus.OFFLINE),
        by_status={status: statuses.count(status) for status in SensorStatus},
    )


@router.post("", status_code=201, response_model=SensorWithToken, dependencies=[rule(EDITOR)])
async def add_sensor(
    services: CurrentServices,
    changes: CurrentChanges,
    user: CurrentUser,
    body: NewSensor,
    project_id: UUID | None = None,
) -> Response:
    """Make a sensor. Its token is shown in this answer and never again, but to a repeat with the same key."""
    primary = project_to_be("sensor", body.project_id, project_id)
    await member_of(services, user, primary, Role.EDITOR)
    sensor_id = uuid7()

    async def create(change: Change) -> SensorWithToken:
        if body.conversion_profile is not None:
            await store.lock_catalogue(change.connection)
        token = tokens.draw(services.signer, sensor_id, change.now, changes.key_text)
        await store.add(
            change.connection,
            sensor_id,
            primary,
            body.fields(),
            token_hash(token),
            token[-PREVIEW_LENGTH:],
            change.now,
        )
        if body.conversion_profile is not None:
            await _add_first(change, user, sensor_id, primary, body.conversion_profile)
        view = view_sensor(services, await find_sensor(change.connection, user, sensor_id))
        change.record(sensor_event(PublicEvent.SENSOR_REGISTERED, view))
        return SensorWithToken(sensor=view, token=token)

    restored = tokens.restoring(services.signer, changes.key_text)
    with unique_names():
        return await changes.once(create, stored=KeptSensor.of, restored=restored)


@router.get("/{sensor_id}", dependencies=[rule(VIEWER)])
async def get_sensor(services: CurrentServices, user: CurrentUser, sensor_id: UUID) -> View:
    """One sensor."""
    async with acquire(services.pool) as connection:
        return view_sensor(services, await find_sensor(connection, user, sensor_id))


@router.patch("/{sensor_id}", dependencies=[rule(EDITOR)])
async def change_sensor(
    services: CurrentServices, changes: CurrentChanges, user: CurrentUser, sensor_id: UUID, body: SensorChange
) -> View:
    """Rename or describe a sensor, or give it another status."""
    require_same("sensor_id", body.sensor_id, sensor_id)
    with unique_names():
        async with changes.begin() as change:
            await store.lock_catalogue(change.connection)
            row = await find_sensor(change.connection, user, sensor_id, Role.EDITOR)
            if body.project_id not in (None, row["project_id"]):
                raise invalid("project_id", "the primary project of a sensor does not change")
            await store.change(change.connection, sensor_id, body.fields(), change.now)
            view = view_sensor(services, await find_sensor(change.connection, user, sensor_id))
            change.record(sensor_event("sensor.updated", view))
            return view


@router.delete("/{sensor_id}", status_code=204, dependencies=[rule(EDITOR)])
async def delete_sensor(services: CurrentServices, changes: CurrentChanges, user: CurrentUser, sensor_id: UUID) -> None:
    """Remove a sensor; its readings cannot be reached from then on, its name is free, agents stop sending it.

    Refused while it takes part in a session that is running or backfilling. Decommissioning keeps the readings.
    """
    async with changes.begin() as change:
        await store.lock_starts(change.connection)
        await store.lock_catalogue(change.connection)
        row = await find_sensor(change.connection, user, sensor_id, Role.EDITOR)
        sessions = await removable_from(change.connection, sensor_id)
        await store.delete(change.connection, sensor_id)
        change.record(deletion_event(view_sensor(services, row), sessions))
    services.live.forget(sensor_id)


@router.post("/{sensor_id}/rotate-token", response_model=SensorWithToken, dependencies=[rule(EDITOR)])
async def rotate_token(
    services: CurrentServices, changes: CurrentChanges, user: CurrentUser, sensor_id: UUID
) -> Response:
    """Another token; the old one is refused from now on."""

    async def create(change: Change) -> SensorWithToken:
        await find_sensor(change.connection, user, sensor_id, Role.EDITOR)
        token = tokens.draw(services.signer, sensor_id, change.now, changes.key_text)
        await store.set_token(change.connection, sensor_id, token_hash(token), token[-PREVIEW_LENGTH:], change.now)
        view = view_sensor(services, await find_sensor(change.connection, user, sensor_id))
        change.record(sensor_event("sensor.token_rotated", view))
        return SensorWithToken(sensor=view, token=token)

    restored = tokens.restoring(services.signer, changes.key_text)
    return await changes.once(create, status=200, stored=KeptSensor.of, restored=restored)


@router.get("/{sensor_id}/projects", dependencies=[rule(VIEWER)])
async def list_projects(services: CurrentServices, user: CurrentUser, sensor_id: UUID) -> ProjectIds:
    """All projects of a sensor, its primary one first."""
    async with acquire(services.pool) as connection:
        await find_sensor(connection, user, sensor_id)
        return ProjectIds(project_ids=await store.projects(connection, sensor_id))


@router.post("/{sensor_id}/projects", status_code=201, response_model=ProjectIds, dependencies=[rule(EDITOR)])
async def add_project(
    services: CurrentServices, changes: CurrentChanges, user: CurrentUser, sensor_id: UUID, body: ProjectOfSensor
) -> Response:
    """Show a sensor in one more project; takes the role of an editor in both."""
    await member_of(services, user, body.project_id, Role.EDITOR)

    async def create(change: Change) -> ProjectIds:
        row = await find_sensor(change.connection, user, sensor_id, Role.EDITOR)
        await store.add_project(change.connection, sensor_id, body.project_id)
        change.record(shared_event("sensor.shared", row, body.project_id))
        return ProjectIds(project_ids=await store.projects(change.connection, sensor_id))

    return await changes.once(create)


# `{other_id}`: a rule looks at a path's `{project_id}` by itself, and here the sensor's primary project decides.
@router.delete("/{sensor_id}/projects/{other_id}", status_code=204, dependencies=[rule(EDITOR)])
async def remove_project(changes: CurrentChanges, user: CurrentUser, sensor_id: UUID, other_id: UUID) -> None:
    """Take a sensor out of a project. It stays in its primary one."""
    async with changes.begin() as change:
        row = await find_sensor(change.connection, user, sensor_id, Role.EDITOR)
        if other_id == row["project_id"]:
            raise conflict("a sensor stays in its primary project", code="primary_project")
        if not await store.remove_project(change.connection, sensor_id, other_id):
            raise not_found("project of the sensor")
        change.record(shared_event("sensor.unshared", row, other_id))


async def _add_first(change: Change, user: User, sensor_id: UUID, project_id: UUID, body: NewProfile) -> None:
    """The profile that a sensor is made with is in force at once, as no reading can depend on it yet, or a draft."""
    body.require_own(user.id, sensor_id, project_id, within="conversion_profile.")
    if body.status not in (None, ProfileStatus.DRAFT, ProfileStatus.ACTIVE):
        raise invalid("conversion_profile.status", "is active, or draft")
    connection = change.connection
    profile_id = await profiles.add(
        connection,
        sensor_id,
        version=body.version,
        kind=body.kind,
        payload=body.payload,
        valid_from=body.valid_from,
        valid_to=body.valid_to,
        created_by=user.id,
        now=change.now,
    )
    draft = await profiles.one(connection, profile_id, sensor_id)
    assert draft is not None
    change.record(profile_event("conversion_profile.created", draft, project_id))
    if body.status is ProfileStatus.DRAFT:
        return
    published = await profiles.publish(connection, draft, published_by=user.id, valid_from=None, now=change.now)
    for event in await publication_events(connection, published, project_id):
        change.record(event)
