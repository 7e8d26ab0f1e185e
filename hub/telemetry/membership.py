"""Which session a reading belongs to: computed from a few rows a session, never stored with the readings.

A session is a window of time for each of its sensors, fixed when it starts and closed when it stops. Windows of one
sensor never overlap, so a reading's own time names at most one session. Two things are added to that, as ranges of
reading ids:

*named*  posts that said which session they belong to; they do, whatever their time, and to no other
*held*   late readings that do not count (yet): they came after the stop, and the policy of the session holds back what
         comes the way they came; a backfill lets them count

So ingest writes no membership, late data change no row of a reading, and what a reader is told is what holds at the
moment of one statement. docs/adr/0013 tells why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from hub.database.pool import Connection, translated
from hub.telemetry.moments import to_datetime
from hub.telemetry.scan import TIMEOUT_S, Rows, timestamp
from shared.readings import Int64

FOR_EVER_US = 1 << 62
"""The end of a window that is open."""
_ID_MAX = 1 << 62

# One statement, so that windows, names and what is held are of one moment. A post that named the session in which its
# times lie anyway changes nothing and is left out: that is nearly all of them.
_LOAD = """
with wanted as materialized (
    select s from capture_sessions s
    where ($1::uuid[] is null or s.id = any($1))
      and ($2::uuid is null or s.run_id = $2)
      and ($3::uuid[] is null or s.id in (
            select w.session_id from session_sensors w
            where w.sensor_id = any($3) and w.time_from < $5 and (w.time_to is null or w.time_to > $4)
            union
            select n.session_id from named_readings n
            where n.sensor_id = any($3) and n.time_from < $5 and n.time_to >= $4
          ))
), windows as materialized (
    select (s).id, (s).run_id, w.sensor_id, w.time_from, coalesce(w.time_to, 'infinity') as time_to
    from wanted join session_sensors w on w.session_id = (s).id
), named as (
    select (s).id, int8multirange(int8range(n.first_id, n.last_id, '[]')) as ids
    from wanted join named_readings n on n.session_id = (s).id
    where not exists (
        select from windows w where w.id = (s).id and w.sensor_id = n.sensor_id
           and w.time_from <= n.time_from and n.time_to < w.time_to
    )
), elsewhere as (
    select w.id, int8multirange(int8range(n.first_id, n.last_id, '[]')) as ids
    from windows w join named_readings n on n.sensor_id = w.sensor_id and n.session_id <> w.id
     and n.time_from < w.time_to and n.time_to >= w.time_from
), ranges as (
    select 'named' as kind, id, range_agg(ids) as ids from named group by id
    union all
    select 'elsewhere', id, range_agg(ids) from elsewhere group by id
    union all
    select 'held', (s).id, held_ids(s) from wanted
)
select 'session' as kind, (s).id, (s).run_id, null::uuid as sensor_id, null::bigint as low, null::bigint as high
from wanted
union all
select 'window', id, run_id, sensor_id, (extract(epoch from time_from) * 1000000)::bigint,
       case when time_to < 'infinity' then (extract(epoch from time_to) * 1000000)::bigint end
from windows
union all
select kind, id, null, null, lower(one), upper(one) from ranges, unnest(ids) as one
order by id, low nulls first
"""


_SERIES = """
select x.id, x.sensor_id from series x where x.sensor_id in (
    select sensor_id from session_sensors where session_id = any($1::uuid[])
    union
    select sensor_id from named_readings where session_id = any($1::uuid[])
) order by x.id
"""


@dataclass(frozen=True, slots=True)
class Window:
    """Readings of one sensor with `from_us <= time < to_us`, in UTC microseconds."""

    sensor_id: UUID
    from_us: int
    to_us: int


@dataclass(frozen=True, slots=True)
class IdRanges:
    """Reading ids, as ranges that are sorted and do not overlap.

    Attributes:
        bounds: int64 (n, 2), first and behind the last.
    """

    bounds: Int64

    @staticmethod
    def of(ranges: Sequence[tuple[int, int | None]]) -> IdRanges:
        """From (first, behind the last), None for no end."""
        ends = [(low, _ID_MAX if high is None else high) for low, high in ranges]
        return IdRanges(np.array(ends, np.int64).reshape(-1, 2))

    def __len__(self) -> int:
        return len(self.bounds)

    def holds(self, ids: Int64) -> NDArray[np.bool_]:
        """bool (n,): which of these ids, int64 (n,), lie in one of the ranges."""
        if not len(self.bounds):
            return np.zeros(len(ids), np.bool_)
        place = np.searchsorted(self.bounds[:, 0], ids, side="right") - 1
        found: NDArray[np.bool_] = (place >= 0) & (ids < self.bounds[np.maximum(place, 0), 1])
        return found

    def condition(self) -> str:
        """As SQL about `r.id`; `false` for none."""
        parts = [f"r.id >= {low} and r.id < {high}" for low, high in self.bounds.tolist()]
        return f"({' or '.join(parts)})" if parts else "false"


@dataclass(frozen=True, slots=True)
class Membership:
    """What belongs to one session.

    Attributes:
        named: ids of readings that named this session and lie outside its windows.
        elsewhere: ids of readings that lie in its windows and named another one.
        held: ids of late readings that do not count to it.
    """

    session_id: UUID
    run_id: UUID
    windows: tuple[Window, ...]
    named: IdRanges
    elsewhere: IdRanges
    held: IdRanges

    @property
    def sensor_ids(self) -> frozenset[UUID]:
        """Who takes part."""
        return frozenset(window.sensor_id for window in self.windows)

    def covers(self, rows: Rows, sensors: Sequence[UUID], sensor: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Which rows are the session's, those that are held included.

        Args:
            sensor: intp (n,), which of `sensors` each row is of.
        """
        bounds = {window.sensor_id: (window.from_us, window.to_us) for window in self.windows}
        low, high = np.array([bounds.get(one, (0, 0)) for one in sensors], np.int64).reshape(-1, 2).T
        inside = (rows.time_us >= low[sensor]) & (rows.time_us < high[sensor])
        return inside & ~self.elsewhere.holds(rows.id) | self.named.holds(rows.id)

    def condition(self, series: Mapping[UUID, Sequence[int]], *, with_held: bool = False) -> str:
        """As SQL about `readings r`.

        Args:
            series: ids of the series of each sensor that matters; those of other sensors do not belong.
            with_held: whether late readings that do not count are wanted too.
        """
        groups: dict[tuple[int, int], list[int]] = {}
        for window in self.windows:
            groups.setdefault((window.from_us, window.to_us), []).extend(series.get(window.sensor_id, ()))
        parts = [_within(ids, *bounds) for bounds, ids in groups.items() if ids]
        inside = f"({' or '.join(parts)})" if parts else "false"
        if len(self.elsewhere):
            inside = f"({inside} and not {self.elsewhere.condition()})"
        if len(self.named):
            every = [one for ids in series.values() for one in ids]
            inside = f"({inside} or {_of_series(every)} and {self.named.condition()})"
        return inside if with_held or not len(self.held) else f"({inside} and not {self.held.condition()})"


@dataclass(frozen=True, slots=True)
class Labels:
    """To which session each of some rows belongs.

    Attributes:
        place: int64 (n,), among `memberships`; -1 for none.
        held: bool (n,), whether the row is late and does not count to it.
    """

    memberships: Sequence[Membership]
    place: Int64
    held: NDArray[np.bool_]


def label(rows: Rows, sensors: Sequence[UUID], sensor: NDArray[np.intp], memberships: Sequence[Membership]) -> Labels:
    """Find the session of each row.

    Args:
        sensor: intp (n,), which of `sensors` each row is of.
        memberships: of all sessions that may have some of them.
    """
    place = np.full(len(rows), -1, np.int64)
    held = np.zeros(len(rows), np.bool_)
    for number, one in enumerate(memberships):
        mine = one.covers(rows, sensors, sensor)
        place[mine] = number
        held[mine] = one.held.holds(rows.id[mine])
    return Labels(memberships, place, held)


async def series_of(connection: Connection, memberships: Sequence[Membership]) -> dict[UUID, list[int]]:
    """The series of all sensors that have, or may have, readings in these sessions, by sensor.

    Raises: StorageUnavailable.
    """
    found: dict[UUID, list[int]] = {}
    with translated():
        records = await connection.fetch(_SERIES, [one.session_id for one in memberships], timeout=TIMEOUT_S)
    for series_id, sensor_id in records:
        found.setdefault(sensor_id, []).append(series_id)
    return found


async def of_sessions(connection: Connection, session_ids: Sequence[UUID]) -> list[Membership]:
    """The memberships of these sessions, as far as they exist. Raises: StorageUnavailable."""
    return await _load(connection, list(session_ids), None, None, None, None)


async def of_run(connection: Connection, run_id: UUID) -> list[Membership]:
    """Those of all sessions of a run. Raises: StorageUnavailable."""
    return await _load(connection, None, run_id, None, None, None)


async def of_sensors(connection: Connection, sensor_ids: Iterable[UUID], from_us: int, to_us: int) -> list[Membership]:
    """Those of all sessions that may have readings of these sensors from `from_us` to before `to_us`.

    Raises: StorageUnavailable.
    """
    return await _load(connection, None, None, list(sensor_ids), to_datetime(from_us), to_datetime(to_us))


async def _load(connection: Connection, *arguments: Any) -> list[Membership]:
    with translated():
        records = await connection.fetch(_LOAD, *arguments, timeout=TIMEOUT_S)
    runs: dict[UUID, UUID] = {}
    windows: dict[UUID, list[Window]] = {}
    ranges: dict[tuple[str, UUID], list[tuple[int, int | None]]] = {}
    for kind, session_id, run_id, sensor_id, low, high in records:
        if kind == "session":
            runs[session_id] = run_id
        elif kind == "window":
            window = Window(sensor_id, low, FOR_EVER_US if high is None else high)
            windows.setdefault(session_id, []).append(window)
        else:
            ranges.setdefault((kind, session_id), []).append((low, high))
    return [
        Membership(
            session_id,
            run_id,
            tuple(windows.get(session_id, ())),
            *(IdRanges.of(ranges.get((kind, session_id), [])) for kind in ("named", "elsewhere", "held")),
        )
        for session_id, run_id in runs.items()
    ]


def _within(series: Sequence[int], from_us: int, to_us: int) -> str:
    until = "" if to_us == FOR_EVER_US else f" and r.time < {timestamp(to_us)}"
    return f"({_of_series(series)} and r.time >= {timestamp(from_us)}{until})"


def _of_series(series: Sequence[int]) -> str:
    return f"r.series_id = any('{{{','.join(map(str, map(int, series)))}}}'::int[])"
