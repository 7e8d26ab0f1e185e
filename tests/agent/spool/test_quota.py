from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agent.spool.batch import PendingBatch
from agent.spool.writer import SpoolWriter
from shared import wire
from shared.clock import ManualClock
from shared.errors import SpoolFull
from shared.readings import Columns, Status
from shared.records import Gap
from tests.agent.spool.contents import contents, gaps, numbers
from tests.agent.spool.readings import BEGIN_US, batch, open_spool

QUOTA_BYTES = 256 * 1024


def overfill(spool: SpoolWriter, batches: int = 2000) -> int:
    """Append more than fits. Returns: readings offered."""
    for number in range(batches):
        spool.append([batch(number * 20, 20, series=number % 3 + 1)])
    return batches * 20


def test_oldest_drops_and_says_exactly_what_it_dropped(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, quota_bytes=QUOTA_BYTES, policy="oldest")
    offered = overfill(spool)
    state = spool.state()
    spool.close()
    kept = numbers(tmp_path)
    assert kept == list(range(offered - len(kept), offered)), "the newest, without a hole"
    lost = gaps(tmp_path, "quota_oldest")
    assert sum(gap.readings for gap in lost) == offered - len(kept) == state.dropped_readings
    assert sum(count for gap in lost for _, count in gap.counts) == offered - len(kept)
    assert {ref for gap in lost for ref, _ in gap.counts} == {1, 2, 3}
    assert state.bytes <= QUOTA_BYTES + 8192
    assert len(lost) <= 3, "gap records are joined"


def test_every_seq_is_either_there_or_explained(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, quota_bytes=QUOTA_BYTES, policy="oldest")
    overfill(spool)
    epoch = spool.epoch
    spool.close()
    there = {found.batch.header.seq for found in contents(tmp_path)}
    explained = {
        seq
        for gap in gaps(tmp_path, "quota_oldest")
        for name, first, last in gap.batches
        for seq in range(first, last + 1)
        if name == epoch.hex()
    }
    assert there | explained == set(range(1, max(there) + 1))
    assert not there & explained


def test_block_refuses_until_there_is_room_and_loses_nothing(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, quota_bytes=QUOTA_BYTES, policy="block", retain_acked_s=0.0)
    number = append_until_full(spool)
    before = numbers(tmp_path)
    assert before == list(range(number))
    spool.marks.acknowledge(spool.epoch, 1, 100)
    spool.append([batch(number, 1)])
    spool.close()
    assert numbers(tmp_path)[-1] == number


def append_until_full(spool: SpoolWriter) -> int:
    """Returns: readings that were taken."""
    for number in range(100_000):
        try:
            spool.append([batch(number, 1)])
        except SpoolFull:
            return number
    raise AssertionError("it never fills")


def test_batches_in_flight_are_never_dropped(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, quota_bytes=QUOTA_BYTES, policy="oldest")
    spool.append([batch(number, 1) for number in range(50)])
    flying = [found.id for found in contents(tmp_path) if found.id <= 30]
    drops = spool.hold(flying)
    overfill(spool)
    assert spool.drops > drops
    spool.close()
    assert set(flying) <= {found.id for found in contents(tmp_path)}


def test_acknowledged_batches_go_first(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, quota_bytes=QUOTA_BYTES, policy="oldest", retain_acked_share=0.9)
    spool.append([batch(number * 20, 20) for number in range(500)])
    spool.marks.acknowledge(spool.epoch, 3, 402)
    spool.append([batch(500 * 20 + number * 20, 20) for number in range(350)])
    assert spool.state().dropped_readings == 0
    spool.close()
    assert not gaps(tmp_path, "quota_oldest")


def test_what_an_earlier_epoch_loses_is_counted_by_name(tmp_path: Path) -> None:
    first = open_spool(tmp_path, quota_bytes=QUOTA_BYTES)
    overfill(first, 500)
    first.close()
    second = open_spool(tmp_path, quota_bytes=QUOTA_BYTES)
    overfill(second)
    second.close()
    own = [found for found in contents(tmp_path) if found.batch.header.epoch == second.epoch]
    names = {
        entry.ref: entry.sensor
        for found in own
        if isinstance(found.batch.content, wire.Dictionary)
        for entry in found.batch.content.series
    }
    counted = [gap for found in own if isinstance(gap := found.batch.content, Gap) and gap.cause == "quota_oldest"]
    assert {names[ref] for gap in counted for ref, _ in gap.counts} == {"sensor 1", "sensor 2", "sensor 3"}
    assert any(name == first.epoch.hex() for gap in counted for name, _, _ in gap.batches)


@pytest.mark.parametrize("policy", ["oldest", "thin"])
def test_a_loss_is_told_in_the_time_of_its_own_clock(tmp_path: Path, policy: str) -> None:
    clock = ManualClock(BEGIN_US)
    spool = open_spool(tmp_path, clock=clock, quota_bytes=QUOTA_BYTES, policy=policy)
    for number in range(300):
        spool.append([noisy(number * 20, 20)])
    clock.step_s(-7200)
    for number in range(1200):
        spool.append([noisy(-7_200_000 + number * 20, 20, segment=2)])
    spool.close()
    lost = lost_by_clock(tmp_path, f"quota_{policy}")
    before, after = ((spool.epoch.hex(), segment) for segment in (1, 2))
    assert set(lost) == {before, after}
    assert min(gap.from_us for gap in lost[before]) == BEGIN_US
    assert max(gap.to_us for gap in lost[after]) < BEGIN_US - 7000 * 1_000_000
    offered = 1500 * 20
    assert sum(gap.readings for some in lost.values() for gap in some) == offered - len(numbers(tmp_path))
    assert sum(len(some) for some in lost.values()) <= 6, "those of a clock are joined"


def test_a_loss_of_an_earlier_epoch_is_told_by_that_ones_clock(tmp_path: Path) -> None:
    first = open_spool(tmp_path, quota_bytes=QUOTA_BYTES)
    overfill(first, 300)
    first.close()
    second = open_spool(tmp_path, quota_bytes=QUOTA_BYTES)
    for number in range(1500):
        second.append([batch(3_600_000 + number * 20, 20)])
    second.close()
    lost = lost_by_clock(tmp_path, "quota_oldest")
    assert set(lost) == {(first.epoch.hex(), 1), (second.epoch.hex(), 1)}
    (before,), later = lost[first.epoch.hex(), 1], lost[second.epoch.hex(), 1]
    assert before.to_us < BEGIN_US + 3_600_000_000 <= min(gap.from_us for gap in later)
    assert {epoch for epoch, _, _ in before.batches} >= {first.epoch.hex()}


def lost_by_clock(folder: Path, cause: str) -> dict[tuple[str, int] | None, list[Gap]]:
    """Gap records by the clock in whose time they are."""
    found: dict[tuple[str, int] | None, list[Gap]] = {}
    for gap in gaps(folder, cause):
        found.setdefault(gap.clock, []).append(gap)
    return found


def test_thin_halves_the_oldest_and_leaves_no_hole(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, quota_bytes=QUOTA_BYTES, policy="thin")
    batches = 1500
    for number in range(batches):
        spool.append([noisy(number * 20, 20)])
    state = spool.state()
    spool.close()
    found = [c.batch.content.columns for c in contents(tmp_path) if c.batch.header.kind is wire.Kind.DATA]
    times = np.sort(np.concatenate([columns.timestamp_us for columns in found]))
    offered = batches * 20
    lost = gaps(tmp_path, "quota_thin")
    assert sum(gap.readings for gap in lost) == offered - len(times) == state.dropped_readings
    assert sum(count for gap in lost for _, count in gap.counts) == offered - len(times)
    assert not gaps(tmp_path, "quota_oldest")
    assert times[0] == BEGIN_US, "the first reading of all is still there"
    assert times[-1] == BEGIN_US + (offered - 1) * 1000
    steps = np.diff(times)
    assert steps.max() <= 1000 * 2**5
    assert steps[:100].mean() > steps[-100:].mean(), "the older, the coarser"
    assert state.bytes <= QUOTA_BYTES + 16384


def test_thin_halves_what_is_behind_the_batches_in_flight(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, quota_bytes=QUOTA_BYTES, policy="thin")
    spool.append([noisy(number * 20, 20) for number in range(100)])
    spool.hold([found.id for found in contents(tmp_path)])
    for number in range(100, 1000):
        spool.append([noisy(number * 20, 20)])
    spool.close()
    assert gaps(tmp_path, "quota_thin")
    assert not gaps(tmp_path, "quota_oldest")


def noisy(first: int, count: int, *, segment: int = 1) -> PendingBatch:
    """Readings that hardly compress."""
    number = np.arange(first, first + count)
    columns = Columns(
        np.ones(count, np.uint32),
        BEGIN_US + number * 1000,
        np.random.default_rng(abs(first)).random(count),
        np.full(count, np.nan),
        np.full(count, Status.RAW_ONLY, np.uint8),
        np.zeros(count, np.uint32),
    )
    to_us = BEGIN_US + (first + count - 1) * 1000
    return PendingBatch(
        wire.data_body(columns, derivable=True), count, BEGIN_US + first * 1000, to_us, to_us, segment, 1
    )
