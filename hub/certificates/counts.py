"""Counting a session's readings, sensor by sensor: what is stored, and what came and is not.

Whether something came from an agent or from a post decides who vouches for it, so everything is counted for each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from hub.database.pool import Connection
from hub.telemetry.membership import Membership, Window
from shared.columns import TIMESTAMP_US_MAX

# Statements hold integers and ids that the hub wrote itself (hub.telemetry.membership), nothing that a client sent.
_STORED = """
select x.sensor_id, r.profile, count(*) as readings, count(*) filter (where {held}) as held,
       min(r.time) as first_at, max(r.time) as last_at
from readings r join series x on x.id = r.series_id
where {belongs} group by x.sensor_id, r.profile order by x.sensor_id, r.profile
"""
_POSTED = """
select x.sensor_id, count(*) as readings, count(*) filter (where {held}) as held
from posted_readings p
join series x on x.sensor_id = p.sensor_id
join readings r on r.series_id = x.id and r.time between p.time_from and p.time_to
 and r.id between p.first_id and p.last_id
where p.sensor_id = any($1::uuid[]) and {belongs} group by x.sensor_id
"""
# What came again belongs where the reading does that was there first; by its time, where retention has dropped that.
_REPEATED = """
select x.sensor_id, p.by_agent, count(*) as readings
from series x join repeated_readings p on p.series_id = x.id cross join unnest(p.timestamps_us) as at_us
left join readings r
  on r.series_id = p.series_id and r.time = timestamptz 'epoch' + at_us * interval '1 microsecond'
where x.sensor_id = any($4::uuid[]) and case when r.id is not null then {belongs} else exists (
    select from unnest($1::uuid[], $2::bigint[], $3::bigint[]) as w (sensor_id, from_us, to_us)
    where w.sensor_id = x.sensor_id and at_us >= w.from_us and at_us < w.to_us
) end
group by x.sensor_id, p.by_agent
"""
_SET_ASIDE = """
select w.sensor_id, a.agent_id is not null as by_agent, a.reason, count(*) as readings
from unnest($1::uuid[], $2::bigint[], $3::bigint[]) as w (sensor_id, from_us, to_us)
join sensors s on s.id = w.sensor_id
join set_aside a on a.sensor_id = w.sensor_id
  or a.sensor_id is null and a.project_id = s.project_id and lower(a.sensor_name) = lower(s.name),
     unnest(a.timestamps_us) as at_us
where at_us >= w.from_us and at_us < w.to_us and a.reason <> 'clock_unsynchronised'
group by w.sensor_id, by_agent, a.reason order by w.sensor_id, a.reason
"""
_DISCARDED = """
select w.sensor_id, d.by_agent, 'discarded' as reason, count(*) as readings
from unnest($1::uuid[], $2::bigint[], $3::bigint[]) as w (sensor_id, from_us, to_us)
join set_aside_decisions d on d.sensor_id = w.sensor_id and d.action = 'discarded', unnest(d.timestamps_us) as at_us
where at_us >= w.from_us and at_us < w.to_us and d.was <> 'clock_unsynchronised'
group by w.sensor_id, d.by_agent
"""
_UNPLACED = """
select a.sensor_id, count(*) as rows, sum(a.readings)::bigint as readings from set_aside a
where a.sensor_id = any($1::uuid[]) and a.reason = 'clock_unsynchronised' and a.created_at >= $2
group by a.sensor_id order by a.sensor_id
"""
_PROFILES = "select ref, id, version, kind from conversion_profiles where ref = any($1::int[])"
_NAMES = "select id, name from sensors where id = any($1::uuid[])"
_DROPPED_RANGES = """
select greatest(time_from, $1) as time_from, least(time_to, $2) as time_to, dropped_at
from dropped_ranges where time_from < $2 and time_to > $1 order by time_from
"""
_DROPPED = """
select x.sensor_id, sum(g.sample_count)::bigint as readings
from unnest($1::uuid[], $2::bigint[], $3::bigint[]) as w (sensor_id, from_us, to_us)
join series x on x.sensor_id = w.sensor_id
join aggregates_1m g on g.series_id = x.id
 and g.bucket >= timestamptz 'epoch' + w.from_us * interval '1 microsecond'
 and g.bucket + interval '1 minute' <= timestamptz 'epoch' + w.to_us * interval '1 microsecond'
where not exists (
    select from readings r where r.series_id = x.id and r.time >= g.bucket and r.time < g.bucket + interval '1 minute'
)
group by x.sensor_id
"""


@dataclass(slots=True)
class Tally:
    """What became of the readings that came one way. `held` ones are stored too, and late."""

    stored: int = 0
    held: int = 0
    repeated: int = 0
    set_aside: dict[str, int] = field(default_factory=dict)

    @property
    def taken(self) -> int:
        """All that came."""
        return self.stored + self.repeated + sum(self.set_aside.values())


@dataclass(slots=True)
class SensorCounts:
    """What became of a sensor's readings within a session.

    Attributes:
        profiles: stored readings by (id, version, kind) of what they were converted with; None for nothing.
        unplaced: readings set aside since the start because nobody knows their time: they may be of the session.
        dropped: readings that retention has dropped, in whole minutes of which nothing is left.
    """

    name: str = ""
    agents: Tally = field(default_factory=Tally)
    posts: Tally = field(default_factory=Tally)
    first_at: datetime | None = None
    last_at: datetime | None = None
    profiles: dict[tuple[UUID, str, str] | None, int] = field(default_factory=dict)
    unplaced: int = 0
    dropped: int = 0

    def tally(self, *, by_agent: bool) -> Tally:
        """That of one way."""
        return self.agents if by_agent else self.posts


async def count(
    connection: Connection,
    membership: Membership,
    series: Mapping[UUID, Sequence[int]],
    started_at: datetime,
    *,
    may_have_dropped: bool,
    timeout_s: float,
) -> dict[UUID, SensorCounts]:
    """Count for each sensor that takes part, or was named. Raises: StorageUnavailable."""
    sensor_ids = sorted({*membership.sensor_ids, *series})
    found = {sensor_id: SensorCounts() for sensor_id in sensor_ids}
    for sensor_id, name in await connection.fetch(_NAMES, sensor_ids):
        found[sensor_id].name = name
    belongs = {"belongs": membership.condition(series, with_held=True), "held": membership.held.condition()}
    await _count_stored(connection, belongs, found, timeout_s)
    windows = _columns(membership.windows)
    for row in await connection.fetch(_REPEATED.format(**belongs), *windows, sensor_ids, timeout=timeout_s):
        found[row["sensor_id"]].tally(by_agent=row["by_agent"]).repeated = row["readings"]
    for statement in (_SET_ASIDE, _DISCARDED):
        for row in await connection.fetch(statement, *windows, timeout=timeout_s):
            found[row["sensor_id"]].tally(by_agent=row["by_agent"]).set_aside[row["reason"]] = row["readings"]
    for row in await connection.fetch(_UNPLACED, sensor_ids, started_at, timeout=timeout_s):
        found[row["sensor_id"]].unplaced = row["readings"]
    if may_have_dropped:
        for row in await connection.fetch(_DROPPED, *windows, timeout=timeout_s):
            found[row["sensor_id"]].dropped = row["readings"]
    return found


async def dropped_ranges(connection: Connection, start: datetime, end: datetime) -> list[tuple[datetime, ...]]:
    """What the hub's retention has dropped of this time: from, to, when."""
    return [tuple(row) for row in await connection.fetch(_DROPPED_RANGES, start, end)]


async def unplaced(connection: Connection, sensor_ids: Sequence[UUID], started_at: datetime) -> dict[UUID, int]:
    """Readings since the start that wait for somebody to place their clock, by sensor."""
    rows = await connection.fetch(_UNPLACED, list(sensor_ids), started_at)
    return {row["sensor_id"]: row["readings"] for row in rows}


async def _count_stored(
    connection: Connection, belongs: Mapping[str, str], found: dict[UUID, SensorCounts], timeout_s: float
) -> None:
    stored = await connection.fetch(_STORED.format(**belongs), timeout=timeout_s)
    refs = sorted({row["profile"] for row in stored})
    profiles = {row["ref"]: (row["id"], row["version"], row["kind"]) for row in await connection.fetch(_PROFILES, refs)}
    for row in stored:
        one = found[row["sensor_id"]]
        one.agents.stored += row["readings"]
        one.agents.held += row["held"]
        one.first_at = min(one.first_at or row["first_at"], row["first_at"])
        one.last_at = max(one.last_at or row["last_at"], row["last_at"])
        profile = profiles.get(row["profile"])
        one.profiles[profile] = one.profiles.get(profile, 0) + row["readings"]
    for row in await connection.fetch(_POSTED.format(**belongs), list(found), timeout=timeout_s):
        one = found[row["sensor_id"]]
        one.posts.stored, one.posts.held = row["readings"], row["held"]
        one.agents.stored -= row["readings"]
        one.agents.held -= row["held"]


def _columns(windows: Sequence[Window]) -> tuple[list[UUID], list[int], list[int]]:
    return (
        [one.sensor_id for one in windows],
        [one.from_us for one in windows],
        [min(one.to_us, TIMESTAMP_US_MAX) for one in windows],
    )
