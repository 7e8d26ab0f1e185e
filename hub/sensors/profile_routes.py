"""HTTP of conversion profiles."""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response

from hub.access.identity import CurrentUser, Role, User
from hub.access.policies import raw_hidden_from
from hub.access.rules import EDITOR, OWNER, VIEWER, rule
from hub.database.pool import Connection, acquire
from hub.errors import invalid, not_found, require_same
from hub.events.change import Change, CurrentChanges
from hub.paging import Paging
from hub.sensors import preview, profiles, splits, store
from hub.sensors.access import find_sensor, unique_names
from hub.sensors.history import profile_event, publication_events
from hub.sensors.preview import Preview, Previewed
from hub.sensors.rules import ProfileStatus
from hub.sensors.store import Row
from hub.sensors.views import NewProfile, Profiles, ProfileView, Publication
from hub.services import CurrentServices, Services
from hub.telemetry.as_of import load_as_of
from hub.telemetry.latest import latest
from hub.telemetry.moments import to_us
from hub.telemetry.scan import Where

router = APIRouter(prefix="/{sensor_id}/conversion-profiles", tags=["conversion profiles"])


@router.get("", dependencies=[rule(VIEWER)])
async def list_profiles(
    services: CurrentServices,
    user: CurrentUser,
    sensor_id: UUID,
    paging: Annotated[Paging, Depends()],
    status: ProfileStatus | None = None,
) -> Profiles:
    """A sensor's profiles, newest first."""
    async with acquire(services.pool) as connection:
        await find_sensor(connection, user, sensor_id)
        rows, total = await profiles.page(connection, sensor_id, status, paging.page_size, paging.offset)
    views = [ProfileView(**dict(row)) for row in rows]
    return Profiles(conversion_profiles=views, total=total, page=paging.page, page_size=paging.page_size)


@router.post("", status_code=201, response_model=ProfileView, dependencies=[rule(EDITOR)])
async def add_profile(changes: CurrentChanges, user: CurrentUser, sensor_id: UUID, body: NewProfile) -> Response:
    """A draft. A payload that does not fit its kind is refused."""

    async def create(change: Change) -> ProfileView:
        await store.lock_catalogue(change.connection)
        sensor = await find_sensor(change.connection, user, sensor_id, Role.EDITOR)
        body.require_own(user.id, sensor_id, sensor["project_id"])
        if body.status not in (None, ProfileStatus.DRAFT):
            raise invalid("status", "a profile begins as a draft; an owner publishes it by POST …/{id}/publish")
        profile_id = await profiles.add(
            change.connection,
            sensor_id,
            version=body.version,
            kind=body.kind,
            payload=body.payload,
            valid_from=body.valid_from,
            valid_to=body.valid_to,
            created_by=user.id,
            now=change.now,
        )
        row = await _find(change.connection, profile_id, sensor_id)
        change.record(profile_event("conversion_profile.created", row, sensor["project_id"]))
        return ProfileView(**dict(row))

    with unique_names():
        return await changes.once(create)


@router.post("/{profile_id}/publish", dependencies=[rule(OWNER)])
async def publish_profile(
    changes: CurrentChanges, user: CurrentUser, sensor_id: UUID, profile_id: UUID, body: Publication | None = None
) -> ProfileView:
    """Put a draft in force in place of the profile that is, or schedule it if its `valid_from` is still to come.

    A sensor's first profile, published without `valid_from`, holds for all earlier times too; later ones from now on.
    With `split`, it holds for readings of these runs or sessions only, and the default profile goes on for all others.
    """
    wanted = body or Publication.model_validate({})
    async with changes.begin() as change:
        await store.lock_catalogue(change.connection)
        sensor = await find_sensor(change.connection, user, sensor_id, Role.OWNER)
        require_same("project_id", wanted.project_id, sensor["project_id"])
        draft = await _find(change.connection, profile_id, sensor_id)
        if wanted.split is not None:
            await splits.require_known(change.connection, sensor_id, user.id, wanted.split)
        published = await profiles.publish(
            change.connection,
            draft,
            published_by=user.id,
            valid_from=wanted.valid_from,
            now=change.now,
            split=wanted.split,
        )
        for event in await publication_events(change.connection, published, sensor["project_id"]):
            change.record(event)
        return ProfileView(**dict(await _find(change.connection, profile_id, sensor_id)))


@router.post("/{profile_id}/deprecate", dependencies=[rule(OWNER)])
async def deprecate_profile(
    changes: CurrentChanges, user: CurrentUser, sensor_id: UUID, profile_id: UUID
) -> ProfileView:
    """Take a profile out of use, for good; one that is already stays as it is.

    An active one holds until now, and readings of later times stay raw until another one is published (after a split,
    the default one converts them); what it has converted stays. A draft, or one that is scheduled, will never hold.
    """
    async with changes.begin() as change:
        await store.lock_catalogue(change.connection)
        sensor = await find_sensor(change.connection, user, sensor_id, Role.OWNER)
        profile = await _find(change.connection, profile_id, sensor_id)
        if await profiles.deprecate(change.connection, profile, change.now):
            profile = await _find(change.connection, profile_id, sensor_id)
            change.record(profile_event("conversion_profile.deprecated", profile, sensor["project_id"]))
        return ProfileView(**dict(profile))


@router.post(
    "/{profile_id}/preview", status_code=200, response_model=Previewed, dependencies=[rule(VIEWER, only_reads=True)]
)
async def preview_profile(
    services: CurrentServices, user: CurrentUser, sensor_id: UUID, profile_id: UUID, body: Preview | None = None
) -> Response:
    """What the profile, a draft too, makes of raw values or of the sensor's latest readings. Nothing is written."""
    wanted = body or Preview.model_validate({})
    require_same("sensor_id", wanted.sensor_id, sensor_id)
    async with acquire(services.pool) as connection:
        sensor = await find_sensor(connection, user, sensor_id)
        require_same("project_id", wanted.project_id, sensor["project_id"])
        await _find(connection, profile_id, sensor_id)
        profile = await load_as_of(connection, profile_id)
        readings = await _readings(services, connection, user, sensor_id, wanted) if wanted.values is None else None
    if readings is None:
        answer = await asyncio.to_thread(preview.of_values, profile, wanted.values or [])
    else:
        answer = await asyncio.to_thread(preview.of_readings, profile, readings)
    return Response(answer, media_type="application/json")


async def _readings(
    services: Services, connection: Connection, user: User, sensor_id: UUID, wanted: Preview
) -> preview.Readings:
    signals = None if wanted.signal is None else [wanted.signal]
    series = await services.tail.catalogue.series_of(connection, [sensor_id], signals)
    where = Where(
        series=tuple(one.id for one in series),
        time_from_us=to_us(wanted.time_from) if wanted.time_from else None,
        time_to_us=to_us(wanted.time_to) + 1 if wanted.time_to else None,
    )
    rows = await latest(connection, where, limit=wanted.limit or preview.READINGS_DEFAULT)
    hidden = await raw_hidden_from(connection, user, [sensor_id])
    return preview.Readings(rows, {one.id: one.signal for one in series}, raw_hidden=sensor_id in hidden)


async def _find(connection: Connection, profile_id: UUID, sensor_id: UUID) -> Row:
    row = await profiles.one(connection, profile_id, sensor_id)
    if row is None:
        raise not_found("conversion profile")
    return row
