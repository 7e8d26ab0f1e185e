"""Which profile each reading must have, and which it must have had before, worked out in plain Python from raw rows.

Nothing of the hub's own way is used: no rulings, no slices, no ranges of ids but those of named posts. What was
decided is told by the test, which knows in what order it stopped sessions and asked for recalculations.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hub.database.pool import acquire
from hub.telemetry.aggregate import fold_dirty
from shared.readings import Status
from tests.hub.sessions.conftest import Lab

Window = tuple[datetime, datetime | None]
Had = tuple[str | None, str]
"""The task that replaced a profile, None where the reading came with it, and that profile."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A recalculation as it was asked for.

    Attributes:
        windows: of its sessions as they were then; None where it is for all readings.
        time_from, time_to: both included.
    """

    task_id: str
    profile_id: str
    windows: dict[str, Window] | None
    time_from: datetime
    time_to: datetime


@dataclass(frozen=True, slots=True)
class Taken:
    """A reading as it lies in the database, and what is known of how it came."""

    id: int
    time: datetime
    raw: float
    physical: float | None
    status: Status
    profile_id: str | None
    session_id: str | None


async def taken(lab: Lab, sensor: str, time_from: datetime, time_to: datetime) -> list[Taken]:
    """All readings of a sensor in a range of time."""
    async with acquire(lab.hub.services.pool) as connection, connection.transaction(isolation="repeatable_read"):
        refs = {row["ref"]: str(row["id"]) for row in await connection.fetch("select * from conversion_profiles")}
        series = [
            row["id"] for row in await connection.fetch("select * from series where sensor_id = $1", UUID(sensor))
        ]
        named = await connection.fetch("select * from named_readings")
        rows = await connection.fetch(
            "select * from readings where series_id = any($1) and time >= $2 and time < $3", series, time_from, time_to
        )
    return [
        Taken(
            row["id"],
            row["time"],
            row["raw"],
            row["physical"],
            Status(row["status"] & 0x0F),
            refs.get(row["profile"]),
            next((str(one["session_id"]) for one in named if one["first_id"] <= row["id"] <= one["last_id"]), None),
        )
        for row in rows
    ]


async def made(lab: Lab, decisions: Sequence[Decision]) -> list[tuple[Decision, int, datetime]]:
    """The decisions in the order in which they were made, with the first id that came after each and its moment."""
    told = {one.task_id: one for one in decisions}
    async with acquire(lab.hub.services.pool) as connection:
        rows = await connection.fetch(
            "select * from backfill_tasks where id = any($1) order by id", [UUID(one) for one in told]
        )
    assert {row["status"] for row in rows} == {"succeeded"}, [(row["status"], row["error"]) for row in rows]
    return [(told[str(row["id"])], row["before_id"], row["created_at"]) for row in rows]


def is_about(decision: Decision, one: Taken, moment: datetime) -> bool:
    """Whether a decision of that moment is about a reading."""
    if not decision.time_from <= one.time <= decision.time_to or one.time >= moment:
        return False
    if decision.windows is None:
        return True
    if one.session_id is not None:
        return one.session_id in decision.windows
    return any(first <= one.time and (end is None or one.time < end) for first, end in decision.windows.values())


def history(
    one: Taken, decisions: Sequence[tuple[Decision, int, datetime]], base: str, sent: Collection[datetime]
) -> tuple[str, list[Had]]:
    """The profile that a reading must have, and those that it had, in order.

    Args:
        base: the profile that is in force where nothing was decided.
        sent: times of readings that had been converted with it before they came.
    """
    about = [(decision, before_id) for decision, before_id, moment in decisions if is_about(decision, one, moment)]
    ruled = [decision.profile_id for decision, before_id in about if before_id <= one.id]
    profile = ruled[-1] if ruled else base
    had: list[Had] = [(None, base)] if one.time in sent and profile != base else []
    for decision, before_id in about:
        if one.id < before_id and profile != decision.profile_id:
            had.append((decision.task_id, profile))
            profile = decision.profile_id
    return profile, had


async def told_before(lab: Lab, sensor: str, time_from: datetime, time_to: datetime) -> list[dict[str, Any]]:
    """All stretches of previous profiles that the hub shows of a range of time."""
    found: list[dict[str, Any]] = []
    while True:
        asked = {"time_from": time_from.isoformat(), "time_to": time_to.isoformat(), "limit": 100, "offset": len(found)}
        answer = await lab.owner.get(f"/api/v1/sensors/{sensor}/previous-profiles", params=asked)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += page["previous_profiles"]
        if len(found) >= page["total"]:
            return found


def claimed(one: Taken, stretches: Sequence[dict[str, Any]]) -> list[Had]:
    """What these stretches say that a reading had."""
    return [
        (stretch["backfill_task_id"], stretch["conversion_profile_id"])
        for stretch in stretches
        if stretch["first_id"] <= one.id <= stretch["last_id"]
        and datetime.fromisoformat(stretch["time_from"]) <= one.time <= datetime.fromisoformat(stretch["time_to"])
    ]


async def require_sums(lab: Lab) -> None:
    """See that what is kept by the minute is what the readings say."""
    pool = lab.hub.services.pool
    while await fold_dirty(pool, datetime.now(UTC) + timedelta(days=1)):
        pass
    async with acquire(pool) as connection:
        kept = await connection.fetch("select series_id, bucket, sample_count, sum_physical from aggregates_1m")
        fresh = await connection.fetch(
            "select series_id, date_trunc('minute', time) as bucket, count(*) as sample_count, "
            "sum(physical) as sum_physical from readings group by 1, 2"
        )
    sums = {(row["series_id"], row["bucket"]): (row["sample_count"], row["sum_physical"]) for row in fresh}
    assert {(row["series_id"], row["bucket"]) for row in kept} == set(sums)
    for row in kept:
        count, total = sums[row["series_id"], row["bucket"]]
        assert row["sample_count"] == count
        assert math.isclose(row["sum_physical"], total, rel_tol=1e-12)
