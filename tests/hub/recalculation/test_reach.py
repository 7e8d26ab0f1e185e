"""Which readings a task of sessions is about, and that what it notes of them claims no others."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hub.recalculation.reach import Reach
from hub.recalculation.rules import Stretch, previous_of
from hub.telemetry.membership import IdRanges

OURS, OTHER = "ours", "other"
NEW = 9


@st.composite
def posts(draw: st.DrawFn) -> list[tuple[str | None, list[int]]]:
    """Posts with the session that they name and their times, all of which differ; ids follow from their order."""
    times = draw(st.lists(st.integers(0, 40), unique=True, min_size=1, max_size=30))
    found = []
    while times:
        size = draw(st.integers(1, len(times)))
        found.append((draw(st.sampled_from([None, OURS, OTHER])), sorted(times[:size])))
        times = times[size:]
    return found


@given(posts(), st.integers(0, 15), st.integers(1, 10), st.integers(1, 10), st.data())
def test_stretches_of_previous_profiles_claim_what_the_task_is_about_and_nothing_else(
    sent: list[tuple[str | None, list[int]]], start: int, length: int, gap: int, data: st.DataObject
) -> None:
    windows = [Stretch(start, start + length), Stretch(start + length + gap, start + 2 * length + gap)]
    readings, named, elsewhere, id_ = [], [], [], 0
    for name, times in sent:
        first, id_ = id_, id_ + len(times)
        within = [any(one.from_us <= at < one.to_us for one in windows) for at in times]
        belongs = within if name is None else [name == OURS] * len(times)
        readings += list(zip(times, range(first, id_), belongs, strict=True))
        whole = any(one.from_us <= times[0] and times[-1] < one.to_us for one in windows)
        if name == OURS and not whole:
            named.append((first, id_))
        if name == OTHER and any(times[0] < one.to_us and times[-1] >= one.from_us for one in windows):
            elsewhere.append((first, id_))
    reach = Reach(windows, IdRanges.of(named), IdRanges.of(elsewhere))
    ours = sorted((at, one) for at, one, belongs in readings if belongs)
    time_us, ids = np.array(ours, np.int64).reshape(-1, 2).T
    profile = np.array(
        data.draw(st.lists(st.sampled_from([1, 2, NEW]), min_size=len(ours), max_size=len(ours))), np.int32
    )
    part = reach.part(time_us, ids)
    runs = previous_of(time_us, ids, profile, np.ones(len(ours), np.bool_), part, ref=NEW)
    had = {one: int(was) for one, was in zip(ids.tolist(), profile, strict=True) if was != NEW}
    claimed = {
        one: [run.profile for run in runs if run.from_us <= at <= run.to_us and run.first_id <= one <= run.last_id]
        for at, one, _ in readings
    }
    assert claimed == {one: [had[one]] if one in had else [] for _, one, _ in readings}
    assert sum(run.readings for run in runs) == len(had)
