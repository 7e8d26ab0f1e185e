"""The collector: everything that is handed over is committed, once, converted, in order."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from uuid import UUID

import numpy as np
import pytest

from agent.acquisition.batches import BATCH_READINGS
from agent.acquisition.collect import IDLE_BATCH_S, LIVE_INTERVAL_S, Collector
from agent.acquisition.convert import Converter
from agent.acquisition.intake import LISTENING_LAG_US, Arrival, Intake
from agent.acquisition.latest import Latest
from agent.acquisition.profiles import ProfileStore
from agent.acquisition.roster import Roster
from agent.spool.batch import PendingBatch
from drivers.api import Point
from shared.clock import AnchoredClock, Clock, ManualClock
from shared.columns import physical_digest
from shared.errors import SpoolFull, SpoolUnavailable
from shared.messages import Binding, CaptureWindow, Config, Profile
from shared.readings import Reason, Samples, Status, status_byte
from tests.agent.acquisition.fakes import FakeLive, FakeSpool, Meter, samples

GAUGE = Meter("gauge", (Point("flow", "gauge.flow", unit="L/min"), Point("temp", "gauge.temp")))
SCALE = Meter("scale", (Point("mass", "scale.mass"),), bus="other")
LINEAR = Profile(UUID(int=1), "1", "linear", {"a": 2.0, "b": 1.0})
LATER = Profile(UUID(int=2), "2", "polynomial", {"coefficients": [0.0, 0.0, 1.0]})


@dataclass
class Line:
    """A collector and what it stands between, moved by hand."""

    path: Path
    clock: Clock
    spool: FakeSpool = field(default_factory=FakeSpool)
    live: FakeLive = field(default_factory=FakeLive)

    def __post_init__(self) -> None:
        self.intake = Intake(10_000, self.clock)
        self.roster = Roster([GAUGE, SCALE])
        self.store = ProfileStore(self.path / "configuration.json")
        self.latest = Latest(self.roster.series)
        self.converter = Converter(self.store, self.roster.series)
        self.collector = Collector(
            self.intake,
            self.roster,
            self.converter,
            self.latest,
            self.spool,
            self.live,
            self.clock,
            stop_s=0.2,
        )

    def arrive(self, device: int, some: Samples, flush_s: float = 0.2) -> Future[None]:
        done: Future[None] = Future()
        self.poll(device, some, flush_s, done)
        return done

    def poll(self, device: int, some: Samples, flush_s: float = 0.2, done: Future[None] | None = None) -> None:
        self.intake.offer(Arrival(device, some, self.clock.segment, self.clock.monotonic_s() + flush_s, done))

    def configure(
        self, *profiles: Profile, sensor: str = "gauge.flow", generation: int = 1, running: bool = False
    ) -> None:
        windows = [CaptureWindow(UUID(int=9), [sensor], 0)] if running else []
        self.store.apply(Config(generation, generation, [Binding(sensor, profiles=list(profiles))], windows))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def line(tmp_path: Path, clock: ManualClock) -> Line:
    return Line(tmp_path, clock)


def pass_time(line: Line, clock: ManualClock, seconds: float) -> None:
    """Let the collector do what it would within that time."""
    line.intake.put(
        Arrival(0, Samples.empty(), clock.segment, 0.0), abandoned=lambda: True
    )  # so that nothing is waited for
    clock.advance_s(seconds)
    line.collector.step()


def test_readings_wait_for_others_until_the_first_is_due_and_are_shown_before(line: Line, clock: ManualClock) -> None:
    first = line.arrive(0, samples([1], clock.now_us(), [20.0]), flush_s=1.0)
    line.collector.step()
    assert line.live.shown[0].raw.tolist() == [20.0]
    assert not line.spool.batches
    assert line.collector.state.waiting == 1
    second = line.arrive(1, samples([0], clock.now_us(), [5.0]), flush_s=0.5)
    clock.advance_s(0.5)
    line.collector.step()
    assert first.done()
    assert second.done()
    assert [(row[0], row[2]) for row in line.spool.rows] == [(2, 20.0), (3, 5.0)]
    assert line.spool.commits == [1]
    assert line.collector.state.taken == 2
    assert line.collector.state.waiting == 0


def test_what_comes_soon_after_others_is_shown_as_its_batch_is_due(tmp_path: Path) -> None:
    line = Line(tmp_path, AnchoredClock())
    for taken in (1, 2):
        line.arrive(0, samples([1], line.clock.now_us(), [20.0]), flush_s=0.001)
        while line.collector.state.taken < taken:
            line.collector.step()
        assert len(line.live.shown) == taken


def test_the_dictionary_is_declared_before_the_first_batch_and_only_once(line: Line, clock: ManualClock) -> None:
    line.configure(LINEAR)
    for _ in range(2):
        line.arrive(0, samples([0], clock.now_us(), [1.0]))
        clock.advance_s(1)
        line.collector.step()
    assert [(s.ref, s.sensor, s.unit) for s in line.spool.series] == [
        (1, "gauge.flow", "L/min"),
        (2, "gauge.temp", ""),
        (3, "scale.mass", ""),
    ]
    assert [(p.ref, p.profile_id) for p in line.spool.profiles] == [(1, LINEAR.id)]


@pytest.mark.parametrize("state", ["decommissioned", "deleted"])
def test_nothing_is_taken_of_a_sensor_out_of_service_until_it_is_back(
    line: Line, clock: ManualClock, state: Literal["decommissioned", "deleted"]
) -> None:
    def poll(raw: float) -> None:
        line.poll(0, samples([0, 1], clock.now_us(), [raw, -raw]))
        clock.advance_s(1)
        line.collector.step()

    poll(1.0)
    line.store.apply(Config(1, 1, [Binding("gauge.flow", state=state), Binding("gauge.temp")]))
    poll(2.0)
    assert line.live.shown[-1].series.tolist() == [2]
    line.store.apply(Config(2, 2, [Binding("gauge.flow", state=state), Binding("gauge.temp", state=state)]))
    poll(3.0)
    line.store.apply(Config(3, 3, [Binding("gauge.flow"), Binding("gauge.temp", state=state)]))
    poll(4.0)
    assert [(row[0], row[2]) for row in line.spool.rows] == [(1, 1.0), (2, -1.0), (2, -2.0), (1, 4.0)]
    assert (line.collector.state.taken, line.collector.state.unwanted) == (4, 4)


def test_what_somebody_is_told_is_taken_is_taken_also_of_a_sensor_out_of_service(
    line: Line, clock: ManualClock
) -> None:
    line.store.apply(Config(1, 1, [Binding("gauge.flow", state="decommissioned")]))
    line.poll(0, samples([0], clock.now_us(), [1.0]))
    told = line.arrive(0, samples([0, 1], clock.now_us() + 1, [2.0, 3.0]))
    clock.advance_s(1)
    line.collector.step()
    assert told.done()
    assert [row[2] for row in line.spool.rows] == [2.0, 3.0]
    assert line.collector.state.unwanted == 1


def test_a_sensor_beyond_what_the_hub_takes_is_read_all_the_same(line: Line, clock: ManualClock) -> None:
    line.store.apply(Config(1, 1, [Binding("gauge.flow", state="refused")]))
    line.arrive(0, samples([0], clock.now_us(), [1.0]))
    clock.advance_s(1)
    line.collector.step()
    assert [row[2] for row in line.spool.rows] == [1.0], "an owner may want it yet"


def test_a_thousand_readings_do_not_wait_and_more_are_cut(line: Line, clock: ManualClock) -> None:
    n = 2 * BATCH_READINGS + 500
    line.arrive(0, samples([0] * n, clock.now_us() + np.arange(n), np.arange(n).astype(float)), flush_s=60.0)
    line.collector.step()
    assert [batch.readings for batch in line.spool.batches] == [1000, 1000, 500]
    assert line.spool.commits == [3]
    assert [row[2] for row in line.spool.rows] == list(range(n))
    first, second, last = line.spool.batches
    assert first.taken_through_us == second.taken_through_us < last.taken_through_us == clock.now_us()
    assert (first.from_us, first.to_us) == (clock.now_us(), clock.now_us() + 999)


def test_readings_are_sorted_by_series_and_time_and_equal_times_moved_apart(line: Line, clock: ManualClock) -> None:
    now_us = clock.now_us()
    line.arrive(1, samples([0], now_us, [9.0]))
    line.arrive(0, samples([0, 1, 0, 0], [now_us + 5, now_us, now_us, now_us], [3.0, 4.0, 1.0, 2.0]))
    clock.advance_s(1)
    line.collector.step()
    assert [row[:3] for row in line.spool.rows] == [
        (1, now_us, 1.0),
        (1, now_us + 1, 2.0),
        (1, now_us + 5, 3.0),
        (2, now_us, 4.0),
        (3, now_us, 9.0),
    ]
    assert line.collector.state.adjusted == 1


def test_each_reading_is_converted_with_the_profile_in_force_at_its_own_time(line: Line, clock: ManualClock) -> None:
    now_us = clock.now_us()
    until = Profile(LINEAR.id, "1", "linear", LINEAR.payload, None, now_us + 100)
    line.configure(until, Profile(LATER.id, "2", LATER.kind, LATER.payload, now_us + 100))
    times = [now_us + 99, now_us + 100, now_us + 98, now_us + 200]
    line.arrive(0, samples([0, 0, 0, 0], times, [3.0, 3.0, 4.0, 5.0]))
    line.arrive(0, samples([1], now_us, [7.0]))
    line.collector.step()
    shown = line.live.shown[0]
    assert shown.physical[:4].tolist() == [7.0, 9.0, 9.0, 25.0]
    assert np.isnan(shown.physical[4])
    assert shown.status.tolist() == [Status.CONVERTED] * 4 + [Status.RAW_ONLY]
    pass_time(line, clock, 1)
    assert [row[4] for row in line.spool.rows] == [1, 1, 2, 2, 0]
    assert line.spool.decoded[0].physical_digest == physical_digest(np.array([9.0, 7.0, 9.0, 25.0, np.nan]))
    assert {entry.profile_id for entry in line.spool.profiles} == {LINEAR.id, LATER.id}
    assert line.spool.batches[0].generation == 1


def test_a_new_configuration_takes_effect_with_the_next_samples(line: Line, clock: ManualClock) -> None:
    for generation, profiles in enumerate([(), (LINEAR,), (LATER,)], start=1):
        line.configure(*profiles, generation=generation)
        line.arrive(0, samples([0], clock.now_us(), [3.0]))
        clock.advance_s(1)
        line.collector.step()
    assert [shown.physical.tolist() for shown in line.live.shown[1:]] == [[7.0], [9.0]]
    assert line.live.shown[0].status.tolist() == [Status.RAW_ONLY]


def test_values_of_formulas_travel_with_the_batch(line: Line, clock: ManualClock) -> None:
    line.configure(Profile(UUID(int=3), "1", "formula", {"expression": "sqrt(x)"}))
    line.arrive(0, samples([0, 0], [clock.now_us(), clock.now_us() + 1], [9.0, -1.0]))
    pass_time(line, clock, 1)
    decoded = line.spool.decoded[0]
    assert decoded.physical_digest is None
    assert decoded.columns.physical[0] == 3.0
    assert decoded.columns.status[1] == status_byte(Status.CONVERSION_FAILED, Reason.CONVERSION_DOMAIN)


def test_a_failed_sample_stays_failed_and_is_not_converted(line: Line, clock: ManualClock) -> None:
    line.configure(LINEAR)
    failed = samples([0], clock.now_us(), [np.nan])
    failed.reason[0] = Reason.OUT_OF_RANGE
    line.arrive(0, failed)
    pass_time(line, clock, 1)
    assert line.spool.rows[0][3:] == (status_byte(Status.CONVERSION_FAILED, Reason.OUT_OF_RANGE), 0)


def test_a_batch_holds_one_clock_segment_and_a_new_one_has_a_time_of_its_own(line: Line, clock: ManualClock) -> None:
    line.arrive(0, samples([0], clock.now_us(), [1.0]), flush_s=60)
    line.collector.step()
    clock.step_s(-0.0005)
    line.arrive(0, samples([0], clock.now_us(), [2.0]), flush_s=60)
    clock.advance_s(61)
    line.collector.step()
    assert [(batch.clock_segment, batch.readings) for batch in line.spool.batches] == [(1, 1), (2, 1)]
    assert line.collector.state.adjusted == 0


def test_after_a_step_nothing_is_claimed_by_the_clock_that_was(line: Line, clock: ManualClock) -> None:
    line.configure(LINEAR, running=True)
    line.arrive(0, samples([0], clock.now_us(), [1.0]), flush_s=0)
    line.collector.step()
    clock.step_s(-3600)
    pass_time(line, clock, 6)
    through = [(batch.clock_segment, batch.taken_through_us) for batch in line.spool.batches]
    assert through[-1] == (2, clock.now_us())


def test_a_poll_under_way_holds_back_what_is_said_to_be_taken(line: Line, clock: ManualClock) -> None:
    line.arrive(1, samples([0], clock.now_us(), [1.0]))
    with line.intake.reading("bus"):
        started_us = clock.now_us()
        clock.advance_s(1)
        line.collector.step()
    assert line.spool.batches[-1].taken_through_us == started_us


def test_a_listening_bus_holds_it_back_by_the_time_it_may_take(line: Line, clock: ManualClock) -> None:
    line.arrive(1, samples([0], clock.now_us(), [1.0]))
    with line.intake.listening("bus"):
        clock.advance_s(5)
        line.collector.step()
    assert line.spool.batches[-1].taken_through_us == clock.now_us() - LISTENING_LAG_US


def test_an_idle_agent_says_what_has_been_taken_while_a_session_runs_and_only_then(
    line: Line, clock: ManualClock
) -> None:
    pass_time(line, clock, IDLE_BATCH_S + 1)
    assert not line.spool.batches
    line.configure(running=True)
    pass_time(line, clock, 0.1)
    pass_time(line, clock, 0.1)
    assert [(b.readings, b.taken_through_us) for b in line.spool.batches] == [(0, clock.now_us() - 100_000)]


def test_the_latest_values_are_kept_by_time_whatever_the_order(line: Line, clock: ManualClock) -> None:
    now_us = clock.now_us()
    line.arrive(0, samples([0, 0], [now_us + 10, now_us], [2.0, 1.0]))
    line.collector.step()
    line.arrive(0, samples([0], now_us + 5, [1.5]))
    pass_time(line, clock, 0.1)
    (value,) = line.latest.values()
    assert (value.sensor, value.raw, value.physical, value.timestamp_us, value.unit) == (
        "gauge.flow",
        2.0,
        None,
        now_us + 10,
        "L/min",
    )


def test_while_the_spool_takes_nothing_the_collector_tries_again_and_says_so(tmp_path: Path) -> None:
    line = Line(tmp_path, AnchoredClock(), FakeSpool(SpoolFull("quota reached")))
    done = line.arrive(0, samples([0], 5, [1.0]), flush_s=0)
    line.collector.thread.start()
    until(lambda: line.spool.attempts >= 2)
    until(lambda: "quota reached" in line.collector.state.blocked)
    assert not done.done()
    line.spool.refusal = None
    done.result(10)
    assert line.collector.state.blocked == ""
    assert line.spool.rows[0][2] == 1.0
    line.collector.stop()
    line.collector.thread.join(10)
    assert not line.collector.thread.is_alive()


def test_a_stop_commits_what_has_been_handed_over_and_says_that_all_is_taken(tmp_path: Path) -> None:
    line = Line(tmp_path, AnchoredClock())
    line.configure(running=True)
    line.collector.thread.start()
    promises = [line.arrive(0, samples([0], 5 + n, [n]), flush_s=60) for n in range(50)]
    line.collector.stop()
    line.collector.thread.join(10)
    assert all(promise.done() for promise in promises)
    assert len(line.spool.rows) == 50
    assert line.spool.batches[-1].taken_through_us > line.clock.now_us() - 10_000_000
    with pytest.raises(SpoolFull):
        line.arrive(0, samples([0], 5, [1.0]))


class NoRoomForReadings(FakeSpool):
    """Takes empty batches only."""

    def append(self, batches: Sequence[PendingBatch]) -> None:
        self.refusal = SpoolUnavailable("disk full") if any(batch.readings for batch in batches) else None
        super().append(batches)


def test_after_readings_were_lost_nothing_claims_that_they_were_taken(tmp_path: Path) -> None:
    line = Line(tmp_path, AnchoredClock(), NoRoomForReadings())
    line.configure(running=True)
    line.collector.thread.start()
    line.arrive(0, samples([0, 1], 5, [1.0, 2.0]), flush_s=0)
    until(lambda: line.spool.attempts > 0)
    line.collector.stop()
    line.collector.thread.join(10)
    assert line.collector.state.lost == 2
    assert not line.spool.batches


def test_a_stop_gives_up_on_a_disk_that_stays_full_and_tells_who_waits(tmp_path: Path) -> None:
    line = Line(tmp_path, AnchoredClock(), FakeSpool(SpoolUnavailable("disk full")))
    line.configure(running=True)
    line.collector.thread.start()
    done = line.arrive(0, samples([0, 1], 5, [1.0, 2.0]), flush_s=0)
    until(lambda: line.spool.attempts > 0)
    line.collector.stop()
    with pytest.raises(SpoolUnavailable):
        done.result(10)
    line.collector.thread.join(10)
    assert line.collector.state.lost == 2
    assert not line.spool.batches


def test_every_reading_of_many_threads_is_committed_once(tmp_path: Path) -> None:
    line = Line(tmp_path, AnchoredClock())
    line.collector.thread.start()

    def deliver(device: int) -> None:
        for n in range(500):
            some = samples([0], line.clock.now_us(), [float(n)])
            line.intake.put(Arrival(device, some, 1, line.clock.monotonic_s() + 0.05), abandoned=lambda: False)

    threads = [threading.Thread(target=deliver, args=(device,)) for device in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    line.collector.stop()
    line.collector.thread.join(20)
    for series in (1, 3):
        rows = [row for row in line.spool.rows if row[0] == series]
        assert [row[2] for row in rows] == list(range(500))
        assert all(earlier[1] < later[1] for earlier, later in itertools.pairwise(rows))


def test_readings_that_were_not_taken_leave_a_gap_record(tmp_path: Path) -> None:
    line = Line(tmp_path, AnchoredClock(), FakeSpool(SpoolFull("quota reached")))
    line.collector.thread.start()
    some = samples([0] * 10_000, np.arange(10_000) + 5, [1.0] * 10_000)
    line.arrive(0, some, flush_s=0)
    until(lambda: bool(line.collector.state.blocked))
    line.arrive(0, some, flush_s=0)
    with pytest.raises(SpoolFull):
        line.arrive(0, samples([0, 1], 77, [1.0, 1.0]))
    line.spool.refusal = None
    until(lambda: bool(line.spool.gaps))
    (gap,) = line.spool.gaps
    assert (gap.cause, gap.readings, gap.from_us) == ("blocked", 2, 77)
    line.collector.stop()
    line.collector.thread.join(10)


def until(condition: object, timeout_s: float = 10.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end_s, "it did not come about in time"
        time.sleep(0.01)


def test_what_is_shown_is_no_older_than_the_live_interval(tmp_path: Path) -> None:
    line = Line(tmp_path, AnchoredClock())
    line.collector.thread.start()
    for n in range(3):
        line.arrive(0, samples([0], n, [float(n)]), flush_s=30)
        until(lambda n=n: len(line.live.shown) > n)
    assert LIVE_INTERVAL_S < 30
    assert not line.spool.batches
    line.collector.stop()
    line.collector.thread.join(10)


def test_a_reading_is_shown_at_once_when_the_one_before_it_was_a_while_ago(line: Line, clock: ManualClock) -> None:
    line.arrive(0, samples([1], clock.now_us(), [1.0]), flush_s=30.0)
    line.collector.step()
    clock.advance_s(LIVE_INTERVAL_S)  # and stands still from here on: nothing but the next reading ends the step
    step = threading.Thread(target=line.collector.step, daemon=True)
    step.start()
    line.arrive(0, samples([1], clock.now_us(), [2.0]), flush_s=30.0)
    step.join(10)
    assert [some.raw.tolist() for some in line.live.shown] == [[1.0], [2.0]]
    assert not line.spool.batches
