"""SQL of rulings: what a task decides for readings that are still to come, and what it is about among those that came.

All of it wants the catalogue locked, but for reading: ingest obeys rulings, and must see them come and go whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from hub.database.pool import Connection
from hub.telemetry.moments import to_datetime, to_us

_ADD = """
    insert into profile_rulings (sensor_id, profile_id, task_id, time_from, time_to, session_ids, decided_at)
    values ($1, $2, $3, $4, $5, $6, $7)
"""
_OF_TASK = "select time_from, time_to, session_ids from profile_rulings where task_id = $1 order by id"
_DROP_OVERRULED = """
    delete from profile_rulings o using profile_rulings n
    where n.task_id = $1 and o.sensor_id = n.sensor_id and o.id < n.id and o.time_to <= n.time_to
      and coalesce(o.time_from, '-infinity') >= coalesce(n.time_from, '-infinity')
      and (
            n.session_ids is null
            or o.session_ids = '{}' and n.session_ids = '{}'
            or o.session_ids <> '{}' and o.session_ids <@ n.session_ids
      )
"""
_WITHDRAW = "delete from profile_rulings where task_id = $1"


@dataclass(frozen=True, slots=True)
class Ruling:
    """A stretch of time in which the task's profile holds, whatever was in force; `from_us` None for all before.

    Attributes:
        session_ids: for which readings: None for all; empty for those that name no session; else for posts that name
            one of these.
    """

    from_us: int | None
    to_us: int
    session_ids: tuple[UUID, ...] | None = None


async def add(
    connection: Connection, sensor_id: UUID, profile_id: UUID, task_id: UUID, rulings: Sequence[Ruling], now: datetime
) -> None:
    """Decide. Each ingest transaction is then wholly before, with lower ids, or obeys."""
    for one in rulings:
        since = None if one.from_us is None else to_datetime(one.from_us)
        sessions = None if one.session_ids is None else list(one.session_ids)
        await connection.execute(_ADD, sensor_id, profile_id, task_id, since, to_datetime(one.to_us), sessions, now)


async def of_task(connection: Connection, task_id: UUID) -> list[Ruling]:
    """What an unfinished task has decided."""
    return [
        Ruling(
            None if row["time_from"] is None else to_us(row["time_from"]),
            to_us(row["time_to"]),
            None if row["session_ids"] is None else tuple(row["session_ids"]),
        )
        for row in await connection.fetch(_OF_TASK, task_id)
    ]


async def drop_overruled(connection: Connection, task_id: UUID) -> None:
    """Forget earlier rulings that those of this task cover whole."""
    await connection.execute(_DROP_OVERRULED, task_id)


async def withdraw(connection: Connection, task_id: UUID) -> None:
    """Let what is still to come be converted as if the task had never been."""
    await connection.execute(_WITHDRAW, task_id)
