"""Profiles that are published, readings that are posted, and what the hub has converted them with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from tests.hub.recalculation.test_tasks import draft, path
from tests.hub.sessions.conftest import Lab

BEGAN = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(hours=2)
AHEAD = 4 * 3600
"""Seconds that lie ahead, however long the tests take."""
DEFAULT, SPLIT, OTHER = 2.0, 10.0, 100.0
"""Factors of profiles; every raw value here is 1, so a physical value says which profile it comes from."""


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


async def publish(lab: Lab, sensor: str, factor: float, **body: Any) -> dict[str, Any]:
    """A profile in force."""
    profile = await draft(lab, sensor, str(uuid4()), factor)
    answer = await lab.owner.post(f"{path(sensor)}/{profile}/publish", json=body)
    assert answer.status_code == 200, answer.text
    published: dict[str, Any] = answer.json()
    return published


async def split(lab: Lab, sensor: str, factor: float, valid_from: datetime | None = None, **named: Any) -> Any:
    """A profile split off; from the beginning on unless told otherwise."""
    return await publish(lab, sensor, factor, valid_from=(valid_from or at(0)).isoformat(), split=named)


async def deprecate(lab: Lab, profile: dict[str, Any]) -> None:
    answer = await lab.owner.post(f"{path(profile['sensor_id'])}/{profile['id']}/deprecate")
    assert answer.status_code == 200, answer.text


async def shown(lab: Lab, profile: dict[str, Any]) -> dict[str, Any]:
    """The profile as the list has it now."""
    listed = (await lab.owner.get(path(profile["sensor_id"]))).json()["conversion_profiles"]
    (found,) = [one for one in listed if one["id"] == profile["id"]]
    return dict(found)


async def post(lab: Lab, sensor: str, *seconds: float, **more: Any) -> None:
    answer = await lab.post(sensor, {at(one): 1.0 for one in seconds}, **more)
    assert answer.status_code == 202, answer.text


async def factors(lab: Lab, sensor: str) -> dict[float, float | None]:
    """What each reading was converted with, by its second."""
    points = await lab.points(sensor_id=sensor, limit=1000, include_late=True)
    return {(datetime.fromisoformat(one["timestamp"]) - BEGAN).total_seconds(): one["physical_value"] for one in points}


async def stop(lab: Lab, session: dict[str, Any], seconds: float) -> None:
    answer = await lab.owner.post(f"{lab.path(session)}/stop", json={"stopped_at": at(seconds).isoformat()})
    assert answer.status_code == 200, answer.text
