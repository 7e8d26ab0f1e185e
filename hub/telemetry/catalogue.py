"""What the numbers in stored readings stand for: series by their id, profiles by their reference.

Both are fixed once made (a deleted series' id is never used again), so what was learnt stays true and is kept for as
long as the hub runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np

from hub.database.pool import Connection, translated
from hub.telemetry.scan import TIMEOUT_S, Rows

_SERIES = """
select series.id, series.sensor_id, sensors.project_id, series.signal
from series join sensors on sensors.id = series.sensor_id
where series.id = any($1::int[])
"""
_SERIES_OF_SENSORS = """
select series.id, series.sensor_id, sensors.project_id, series.signal
from series join sensors on sensors.id = series.sensor_id
where series.sensor_id = any($1::uuid[]) and ($2::text[] is null or series.signal = any($2))
order by series.id
"""
_PROFILES = "select ref, id from conversion_profiles where ref = any($1::int[])"


@dataclass(frozen=True, slots=True)
class Series:
    """One signal of one sensor."""

    id: int
    sensor_id: UUID
    project_id: UUID
    signal: str


class Catalogue:
    """Series and profiles that were met so far."""

    def __init__(self) -> None:
        self.series: dict[int, Series] = {}
        self.profiles: dict[int, UUID] = {}

    async def learn(self, connection: Connection, rows: Rows) -> None:
        """Know what these rows refer to, but for series that were deleted. Raises: StorageUnavailable."""
        series = [ref for ref in np.unique(rows.series).tolist() if ref not in self.series]
        profiles = [ref for ref in np.unique(rows.profile).tolist() if ref and ref not in self.profiles]
        with translated():
            if series:
                self._add(await connection.fetch(_SERIES, series, timeout=TIMEOUT_S))
            if profiles:
                found = await connection.fetch(_PROFILES, profiles, timeout=TIMEOUT_S)
                self.profiles.update((record["ref"], record["id"]) for record in found)

    async def series_of(
        self, connection: Connection, sensor_ids: Iterable[UUID], signals: Sequence[str] | None = None
    ) -> list[Series]:
        """The series of these sensors, all or those of these signals. Raises: StorageUnavailable."""
        with translated():
            found = await connection.fetch(_SERIES_OF_SENSORS, list(sensor_ids), signals, timeout=TIMEOUT_S)
        self._add(found)
        return [self.series[record["id"]] for record in found]

    def _add(self, found: Sequence[Any]) -> None:
        for record in found:
            series = Series(record["id"], record["sensor_id"], record["project_id"], record["signal"])
            self.series[series.id] = series
