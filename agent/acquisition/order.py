"""Timestamps of a series rise strictly: two readings never share one, for the hub tells them apart by it."""

from __future__ import annotations

import numpy as np

from shared.readings import Int64, UInt32

NEAR_US = 1_000
"""A reading so little behind the one before it is the same moment told twice; further behind, it is a late one."""


def strictly_rising(series: UInt32, timestamp_us: Int64, latest_us: Int64) -> tuple[Int64, int]:
    """Timestamps moved on by as few microseconds as it takes.

    Within the call no two of a series stay equal. Against what came before, a reading at or less than `NEAR_US` before
    the latest one is moved behind it; one that is further back is late, and keeps its time.

    Args:
        series: uint32 (n,), sorted.
        timestamp_us: int64 (n,), sorted within each series.
        latest_us: int64 (n_series + 1,), by series reference, the latest timestamp before; is brought up to date.

    Returns: int64 (n,), and how many were moved.
    """
    if not len(series):
        return timestamp_us, 0
    before_us = latest_us[series]
    same = series[1:] == series[:-1]
    equal = same & (timestamp_us[1:] == timestamp_us[:-1])
    if (timestamp_us > before_us).all() and not equal.any():
        latest_us[series] = timestamp_us  # of several rows of a series the last one counts
        return timestamp_us, 0
    suspect = (timestamp_us <= before_us) & (timestamp_us > before_us - NEAR_US)
    suspect[1:] |= equal
    risen_us = timestamp_us
    if suspect.any():
        risen_us = timestamp_us.copy()
        for reference in np.unique(series[suspect]):
            rows = slice(*np.searchsorted(series, [reference, reference + 1]).tolist())
            risen_us[rows] = _risen(timestamp_us[rows].tolist(), int(latest_us[reference]))
    last = np.flatnonzero(np.append(~same, True))
    latest_us[series[last]] = np.maximum(latest_us[series[last]], risen_us[last])
    return risen_us, int(np.count_nonzero(risen_us != timestamp_us))


def _risen(timestamps_us: list[int], latest_us: int) -> list[int]:
    risen: list[int] = []
    previous_us = -1
    for timestamp_us in timestamps_us:
        moved_us = max(timestamp_us, previous_us + 1)
        if latest_us - NEAR_US < moved_us <= latest_us:
            moved_us = latest_us + 1
        risen.append(moved_us)
        previous_us = moved_us
    return risen
