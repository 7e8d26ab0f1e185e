"""Which readings a task is about, and in which slices it goes through them."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from hub.database.partitions import TIME_US_MIN
from hub.database.pool import Connection
from hub.recalculation import reach_store
from hub.recalculation.reach import Reach
from hub.recalculation.rules import Scope, Stretch, cut, joined
from hub.recalculation.rulings import Ruling, of_task
from hub.recalculation.store import Row, Slice
from hub.telemetry.buckets import extent_of
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
    if from_us is not None and from_us >= to_us_max:
        return []
    if not session_ids:
        return [Ruling(from_us, to_us_max)]
    windows = []
    for row in await reach_store.session_windows(connection, sensor_id, session_ids):
        end_us = until_us if row["time_to"] is None else to_us(row["time_to"])
        stretch = Stretch(to_us(row["time_from"]), max(to_us(row["time_from"]), end_us))
        windows.append(stretch.within(from_us, to_us_max))
    by_time = [Ruling(one.from_us, one.to_us, ()) for one in joined(one for one in windows if one is not None)]
    return [*by_time, Ruling(from_us, to_us_max, tuple(session_ids))]


async def reach(connection: Connection, task: Row) -> Reach | None:
    """Which readings in its stretches a task is about; None for all. Raises: StorageUnavailable."""
    if task["scope"] == Scope.ALL:
        return None
    ruled = await of_task(connection, task["id"])
    windows = [_stretch(one) for one in ruled if one.session_ids == ()]
    return await reach_store.reach(
        connection, task["sensor_id"], task["capture_session_ids"], windows, task["before_id"]
    )


async def slices(connection: Connection, task: Row) -> list[Slice]:
    """All that there is to go through: nothing from after the task was made. Raises: StorageUnavailable."""
    wanted = await _stretches(connection, task)
    found: list[Slice] = []
    for series_id in await reach_store.series(connection, task["sensor_id"]):
        extent = await extent_of(connection, [series_id])
        if extent is not None:
            within = [one.within(extent.from_us, extent.to_us) for one in wanted]
            parts = [part for one in within if one is not None for part in cut(one)]
            found += [Slice(len(found) + place, series_id, part) for place, part in enumerate(parts)]
    return found


async def count(connection: Connection, one: Slice, condition: str, before_id: int) -> int:
    """How many readings a slice has that are older than the task. Raises: StorageUnavailable."""
    where = Where(
        series=(one.series_id,),
        id_to=before_id,
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
    found = []
    for one in await of_task(connection, task["id"]):
        within: Stretch | None = _stretch(one)
        if one.session_ids:
            span = await reach_store.named_span(connection, task["sensor_id"], one.session_ids, task["before_id"])
            within = span and span.within(one.from_us, one.to_us)
        if within is not None:
            found.append(within)
    return joined(found)


def _stretch(ruling: Ruling) -> Stretch:
    return Stretch(TIME_US_MIN if ruling.from_us is None else ruling.from_us, ruling.to_us)
