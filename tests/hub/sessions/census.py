"""Which readings count to which session, worked out anew in plain Python from the raw rows, to compare with the hub.

Nothing of the hub's own way is used: no SQL but whole tables, no `held_ids`, no notes of late posts. Which way readings
came is known from the sensor: those in `by_post` post for themselves, all others are fed by agents.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg

from hub.database.pool import acquire
from tests.hub.sessions.conftest import Lab

EVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


async def expected(
    lab: Lab, by_post: Collection[str], within: tuple[datetime, datetime] = EVER
) -> dict[str, tuple[set[int], set[int]]]:
    """By session: ids of the readings that count, and of those that belong to it and are held back.

    Args:
        within: times of the readings to look at, the end exclusive.
    """
    async with acquire(lab.hub.services.pool) as connection, connection.transaction(isolation="repeatable_read"):
        readings = await connection.fetch("select * from readings where time >= $1 and time < $2", *within)
        sensor_of = {row["id"]: row["sensor_id"] for row in await connection.fetch("select * from series")}
        sessions = await connection.fetch("select * from capture_sessions")
        windows = await connection.fetch("select * from session_sensors")
        named = await connection.fetch("select * from named_readings")
    posting = {UUID(one) for one in by_post}
    found: dict[str, tuple[set[int], set[int]]] = {str(one["id"]): (set(), set()) for one in sessions}
    session_of = {one["id"]: one for one in sessions}
    for row in readings:
        sensor_id = sensor_of[row["series_id"]]
        session_id = _session_of(row, sensor_id, windows, named)
        if session_id is not None:
            counted, held = found[str(session_id)]
            (held if _is_held(row["id"], sensor_id in posting, session_of[session_id]) else counted).add(row["id"])
    return found


def _session_of(
    row: asyncpg.Record, sensor_id: UUID, windows: list[asyncpg.Record], named: list[asyncpg.Record]
) -> UUID | None:
    names = [one["session_id"] for one in named if one["first_id"] <= row["id"] <= one["last_id"]]
    if names:
        (only,) = names
        return UUID(str(only))
    fitting = [
        one["session_id"]
        for one in windows
        if one["sensor_id"] == sensor_id
        and one["time_from"] <= row["time"]
        and (one["time_to"] is None or row["time"] < one["time_to"])
    ]
    assert len(fitting) <= 1, "windows of one sensor overlap"
    return UUID(str(fitting[0])) if fitting else None


def _is_held(id_: int, is_posted: bool, session: asyncpg.Record) -> bool:
    policy = session["late_rest"] if is_posted else session["late_agents"]
    late = session["late_from_id"] is not None and id_ >= session["late_from_id"]
    return late and policy == "hold" and not any(_within(id_, one) for one in session["late_ids"])


def _within(id_: int, ids: Any) -> bool:
    return (ids.lower is None or id_ >= ids.lower) and (ids.upper is None or id_ < ids.upper)


async def shown(lab: Lab, session_id: str) -> tuple[set[int], set[int]]:
    """The same as the hub's API has it: by query, export and aggregated, which agree."""
    counted = {one["id"] for one in await lab.points(capture_session_id=session_id, limit=20_000)}
    every = {one["id"] for one in await lab.points(capture_session_id=session_id, limit=20_000, include_late=True)}
    answer = await lab.owner.get("/api/v1/telemetry/aggregated", params={"capture_session_id": session_id})
    assert sum(one["sample_count"] for one in answer.json()["buckets"]) == len(counted)
    for late, ids in ((False, counted), (True, every)):
        asked = {"capture_session_id": session_id, "include_late": late, "format": "json"}
        exported = (await lab.owner.get("/api/v1/telemetry/export", params=asked)).json()
        assert {one["id"] for one in exported["points"]} == ids
        assert exported["total"] == len(ids)
    return counted, every - counted


async def require_equal(
    lab: Lab, by_post: Collection[str], sessions: Collection[str], within: tuple[datetime, datetime] = EVER
) -> int:
    """See that the hub shows of these sessions what the raw rows say. Returns: how many readings that are."""
    wanted = await expected(lab, by_post, within)
    for session_id in sessions:
        assert await shown(lab, session_id) == wanted[session_id]
    return sum(len(counted) + len(held) for counted, held in (wanted[one] for one in sessions))
