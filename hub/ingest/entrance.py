"""What a sensor's readings are checked for before they are queued, whichever way they came; and how a post goes in."""

from __future__ import annotations

import asyncio
from uuid import UUID

from hub.access.identity import SensorPrincipal
from hub.database.pool import acquire
from hub.errors import Problem, conflict, forbidden, invalid, not_found, too_many
from hub.ingest import posts
from hub.ingest.arrivals import Outcome
from hub.ingest.body import TelemetryBody, submission_of
from hub.ingest.rates import whole_seconds
from hub.ingest.register import SIGNALS_PER_SENSOR_MAX
from hub.services import Services
from shared.errors import StorageUnavailable

_NEW_SIGNALS = """
select (select count(*) from series where sensor_id = $1) as held,
       (select count(*) from unnest($2::text[]) as n (signal)
        where not exists (select from series x where x.sensor_id = $1 and x.signal = n.signal)) as new
"""


async def take(services: Services, sensor: SensorPrincipal, body: TelemetryBody) -> Outcome:
    """Store what a sensor posts. Returns: what became of it, after the commit. Raises: Problem, StorageUnavailable."""
    require_own(sensor, body.sensor_id, body.project_id)
    await require_place(services, sensor, body.run_id, body.capture_session_id)
    submission = submission_of(body)
    await require_signals(services, sensor.id, submission.signals)
    require_rate(services, sensor, submission.readings)
    outcome = services.ingest.submit(submission)
    try:
        async with asyncio.timeout(services.settings.ingest_post_timeout_s):
            done = await outcome
    except TimeoutError:
        raise StorageUnavailable("the readings could not be stored in time", hint="send them again") from None
    if done.set_aside:
        await require_in_service(services, sensor.id)
    return done


def require_own(sensor: SensorPrincipal, sensor_id: UUID, project_id: UUID | None) -> None:
    """See that a body is for the token's sensor. Raises: Problem 403, 404, 409 for a decommissioned one."""
    if sensor_id != sensor.id:
        raise forbidden("the token is another sensor's", code="other_sensor")
    if project_id is not None and project_id not in sensor.project_ids:
        raise not_found("project")
    if sensor.status == "decommissioned":
        raise decommissioned()


async def require_place(
    services: Services, sensor: SensorPrincipal, run_id: UUID | None, session_id: UUID | None
) -> None:
    """See that a sensor may send to the run and session that it names. Raises: Problem 404, 409."""
    if run_id is None and session_id is None:
        return
    async with acquire(services.pool) as connection:
        await posts.require_place(connection, sensor, run_id, session_id)


def require_rate(services: Services, sensor: SensorPrincipal, readings: int) -> None:
    """Count readings that go in. Raises: Problem 429 when the sensor has sent too many lately."""
    wait_s = services.rates.take(sensor.id, readings, sensor.readings_per_s_max)
    if wait_s:
        raise too_many("the sensor sends more than it may; wait a while", whole_seconds(wait_s))


async def require_signals(services: Services, sensor_id: UUID, signals: tuple[str, ...]) -> None:
    """Raises: Problem 422 when the sensor would have too many signals."""
    async with acquire(services.pool) as connection:
        row = await connection.fetchrow(_NEW_SIGNALS, sensor_id, list(signals))
    if row is not None and row["new"] and row["held"] + row["new"] > SIGNALS_PER_SENSOR_MAX:
        raise invalid("signal", f"a sensor has at most {SIGNALS_PER_SENSOR_MAX} signals")


async def require_in_service(services: Services, sensor_id: UUID) -> None:
    """See that a sensor still is there; to be asked where readings were set aside. Raises: Problem 401, 409."""
    async with acquire(services.pool) as connection:
        status = await connection.fetchval("select status from sensors where id = $1", sensor_id)
    if status is None:
        raise Problem(401, "the sensor is gone", code="unauthorized")
    if status == "decommissioned":
        raise decommissioned()


def decommissioned() -> Problem:
    """409: nothing is taken of it any more."""
    return conflict("the sensor is decommissioned", code="decommissioned")
