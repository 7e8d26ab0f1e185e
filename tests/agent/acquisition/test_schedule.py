"""Schedules: no drift, no bunching, everything counted."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.acquisition.schedule import SPREAD_S_MAX, Schedule, Task, flush_interval_s
from drivers.api import Point


@dataclass(frozen=True)
class Meter:
    points: tuple[Point, ...]
    name: str = "meter"
    bus: str = "bus"
    timeout_s: float = 1.0


def meter(*intervals_s: float) -> Meter:
    return Meter(tuple(Point(f"p{i}", f"s{i}", interval_s=interval) for i, interval in enumerate(intervals_s)))


def test_points_of_one_interval_are_polled_together_and_always_as_the_same_tuple() -> None:
    schedule = Schedule([meter(1.0, 0.5, 1.0)], 0.0)
    tasks = [task for step in range(40) if (task := schedule.take(step * 0.1)) is not None]
    assert {task.points for task in tasks} == {(0, 2), (1,)}
    assert len({id(task.points) for task in tasks}) == 2


def test_a_poll_that_always_comes_late_does_not_drift() -> None:
    schedule = Schedule([meter(0.1)], 100.0)
    polls = 0
    now_s = 100.0
    while now_s < 200.0:
        assert schedule.take(now_s) is not None
        polls += 1
        now_s = schedule.next_due_s() + 0.03
    assert polls == pytest.approx(1000, abs=1)


def test_polls_that_a_long_one_ran_over_are_skipped_and_counted_once() -> None:
    schedule = Schedule([meter(1.0)], 0.0)
    assert schedule.take(0.0) == Task(0, (0,))
    assert schedule.take(0.5) is None
    assert schedule.take(4.5) == Task(0, (0,), overruns=3)
    assert schedule.take(4.6) is None
    assert schedule.next_due_s() == 5.0


def test_groups_start_spread_over_the_first_second() -> None:
    schedule = Schedule([meter(60.0), meter(60.0), meter(60.0), meter(60.0)], 0.0)
    starts = []
    for _ in range(4):
        starts.append(schedule.next_due_s())
        schedule.take(schedule.next_due_s())
    assert starts == [0.0, 0.25, 0.5, 0.75]
    assert max(starts) < SPREAD_S_MAX


def test_a_bus_without_points_has_nothing_due() -> None:
    schedule = Schedule([meter()], 0.0)
    assert schedule.next_due_s() == float("inf")
    assert schedule.take(1e9) is None


@pytest.mark.parametrize(
    ("intervals_s", "flush_s"), [((0.5,), 1.0), ((0.011,), 1.0), ((0.01,), 0.2), ((0.02, 0.02), 0.2), ((), 1.0)]
)
def test_readings_of_a_fast_device_wait_shorter(intervals_s: tuple[float, ...], flush_s: float) -> None:
    assert flush_interval_s(meter(*intervals_s)) == flush_s


@given(
    st.lists(st.floats(0.01, 10), min_size=1, max_size=5),
    st.lists(st.floats(0.0, 7.0), min_size=1, max_size=60),
)
def test_every_due_time_is_either_polled_or_counted_as_overrun(intervals_s: list[float], steps_s: list[float]) -> None:
    schedule = Schedule([meter(interval) for interval in intervals_s], 0.0)
    made = [0] * len(intervals_s)
    now_s = 0.0
    for step_s in steps_s:
        now_s += step_s
        for _ in range(len(intervals_s) + 1):
            task = schedule.take(now_s)
            if task is None:
                break
            made[task.device] += 1 + task.overruns
        assert schedule.next_due_s() > now_s
    for place, interval_s in enumerate(intervals_s):
        start_s = min(interval_s, SPREAD_S_MAX) * place / len(intervals_s)
        wanted = 0 if now_s < start_s else (now_s - start_s) / interval_s + 1
        assert abs(made[place] - wanted) <= 1
