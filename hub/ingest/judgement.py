"""What was decided over the readings of a group, and from whom they come."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hub.ingest.arrivals import Item
from hub.ingest.asides import Source
from hub.ingest.copy import Rows
from hub.ingest.profiles import Profiles
from hub.ingest.verdict import Judged
from shared.readings import Int64


@dataclass(frozen=True, slots=True)
class Judgement:
    """The decision, and what it is about, part by part.

    Attributes:
        places: of the parts, among the group's items.
        items: of the parts.
        sources: where each part comes from.
    """

    places: list[int]
    items: list[Item]
    sources: list[Source]
    judged: Judged
    profiles: Profiles

    def going_in(self) -> list[tuple[int, Item]]:
        """Numbers and items of the parts that are not asked for again."""
        return [(part, item) for part, item in enumerate(self.items) if part not in self.judged.asks]


def rows_of(judged: Judged, keep: Int64 | None, first_id: int, profiles: Profiles) -> Rows:
    """Readings ready to be stored.

    Args:
        keep: int64 (n,), which of the judged ones; None for all.
        first_id: of the first; the others follow.
    """
    if keep is not None and len(keep) < len(judged):
        judged = judged.chosen(keep)
    return Rows(
        judged.series_id.astype(np.int32),
        profiles.refs[judged.profile],
        judged.time_us,
        first_id + np.arange(len(judged), dtype=np.int64),
        judged.raw,
        judged.physical,
        judged.status,
    )
