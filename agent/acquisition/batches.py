"""From readings that wait to batches: sorted, cut, encoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from agent.acquisition.order import strictly_rising
from agent.spool.batch import PendingBatch
from shared.columns import extremes
from shared.conversion import ProfileTable
from shared.readings import Columns, Int64, UInt32
from shared.wire import data_body

BATCH_READINGS = 1_000


def in_order(parts: Sequence[Columns], latest_us: Int64) -> tuple[Columns, int]:
    """All readings of `parts` sorted by series and time, timestamps rising strictly, and how many of these were moved.

    Args:
        latest_us: see `strictly_rising`.
    """
    columns = parts[0] if len(parts) == 1 else _joined(parts)
    if not _is_sorted(columns.series, columns.timestamp_us):
        columns = columns.rows(np.lexsort((columns.timestamp_us, columns.series)))
    timestamp_us, adjusted = strictly_rising(columns.series, columns.timestamp_us, latest_us)
    return (replace(columns, timestamp_us=timestamp_us) if adjusted else columns), adjusted


def encode_batches(
    columns: Columns, profiles: ProfileTable, *, before_us: int, through_us: int, segment: int, generation: int
) -> list[PendingBatch]:
    """Batches of at most `BATCH_READINGS`; one without readings if there are none.

    Args:
        before_us: through when everything was taken before these.
        through_us: through when everything is taken with the last of these; no earlier one may claim it.
    """
    cuts = list(_cut(columns))
    batches = []
    for place, part in enumerate(cuts):
        taken_us = through_us if place == len(cuts) - 1 else before_us
        from_us, to_us = extremes(part.timestamp_us) if len(part) else (taken_us, taken_us)
        batches.append(
            PendingBatch(
                body=data_body(part, derivable=profiles.derivable(part.profile)),
                readings=len(part),
                from_us=from_us,
                to_us=to_us,
                taken_through_us=taken_us,
                clock_segment=segment,
                generation=generation,
            )
        )
    return batches


def no_readings() -> Columns:
    """Columns of length 0."""
    refs, floats = np.empty(0, np.uint32), np.empty(0)
    return Columns(refs, np.empty(0, np.int64), floats, floats, np.empty(0, np.uint8), refs)


def _cut(columns: Columns) -> Iterator[Columns]:
    if len(columns) <= BATCH_READINGS:
        yield columns
        return
    for start in range(0, len(columns), BATCH_READINGS):
        yield columns.rows(slice(start, start + BATCH_READINGS))


def _joined(parts: Sequence[Columns]) -> Columns:
    return Columns(
        np.concatenate([part.series for part in parts]),
        np.concatenate([part.timestamp_us for part in parts]),
        np.concatenate([part.raw for part in parts]),
        np.concatenate([part.physical for part in parts]),
        np.concatenate([part.status for part in parts]),
        np.concatenate([part.profile for part in parts]),
    )


def _is_sorted(series: UInt32, timestamp_us: Int64) -> bool:
    """Whether they are in order already, as those of a single exchange mostly are."""
    later, same = series[1:] > series[:-1], series[1:] == series[:-1]
    return bool((later | (same & (timestamp_us[1:] >= timestamp_us[:-1]))).all())
