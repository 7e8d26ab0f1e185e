"""What a sensor's readings are checked for before they are queued, whichever way they came."""

from __future__ import annotations

from uuid import UUID

from hub.access.identity import SensorPrincipal
from hub.database.pool import acquire
from hub.errors import Problem, conflict, forbidden, invalid, not_found, too_many
from hub.ingest import posts
from hub.ingest.rates import whole_seconds
from hub.ingest.register import SIGNALS_PER_SENSOR_MAX
from hub.services import Services

_NEW_SIGNALS = """
select (select count(*) from series where sensor_id = $1) as held,
       (select count(*) from unnest($2::text[]) as n (signal)
        where not exists (select from series x where x.sensor_id = $1 and x.signal = n.signal)) as new
"""


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
