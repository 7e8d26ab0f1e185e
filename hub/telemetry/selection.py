"""What a query is about: series and a range of time, or what belongs to sessions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from hub.access.identity import Principal, SensorPrincipal
from hub.access.policies import raw_hidden_from
from hub.database.pool import Connection
from hub.errors import not_found
from hub.telemetry import membership
from hub.telemetry.as_of import AsOf, load_as_of
from hub.telemetry.catalogue import Catalogue
from hub.telemetry.filters import Filters, TimeRange, scope_of
from hub.telemetry.live import NO_SENSORS, SensorIds
from hub.telemetry.membership import FOR_EVER_US, Membership
from hub.telemetry.scan import Rows, Where

_RUN = """
select r.id, r.project_id, m.role from runs r
left join project_members m on m.project_id = r.project_id and m.user_id = $2
where r.id = $1
"""
_SESSION = """
select s.run_id as id, s.project_id, m.role from capture_sessions s
left join project_members m on m.project_id = s.project_id and m.user_id = $2
where s.id = $1
"""


@dataclass(frozen=True, slots=True)
class Selection:
    """Readings that a query asks for.

    Attributes:
        series: ids of the series, by sensor.
        range: of time; what else `sessions` say holds too.
        sessions: None where time alone decides; else the readings belong to one of these.
        with_held: whether late readings that do not count to their session are wanted too.
        hidden: sensors whose raw values the caller is not shown.
        as_of: the profile that its sensor's readings are to be seen with; None for what is stored.
        id_from, id_to: a half-open range of ids that the readings lie in too; None for an open end.
    """

    series: dict[UUID, list[int]]
    range: TimeRange
    sessions: Sequence[Membership] | None = None
    with_held: bool = False
    hidden: SensorIds = NO_SENSORS
    as_of: AsOf | None = None
    id_from: int | None = None
    id_to: int | None = None

    def seen(self, rows: Rows) -> Rows:
        """The rows as they are to be seen."""
        if self.as_of is None:
            return rows
        return self.as_of.applied(rows, self.series.get(self.as_of.sensor_id, ()))

    @property
    def hidden_series(self) -> list[int]:
        """The series of the sensors that are `hidden`."""
        return [one for sensor, ids in self.series.items() if sensor in self.hidden for one in ids]

    @property
    def series_ids(self) -> list[int]:
        """Of all sensors, rising."""
        return sorted(one for ids in self.series.values() for one in ids)

    def of_series(self, sensor_id: UUID, series_id: int) -> Selection:
        """What of it is of one series."""
        return replace(self, series={sensor_id: [series_id]})

    def where(self) -> Where:
        """For a scan of readings."""
        if self.sessions is None:
            span, belongs = self.range, ""
        else:
            parts = [one.condition(self.series, with_held=self.with_held) for one in self.sessions]
            span, belongs = self._span(), f"({' or '.join(parts)})" if parts else "false"
        return Where(
            series=tuple(self.series_ids),
            id_from=self.id_from,
            id_to=self.id_to,
            time_from_us=span.from_us,
            time_to_us=span.to_us,
            belongs=belongs,
        )

    def _span(self) -> TimeRange:
        """The range within which the sessions' readings lie; what was named may lie anywhere."""
        sessions = self.sessions or ()
        windows = [window for one in sessions for window in one.windows]
        if not windows or any(len(one.named) for one in sessions):
            return self.range
        first, last = min(one.from_us for one in windows), max(one.to_us for one in windows)
        return self.range.within(first, None if last == FOR_EVER_US else last)


async def select(connection: Connection, catalogue: Catalogue, filters: Filters, principal: Principal) -> Selection:
    """What these filters mean for the caller. Raises: Problem 404, 422; StorageUnavailable."""
    if filters.run_id is None and filters.capture_session_id is None:
        sight = await filters.scope(principal).sight(connection)
        found = await catalogue.series_of(connection, sight.sensors, filters.signals)
        series = _by_sensor([(one.id, one.sensor_id) for one in found])
        as_of = await _as_of(connection, catalogue, filters.as_of_profile, sight.sensors)
        return Selection(
            series, filters.range, hidden=sight.hidden, as_of=as_of, id_from=filters.id_from, id_to=filters.id_to
        )
    project_id, sessions = await _sessions(connection, filters, principal)
    sensors = set(await membership.series_of(connection, sessions))
    if filters.sensor_id:
        sensors &= await _named(connection, filters, principal, sensors)
    if isinstance(principal, SensorPrincipal):
        sensors &= {principal.id}
    found = await catalogue.series_of(connection, sensors, filters.signals)
    series = _by_sensor([(one.id, one.sensor_id) for one in found])
    hidden = await raw_hidden_from(connection, principal, sensors, project_id)
    as_of = await _as_of(connection, catalogue, filters.as_of_profile, sensors)
    late, ids = filters.include_late, (filters.id_from, filters.id_to)
    return Selection(series, filters.range, sessions, late, hidden, as_of, *ids)


async def _named(connection: Connection, filters: Filters, principal: Principal, of_sessions: set[UUID]) -> set[UUID]:
    """The sensors that are asked for by name. What sessions recorded is seen with them, wherever a sensor is now.

    Raises: Problem 404 for one that is neither theirs nor the caller's to see; 422.
    """
    wanted = filters.scope(principal).sensor_ids or frozenset()
    elsewhere = wanted if isinstance(principal, SensorPrincipal) else wanted - of_sessions
    if elsewhere:
        await scope_of(principal, list(elsewhere), filters.project_id).sensors(connection)
    return set(wanted)


async def _as_of(
    connection: Connection, catalogue: Catalogue, profile_id: UUID | None, sensors: Collection[UUID]
) -> AsOf | None:
    """The profile asked for. Raises: Problem 404, also for one of a sensor that is not asked about."""
    if profile_id is None:
        return None
    profile = await load_as_of(connection, profile_id)
    if profile.sensor_id not in sensors:
        raise not_found("conversion profile")
    catalogue.profiles[profile.ref] = profile.profile_id
    return profile


async def _sessions(connection: Connection, filters: Filters, principal: Principal) -> tuple[UUID, list[Membership]]:
    """The memberships that are meant, and the project that they belong to.

    Raises: Problem 404 for what is not there, or not the caller's to see.
    """
    session_id, run_id = filters.capture_session_id, filters.run_id
    if session_id is None:
        assert run_id is not None
        _, project_id = await _see(connection, _RUN, run_id, principal, "run")
        return project_id, await membership.of_run(connection, run_id)
    of_run, project_id = await _see(connection, _SESSION, session_id, principal, "capture session")
    if run_id not in (None, of_run):
        raise not_found("capture session")
    return project_id, await membership.of_sessions(connection, [session_id])


async def _see(connection: Connection, statement: str, id_: UUID, principal: Principal, what: str) -> tuple[UUID, UUID]:
    """The run and the project of what is asked for. Raises: Problem 404."""
    row = await connection.fetchrow(statement, id_, principal.id)
    if row is None:
        raise not_found(what)
    if isinstance(principal, SensorPrincipal):
        visible = row["project_id"] in principal.project_ids
    else:
        visible = row["role"] is not None
    if not visible:
        raise not_found(what)
    return row["id"], row["project_id"]


def _by_sensor(found: Sequence[tuple[int, UUID]]) -> dict[UUID, list[int]]:
    series: dict[UUID, list[int]] = {}
    for series_id, sensor_id in found:
        series.setdefault(sensor_id, []).append(series_id)
    return series
