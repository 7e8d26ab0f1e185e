"""What is said of readings beside their columns: meta of their own, and when they came in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hub.database.pool import Connection, translated
from hub.telemetry.catalogue import Catalogue
from hub.telemetry.membership import Membership, of_sensors
from hub.telemetry.scan import TIMEOUT_S, Rows

Metas = dict[tuple[int, int], dict[str, Any]]

BLOCK_BITS = 14
"""A block has 2¹⁴ ids: `id >> BLOCK_BITS` is the block that a reading's id was drawn in."""

_METAS = """
select k.series_id, k.time_us, m.meta
from unnest($1::int[], $2::bigint[]) k(series_id, time_us)
join reading_meta m
  on m.series_id = k.series_id and m.time = timestamptz 'epoch' + k.time_us * interval '1 microsecond'
"""
_INGESTED = """
select k.block,
       (select (extract(epoch from c.at) * 1000000)::bigint
        from reading_clock c where c.block <= k.block order by c.block desc limit 1) as at_us
from unnest($1::bigint[]) k(block)
"""


@dataclass(frozen=True, slots=True)
class Extras:
    """Beside the columns of some rows.

    Attributes:
        metas: of the readings that have meta of their own, by (series, time_us).
        ingested_us: by block, when its readings came in; UTC microseconds, exact to a second.
        memberships: of all sessions that may have some of the rows.
    """

    metas: Metas = field(default_factory=dict)
    ingested_us: dict[int, int] = field(default_factory=dict)
    memberships: Sequence[Membership] = ()


async def extras(connection: Connection, rows: Rows, catalogue: Catalogue) -> Extras:
    """All that is known of these rows, of which the catalogue has learnt. Raises: StorageUnavailable."""
    if not len(rows):
        return Extras()
    sensors = {one.sensor_id for one in map(catalogue.series.get, np.unique(rows.series).tolist()) if one}
    span_us = int(rows.time_us.min()), int(rows.time_us.max()) + 1
    memberships = await of_sensors(connection, sensors, *span_us)
    return Extras(await metas(connection, rows), await _ingested(connection, rows), memberships)


async def metas(connection: Connection, rows: Rows) -> Metas:
    """The meta of those rows that have some. Raises: StorageUnavailable."""
    which = np.flatnonzero(rows.has_meta)
    if not len(which):
        return {}
    keys = rows.series[which].tolist(), rows.time_us[which].tolist()
    with translated():
        found = await connection.fetch(_METAS, *keys, timeout=TIMEOUT_S)
    return {(record["series_id"], record["time_us"]): record["meta"] for record in found}


async def _ingested(connection: Connection, rows: Rows) -> dict[int, int]:
    with translated():
        found = await connection.fetch(_INGESTED, np.unique(rows.id >> BLOCK_BITS).tolist(), timeout=TIMEOUT_S)
    return {record["block"]: record["at_us"] for record in found if record["at_us"] is not None}
