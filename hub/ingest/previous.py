"""Profiles that agents had converted readings with, where another was in force: noted beside the readings.

Rare: an agent was away while a profile was published, or a recalculation has ruled for the time. One row a run of
readings of one batch and series.
"""

from __future__ import annotations

import numpy as np

from hub.database.pool import Connection
from hub.ingest.copy import Int32, Rows
from hub.ingest.records import moment
from shared.readings import Int64

_KEEP = """
insert into previous_profiles
    (series_id, time_from, time_to, first_id, last_id, readings, profile, replaced_at)
select p.*, now() from unnest($1::integer[], $2::timestamptz[], $3::timestamptz[], $4::bigint[], $5::bigint[],
                              $6::integer[], $7::integer[]) as p
"""


async def keep(connection: Connection, rows: Rows, had: Int32, part: Int64) -> None:
    """Note what readings had, in the group's transaction.

    Args:
        rows: that are stored.
        had: int32 (n,), `conversion_profiles.ref` of what they were converted with, 0 where that was kept.
        part: int64 (n,), which batch each row is of.
    """
    ends = np.flatnonzero((np.diff(rows.series_id) != 0) | (np.diff(had) != 0) | (np.diff(part) != 0))
    starts = np.append(0, ends + 1)
    ends = np.append(ends, len(rows) - 1)
    noted = np.flatnonzero(had[starts] != 0)
    starts, ends = starts[noted], ends[noted]
    await connection.execute(
        _KEEP,
        rows.series_id[starts].tolist(),
        [moment(at) for at in rows.time_us[starts].tolist()],
        [moment(at) for at in rows.time_us[ends].tolist()],
        rows.id[starts].tolist(),
        rows.id[ends].tolist(),
        (ends - starts + 1).tolist(),
        had[starts].tolist(),
    )
