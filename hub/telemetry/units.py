"""In which units signals are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hub.database.pool import Connection, translated
from hub.telemetry.scan import TIMEOUT_S

_UNITS = """
select x.id, s.input_unit as raw, coalesce(nullif(x.unit, ''), s.display_unit) as physical
from series x join sensors s on s.id = x.sensor_id
where x.id = any($1::int[])
"""


@dataclass(frozen=True, slots=True)
class Units:
    """Of the raw and of the physical values of a signal; empty where nobody said."""

    raw: str
    physical: str


NO_UNITS = Units("", "")


async def units_of(connection: Connection, series: Sequence[int]) -> dict[int, Units]:
    """By series. Raises: StorageUnavailable."""
    with translated():
        found = await connection.fetch(_UNITS, list(series), timeout=TIMEOUT_S)
    return {row["id"]: Units(row["raw"], row["physical"]) for row in found}
