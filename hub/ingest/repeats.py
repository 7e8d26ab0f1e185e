"""Readings that were stored already, noted as they are met, so that a certificate can count them.

Rare: a batch that was relabelled, a client that posts again what it posted before. A batch that the ledger knows by its
identity is not looked at reading by reading and is no repeat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hub.database.pool import Connection
from hub.ingest.records import moment
from shared.readings import Int64

_NOTE = """
insert into repeated_readings (series_id, by_agent, time_from, time_to, timestamps_us) values ($1, $2, $3, $4, $5)
"""


@dataclass(frozen=True, slots=True)
class Repeats:
    """Repeated readings of one series.

    Attributes:
        by_agent: whether an agent sent them, or a post.
        timestamps_us: corrected, rising.
    """

    series_id: int
    by_agent: bool
    timestamps_us: list[int]


def repeats_of(series_id: Int64, time_us: Int64, by_agent: NDArray[np.bool_]) -> list[Repeats]:
    """Repeated readings by series and way.

    Args:
        series_id, time_us: int64 (n,), of the readings.
        by_agent: bool (n,).
    """
    found: dict[tuple[int, bool], list[int]] = {}
    for series, at_us, agent in zip(series_id.tolist(), time_us.tolist(), by_agent.tolist(), strict=True):
        found.setdefault((series, agent), []).append(at_us)
    return [Repeats(series, agent, sorted(times)) for (series, agent), times in found.items()]


async def note(connection: Connection, repeats: Sequence[Repeats]) -> None:
    """Note them, in the transaction that met them."""
    records = [
        (one.series_id, one.by_agent, moment(one.timestamps_us[0]), moment(one.timestamps_us[-1]), one.timestamps_us)
        for one in repeats
    ]
    await connection.executemany(_NOTE, records)
