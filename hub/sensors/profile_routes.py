"""HTTP of conversion profiles."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from hub.access.identity import CurrentUser, Role
from hub.access.rules import EDITOR, OWNER, VIEWER, rule
from hub.database.pool import Connection, acquire, transaction
from hub.errors import invalid, not_found
from hub.paging import Paging
from hub.sensors import profiles, store
from hub.sensors.access import find_sensor, unique_names
from hub.sensors.rules import ProfileStatus
from hub.sensors.store import Row
from hub.sensors.views import NewProfile, Profiles, ProfileView, Publication
from hub.services import CurrentServices

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


@router.post("", status_code=201, dependencies=[rule(EDITOR)])
async def add_profile(services: CurrentServices, user: CurrentUser, sensor_id: UUID, body: NewProfile) -> ProfileView:
    """A draft. A payload that does not fit its kind is refused."""
    with unique_names():
        async with transaction(services.pool) as connection:
            await store.lock_catalogue(connection)
            sensor = await find_sensor(connection, user, sensor_id, Role.EDITOR)
            if body.sensor_id not in (None, sensor_id):
                raise invalid("sensor_id", "is not the path's")
            if body.project_id not in (None, sensor["project_id"]):
                raise invalid("project_id", "is not the sensor's")
            profile_id = await profiles.add(
                connection,
                sensor_id,
                version=body.version,
                kind=body.kind,
                payload=body.payload,
                valid_from=body.valid_from,
                valid_to=body.valid_to,
                created_by=user.id,
                now=services.now(),
            )
            return ProfileView(**dict(await _find(connection, profile_id, sensor_id)))


@router.post("/{profile_id}/publish", dependencies=[rule(OWNER)])
async def publish_profile(
    services: CurrentServices, user: CurrentUser, sensor_id: UUID, profile_id: UUID, body: Publication | None = None
) -> ProfileView:
    """Put a draft in force in place of the profile that is, or schedule it if its `valid_from` is still to come.

    A sensor's first profile, published without `valid_from`, holds for all earlier times too; later ones from now on.
    """
    async with transaction(services.pool) as connection:
        await store.lock_catalogue(connection)
        await find_sensor(connection, user, sensor_id, Role.OWNER)
        draft = await _find(connection, profile_id, sensor_id)
        await profiles.publish(
            connection,
            draft,
            published_by=user.id,
            valid_from=body.valid_from if body else None,
            now=services.now(),
        )
        return ProfileView(**dict(await _find(connection, profile_id, sensor_id)))


async def _find(connection: Connection, profile_id: UUID, sensor_id: UUID) -> Row:
    row = await profiles.one(connection, profile_id, sensor_id)
    if row is None:
        raise not_found("conversion profile")
    return row
