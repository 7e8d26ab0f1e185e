"""What a group sets aside, grouped into the rows of the table: one a series, batch, reason and profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np

from hub.ingest.arrivals import Origin
from hub.ingest.dictionary import Verdict
from hub.ingest.store import Aside
from hub.ingest.verdict import Judged, Part
from shared.readings import Int64


@dataclass(frozen=True, slots=True)
class Source:
    """Where a part comes from; a post has no agent, epoch, seq and clock segment."""

    part: Part
    agent_id: UUID | None = None
    epoch_id: int | None = None
    seq: int | None = None
    segment: int | None = None
    correction_us: int = 0

    @staticmethod
    def of_post(part: Part, origin: Origin | None) -> Source:
        """That of a post, or of readings that an owner releases: where they had come from."""
        if origin is None:
            return Source(part)
        return Source(part, origin.agent_id, origin.epoch_id, origin.seq, origin.segment, origin.correction_us)


def asides_of(judged: Judged, sources: Sequence[Source], profile_ids: Sequence[UUID | None]) -> list[Aside]:
    """The rows to set aside.

    Args:
        sources: where each part comes from.
        profile_ids: by place in the hub's `ProfileTable`.
    """
    rows = np.flatnonzero(judged.verdict != Verdict.STORE)
    if not len(rows):
        return []
    keys = np.stack((judged.part[rows], judged.slot[rows], judged.verdict[rows], judged.profile[rows]), axis=1)
    order = np.lexsort(keys.T[::-1])
    ordered, keys = rows[order], keys[order]
    starts = np.flatnonzero(np.concatenate(([True], (keys[1:] != keys[:-1]).any(axis=1))))
    ends = [*starts[1:].tolist(), len(ordered)]
    return [
        _aside(judged, ordered[start:end], sources, profile_ids)
        for start, end in zip(starts.tolist(), ends, strict=True)
    ]


def _aside(judged: Judged, rows: Int64, sources: Sequence[Source], profile_ids: Sequence[UUID | None]) -> Aside:
    first = int(rows[0])
    source = sources[int(judged.part[first])]
    slot = source.part.dictionary.slots[int(judged.slot[first])]
    return Aside(
        slot.project_id,
        source.agent_id,
        source.epoch_id,
        source.seq,
        slot.sensor_id,
        slot.sensor_name,
        slot.signal,
        Verdict(int(judged.verdict[first])).label,
        judged.time_us[rows].tolist(),
        judged.raw[rows],
        judged.physical[rows],
        judged.status[rows].tolist(),
        profile_ids[int(judged.profile[first])],
        segment=source.segment,
        correction_us=source.correction_us,
    )
