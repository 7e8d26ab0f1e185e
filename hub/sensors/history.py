"""What is told of sensors and their profiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from hub.database.pool import Connection
from hub.events.event import NewEvent, PublicEvent, SubjectType
from hub.sensors import profiles
from hub.sensors.profiles import Published
from hub.sensors.rules import ProfileStatus
from hub.sensors.store import Row
from hub.sensors.views import ProfileView, SensorView


def sensor_event(event_type: str, view: SensorView) -> NewEvent:
    """Something that was done to a sensor, with what it is now, or was last."""
    payload = {"sensor_id": str(view.id), **view.model_dump(mode="json")}
    return NewEvent(event_type, SubjectType.SENSOR, view.id, view.project_id, payload)


def deletion_event(view: SensorView, session_ids: Sequence[UUID]) -> NewEvent:
    """A sensor is gone, and with it its part in these sessions."""
    event = sensor_event("sensor.deleted", view)
    return replace(event, payload={**event.payload, "capture_session_ids": [str(one) for one in session_ids]})


def shared_event(event_type: str, row: Row, other_project_id: UUID) -> NewEvent:
    """A sensor was put into another project, or taken out of it."""
    payload = {"sensor_id": str(row["id"]), "name": row["name"], "other_project_id": str(other_project_id)}
    return NewEvent(event_type, SubjectType.SENSOR, row["id"], row["project_id"], payload)


def profile_event(event_type: str, row: Row, project_id: UUID) -> NewEvent:
    """Something that was done to a profile, with what it is now."""
    view = ProfileView(**dict(row))
    payload = {"profile_id": str(view.id), **view.model_dump(mode="json")}
    return NewEvent(event_type, SubjectType.PROFILE, view.id, project_id, payload)


async def publication_events(connection: Connection, published: Published, project_id: UUID) -> list[NewEvent]:
    """What a publication has done: the profiles that are not in force any more, then the one that is, or will be."""
    told = []
    for profile_id in published.deprecated:
        row = await profiles.one(connection, profile_id, published.sensor_id)
        assert row is not None
        told.append(profile_event("conversion_profile.deprecated", row, project_id))
    row = await profiles.one(connection, published.profile_id, published.sensor_id)
    assert row is not None
    is_scheduled = row["status"] == ProfileStatus.SCHEDULED
    event_type = "conversion_profile.scheduled" if is_scheduled else PublicEvent.PROFILE_PUBLISHED
    return [*told, profile_event(event_type, row, project_id)]
