"""The sensor that a request names, if the caller may do to it what the route does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from uuid import UUID

import asyncpg

from hub.access.identity import Role, User
from hub.database.pool import Connection
from hub.errors import conflict, forbidden, not_found
from hub.sensors import store
from hub.sensors.store import Row
from hub.sensors.views import SensorView
from hub.services import Services
from hub.telemetry.moments import to_datetime


async def find_sensor(connection: Connection, user: User, sensor_id: UUID, at_least: Role = Role.VIEWER) -> Row:
    """The sensor's row. Members of any of its projects may read; to do more takes the role in its primary one.

    Raises: Problem 404, 403.
    """
    row = await store.one(connection, sensor_id, user.id)
    if row is None:
        raise not_found("sensor")
    role = Role(row["role"]) if row["role"] else Role.VIEWER
    if not role.includes(at_least):
        raise forbidden(f"this needs the role {at_least} in the sensor's primary project, yours is {role}")
    return row


def view_sensor(services: Services, row: Row) -> SensorView:
    """The sensor as the API shows it; what this hub has heard counts before the database knows of it."""
    return SensorView.of(row, last_heard(services, row), services.now())


def last_heard(services: Services, row: Row) -> datetime | None:
    """When anything last came from the sensor."""
    heard_us = services.live.heard_us(row["id"]), services.ingest.heard_us(row["unheard_series"])
    heard = [row["last_heartbeat"], *(to_datetime(one) for one in heard_us if one is not None)]
    return max((one for one in heard if one is not None), default=None)


@contextmanager
def unique_names() -> Iterator[None]:
    """Names are unique per project, versions per sensor. Raises: Problem 409."""
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name == "sensors_name":
            raise conflict("the project has a sensor of this name already", code="taken") from None
        if error.table_name == "conversion_profiles":
            raise conflict("the sensor has a profile of this version already", code="taken") from None
        raise
