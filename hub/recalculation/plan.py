"""Which readings a task is about, and in which slices it goes through them."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from hub.database.partitions import TIME_US_MAX, TIME_US_MIN
from hub.database.pool import Connection
from hub.recalculation import store
from hub.recalculation.rules import Scope, Stretch, cut, joined
from hub.recalculation.store import Row, Ruling, Slice
from hub.telemetry.buckets import extent_of
from hub.telemetry.membership import of_sessions
from hub.telemetry.moments import to_us
from hub.telemetry.scan import Where

COUNT_TIMEOUT_S = 120.0
_COUNT = "select count(*) from readings r where {condition}"


async def rulings(
    connection: Connection, sensor_id: UUID, session_ids: Sequence[UUID], asked: Stretch | None, until_us: int
) -> list[Ruling]:
    """What a task decides for readings that are still to come: nothing beyond `until_us`, which is now.

    Args:
        session_ids: empty for all readings.
        asked: the range of time that the task is about, None for all.
    """
    from_us = asked.from_us if asked else None
    to_us_max = min(asked.to_us, until_us) if asked else until_us
    if not session_ids:
        return [Ruling(from_us, to_us_max)] if from_us is None or from_us < to_us_max else []
    windows = []
    for row in await store.session_windows(connection, sensor_id, session_ids):
        end_us = until_us if row["time_to"] is None else to_us(row["time_to"])
        stretch = Stretch(to_us(row["time_from"]), max(to_us(row["time_from"]), end_us))
        windows.append(stretch.within(from_us, to_us_max))
    return [Ruling(one.from_us, one.to_us) for one in joined(one for one in windows if one is not None)]


async def belongs(connection: Connection, task: Row) -> str:
    """Which readings in its stretches a task is about, as SQL about `r`; empty for all. Raises: StorageUnavailable."""
    if task["scope"] == Scope.ALL:
        return ""
    series = {task["sensor_id"]: await store.series(connection, task["sensor_id"])}
    sessions = await of_sessions(connection, task["capture_session_ids"])
    parts = [one.condition(series, with_held=True) for one in sessions]
    return f"({' or '.join(parts)})" if parts else "false"


async def slices(connection: Connection, task: Row) -> list[Slice]:
    """All that there is to go through: nothing from after the task was made. Raises: StorageUnavailable."""
    from_us, to_us_max = _bounds(task)
    wanted = [one.within(from_us, to_us_max) for one in await _stretches(connection, task)]
    found: list[Slice] = []
    for series_id in await store.series(connection, task["sensor_id"]):
        extent = await extent_of(connection, [series_id])
        if extent is not None:
            within = [one and one.within(extent.from_us, extent.to_us) for one in wanted]
            parts = [part for one in within if one is not None for part in cut(one)]
            found += [Slice(len(found) + place, series_id, part) for place, part in enumerate(parts)]
    return found


async def count(connection: Connection, one: Slice, condition: str) -> int:
    """How many readings a slice has. Raises: StorageUnavailable."""
    where = Where(
        series=(one.series_id,),
        time_from_us=one.stretch.from_us,
        time_to_us=one.stretch.to_us,
        belongs=condition,
    )
    await connection.execute(f"set local statement_timeout = {round(COUNT_TIMEOUT_S * 1000)}")
    statement = _COUNT.format(condition=where.condition())
    found: int = await connection.fetchval(statement, timeout=COUNT_TIMEOUT_S)
    return found


async def _stretches(connection: Connection, task: Row) -> list[Stretch]:
    """Times in which the readings lie."""
    if task["scope"] == Scope.ALL:
        return [Stretch(TIME_US_MIN, TIME_US_MAX)]
    sensor_id, session_ids = task["sensor_id"], task["capture_session_ids"]
    ruled = await rulings(connection, sensor_id, session_ids, None, to_us(task["created_at"]))
    named = await store.named_span(connection, sensor_id, session_ids)
    return joined([*(Stretch(one.from_us or TIME_US_MIN, one.to_us) for one in ruled), *([named] if named else [])])


def _bounds(task: Row) -> tuple[int, int]:
    from_us = TIME_US_MIN if task["time_from"] is None else to_us(task["time_from"])
    to_us_max = TIME_US_MAX if task["time_to"] is None else to_us(task["time_to"]) + 1
    return from_us, min(to_us_max, to_us(task["created_at"]))
