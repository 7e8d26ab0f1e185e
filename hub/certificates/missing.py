"""Readings that never come: gap records, as the sensors of a session see them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from hub.certificates import epochs_store
from hub.certificates.subject import Subject
from hub.certificates.views import Missing
from hub.database.pool import Connection


@dataclass(frozen=True, slots=True)
class SensorGap:
    """A gap record as one sensor sees it; `readings` is None where it cannot say how many."""

    row: Any
    readings: int | None


async def gaps_of(connection: Connection, subject: Subject) -> dict[UUID, list[SensorGap]]:
    """Gap records by sensor; one without counts concerns all sensors of its agent."""
    sensors_of = {agent.row["id"]: list(agent.row["sensor_ids"]) for agent in subject.agents}
    found: dict[UUID, list[SensorGap]] = {}
    for row in await epochs_store.gaps(connection, list(sensors_of), *subject.span):
        counted = _by_sensor(row)
        if counted is None:
            counted = dict.fromkeys(sensors_of[row["agent_id"]])
        for sensor_id, readings in counted.items():
            found.setdefault(sensor_id, []).append(SensorGap(row, readings))
    return found


def causes(gaps: Iterable[SensorGap], span: tuple[datetime, datetime]) -> list[Missing]:
    """What a sensor misses of a session that lasted from the first to the second moment, by cause."""
    by_cause: dict[str, list[SensorGap]] = {}
    for gap in gaps:
        by_cause.setdefault(gap.row["cause"], []).append(gap)
    return [
        Missing(
            cause=cause,
            gaps=len(some),
            readings=sum(gap.readings or 0 for gap in some),
            uncounted=sum(gap.readings is None for gap in some),
            time_from=min(gap.row["time_from"] for gap in some),
            time_to=max(gap.row["time_to"] for gap in some),
            reaches_beyond=any(gap.row["time_from"] < span[0] or gap.row["time_to"] > span[1] for gap in some),
        )
        for cause, some in sorted(by_cause.items())
    ]


def _by_sensor(row: Any) -> dict[UUID, int | None] | None:
    """How many readings a gap counts for each sensor, None where it does not say; none for a batch that had none."""
    pairs: list[list[int]] = row["record"].get("counts", [])
    if not pairs:
        return {} if row["readings"] == 0 else None
    names: dict[str, str] = row["names"] or {}
    found: dict[UUID, int | None] = {}
    for ref, readings in pairs:
        sensor_id = names.get(str(ref))
        if sensor_id is not None:
            found[UUID(sensor_id)] = (found.get(UUID(sensor_id)) or 0) + readings
    return found
