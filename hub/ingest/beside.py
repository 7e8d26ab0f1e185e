"""What is noted beside a group's readings, in their transaction: meta, previous profiles, posts, repeats."""

from __future__ import annotations

import numpy as np

from hub.database.pool import Connection
from hub.ingest import posts, previous, records, repeats, store
from hub.ingest.arrivals import Arrival, Item, Submission
from hub.ingest.copy import Rows
from hub.ingest.judgement import Judgement
from hub.ingest.posts import PostRange
from shared.readings import Int64


async def note_stored(connection: Connection, judgement: Judgement, keep: Int64, rows: Rows) -> None:
    """Note what belongs to readings that were stored.

    Args:
        keep: int64 (n,), which of the judged ones they are.
        rows: these, as they were stored.
    """
    await _keep_previous(connection, judgement, keep, rows)
    await _add_meta(connection, judgement, keep)
    await _note_posts(connection, judgement, keep, rows)


async def note_repeats(connection: Connection, judgement: Judgement, rows: Int64) -> None:
    """Note which of the judged readings, int64 (n,), were there already."""
    judged = judgement.judged
    by_agent = np.array([_is_of_agent(item) for item in judgement.items], np.bool_)
    found = repeats.repeats_of(judged.series_id[rows], judged.time_us[rows], by_agent[judged.part[rows]])
    await repeats.note(connection, found)


async def _keep_previous(connection: Connection, judgement: Judgement, keep: Int64, rows: Rows) -> None:
    """Note what senders had converted readings with that are stored with another profile."""
    judged = judgement.judged
    if judged.replaced[keep].any():
        had = judgement.profiles.refs[judged.replaced[keep]]
        await previous.keep(connection, rows, had, judged.part[keep])


async def _add_meta(connection: Connection, judgement: Judgement, keep: Int64) -> None:
    with_meta = [(part, item.meta) for part, item in judgement.going_in() if isinstance(item, Submission) and item.meta]
    if not with_meta:
        return
    judged, kept = judgement.judged, set(keep.tolist())
    starts = np.searchsorted(judged.part, np.arange(len(judgement.items)))
    metas = [
        (int(judged.series_id[at]), records.moment(int(judged.time_us[at])), meta)
        for part, metas_of in with_meta
        for at, meta in ((int(starts[part]) + row, meta) for row, meta in metas_of)
        if at in kept
    ]
    if metas:
        await store.add_meta(connection, metas)


async def _note_posts(connection: Connection, judgement: Judgement, keep: Int64, rows: Rows) -> None:
    """Note what was posted, for which session, and whether late; what an owner releases only as posted."""
    part_of = judgement.judged.part[keep]
    ranges = []
    for part, item in judgement.going_in():
        if not isinstance(item, Submission) or _is_of_agent(item):
            continue
        first, behind = np.searchsorted(part_of, (part, part + 1)).tolist()
        if first < behind:
            times = rows.time_us[first:behind]
            ids = int(rows.id[first]), int(rows.id[behind - 1])
            span = records.moment(int(times.min())), records.moment(int(times.max()))
            ranges.append(PostRange(*ids, item.sensor_id, item.session_id, *span, item.released_id is not None))
    await posts.note(connection, ranges)


def _is_of_agent(item: Item) -> bool:
    return isinstance(item, Arrival) or item.origin is not None
