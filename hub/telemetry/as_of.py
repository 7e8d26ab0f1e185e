"""Readings as another profile would have them: for recalculation, preview, and reading with `as_of_profile`.

A profile decides over the readings that some profile could have decided over: what a client provided stays as it is,
and so does what failed at the instrument.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from hub.database.pool import Connection, translated
from hub.errors import not_found
from hub.telemetry.scan import TIMEOUT_S, Rows
from shared.conversion import ProfileTable, before_conversion, convertible
from shared.readings import Float64, UInt8

_PROFILE = "select id, ref, sensor_id, kind, payload from conversion_profiles where id = $1"


@dataclass(frozen=True, slots=True)
class Physical:
    """What a profile makes of readings.

    Attributes:
        physical: float64 (n,), NaN where there is none.
        status: uint8 (n,), status bytes.
        decided: bool (n,), over which readings it decides; the others are as they were.
    """

    physical: Float64
    status: UInt8
    decided: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class AsOf:
    """One profile, to look at its sensor's readings with.

    Attributes:
        ref: what readings carry instead of its id.
    """

    profile_id: UUID
    ref: int
    sensor_id: UUID
    table: ProfileTable

    @staticmethod
    def of(row: Mapping[str, Any]) -> AsOf:
        """A row of conversion_profiles. Raises: ProfileError for a payload that does not fit its kind."""
        return AsOf(row["id"], row["ref"], row["sensor_id"], ProfileTable([(row["kind"], row["payload"])]))

    def convert(self, raw: Float64, physical: Float64, status: UInt8) -> Physical:
        """What it makes of these readings.

        Args:
            raw, physical: float64 (n,), NaN where there is none.
            status: uint8 (n,), status bytes.
        """
        decided = convertible(status)
        anew, outcome = self.table.convert(np.ones(len(raw), np.uint32), raw, before_conversion(status))
        return Physical(np.where(decided, anew, physical), np.where(decided, outcome, status), decided)

    def applied(self, rows: Rows, series: Sequence[int]) -> Rows:
        """The rows, those of these series as the profile has them.

        Args:
            series: ids of its sensor's series.
        """
        own = np.isin(rows.series, np.array(series, np.int32))
        found = self.convert(rows.raw, rows.physical, rows.status)
        return replace(
            rows,
            physical=np.where(own, found.physical, rows.physical),
            status=np.where(own, found.status, rows.status),
            profile=np.where(own & found.decided, np.int32(self.ref), rows.profile),
        )


async def load_as_of(connection: Connection, profile_id: UUID) -> AsOf:
    """The profile, whatever its status. Raises: Problem 404; StorageUnavailable."""
    with translated():
        row = await connection.fetchrow(_PROFILE, profile_id, timeout=TIMEOUT_S)
    if row is None:
        raise not_found("conversion profile")
    return AsOf.of(dict(row))
