"""Readings that were set aside: listed, sent through the write path again, or given up. By people, never by itself.

Releasing makes a post of the readings and hands it to the writer like any other: the sensors' present state, profiles,
uniqueness and bounds decide anew. The transaction that stores them (or sets them aside again, with today's reason)
removes the old row. So nothing is lost between the two, and a release that is repeated finds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import asyncpg
import numpy as np

from hub.database.pool import Connection
from hub.ingest.arrivals import Origin, Outcome, Submission
from shared.readings import Columns, Reason, Status, status_byte

if TYPE_CHECKING:
    Row: TypeAlias = asyncpg.Record
else:
    Row = asyncpg.Record

_CONVERSIONS = (
    int(Status.CONVERTED),
    status_byte(Status.CONVERSION_FAILED, Reason.CONVERSION_OVERFLOW),
    status_byte(Status.CONVERSION_FAILED, Reason.CONVERSION_DOMAIN),
)
_FILTER = """
from set_aside a
where a.project_id = $1 and ($2::text is null or a.reason = $2) and ($3::uuid is null or a.sensor_id = $3)
"""
_PAGE = f"""
select a.id, a.project_id, a.agent_id, a.epoch_id, a.seq, a.sensor_id, a.sensor_name, a.signal, a.reason, a.detail,
       a.readings, a.time_from, a.time_to, a.clock_segment, a.correction_us, a.created_at
{_FILTER} order by a.id desc limit $4 offset $5
"""
_COUNT = f"select count(*) {_FILTER}"
_ONE = "select a.* from set_aside a where a.id = $1"
_SENSOR = """
select s.id from set_aside a
left join agent_bindings b on b.agent_id = a.agent_id and b.sensor_name = a.sensor_name and b.state = 'bound'
join sensors s on s.project_id = a.project_id
    and (s.id = a.sensor_id or s.id = b.sensor_id or lower(s.name) = lower(a.sensor_name))
where a.id = $1
order by s.id = a.sensor_id desc nulls last, s.id = b.sensor_id desc nulls last limit 1
"""
_CORRECTION = "select correction_us from clock_corrections where epoch_id = $1 and segment = $2"
_DISCARD = "delete from set_aside where id = $1 returning id"
_DECISION = """
insert into set_aside_decisions (set_aside_id, project_id, action, sensor_name, signal, was, readings, time_from,
                                 time_to, stored, repeated, set_aside_again, reason, decided_by, sensor_id, by_agent,
                                 timestamps_us)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
"""


NONE = Outcome(0)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person did with a row, for the audit.

    Attributes:
        action: `released` or `discarded`.
        outcome: of a release.
    """

    action: str
    decided_by: UUID
    reason: str = ""
    outcome: Outcome = NONE


async def page(
    connection: Connection, project_id: UUID, reason: str | None, sensor_id: UUID | None, limit: int, offset: int
) -> tuple[list[Row], int]:
    """A project's rows without their readings, newest first, and how many there are."""
    rows = await connection.fetch(_PAGE, project_id, reason, sensor_id, limit, offset)
    total: int = await connection.fetchval(_COUNT, project_id, reason, sensor_id)
    return rows, total


async def one(connection: Connection, aside_id: int) -> Row | None:
    """One row with its readings."""
    return await connection.fetchrow(_ONE, aside_id)


async def sensor_of(connection: Connection, aside_id: int) -> UUID | None:
    """Whose readings they are by now: the sensor they were for, the one bound to its name, or one of that name."""
    found: UUID | None = await connection.fetchval(_SENSOR, aside_id)
    return found


async def correction_of(connection: Connection, epoch_id: int, segment: int) -> int | None:
    """What has been decided for a clock segment, None if nothing."""
    found: int | None = await connection.fetchval(_CORRECTION, epoch_id, segment)
    return found


async def discard(connection: Connection, aside_id: int) -> bool:
    """Give the readings up. Returns: whether they were still there."""
    return await connection.fetchval(_DISCARD, aside_id) is not None


async def note(connection: Connection, row: Row, decision: Decision) -> None:
    """Write down who did what."""
    await connection.execute(
        _DECISION,
        row["id"],
        row["project_id"],
        decision.action,
        row["sensor_name"],
        row["signal"],
        row["reason"],
        row["readings"],
        row["time_from"],
        row["time_to"],
        decision.outcome.new,
        decision.outcome.repeated,
        decision.outcome.set_aside,
        decision.reason,
        decision.decided_by,
        row["sensor_id"],
        row["agent_id"] is not None,
        row["timestamps_us"] if decision.action == "discarded" else [],
    )


def submission_of(row: Row, sensor_id: UUID, correction_us: int) -> Submission:
    """The readings as a post, to be converted anew.

    Args:
        correction_us: to be added to their times.
    """
    times = np.array(row["timestamps_us"], np.int64) + correction_us
    order = np.argsort(times, kind="stable")
    status = np.array(row["status"], np.uint8)
    converted = np.isin(status, np.array(_CONVERSIONS, np.uint8))
    physical = np.where(converted, np.nan, _column(row["physical"]))
    columns = Columns(
        np.ones(len(times), np.uint32),
        times[order],
        _column(row["raw"])[order],
        physical[order],
        np.where(converted, np.uint8(Status.RAW_ONLY), status)[order],
        np.zeros(len(times), np.uint32),
    )
    meta = tuple((place, row["meta"]) for place in range(len(times))) if row["meta"] else ()
    origin = _origin(row, correction_us)
    return Submission(sensor_id, (row["signal"],), columns, meta, released_id=row["id"], origin=origin)


def _origin(row: Row, correction_us: int) -> Origin | None:
    if row["agent_id"] is None:
        return None
    added_us = row["correction_us"] + correction_us
    return Origin(row["agent_id"], row["epoch_id"], row["seq"], row["clock_segment"], added_us)


def _column(values: list[float | None]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([np.nan if value is None else value for value in values], np.float64)
