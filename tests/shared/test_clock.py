"""Time never jumps within a segment."""

import time

import pytest

from shared.clock import STEP_US_MIN, AnchoredClock, ManualClock


def test_the_anchored_clock_follows_utc() -> None:
    assert abs(AnchoredClock().now_us() - time.time_ns() // 1000) < 1_000_000


def test_it_does_not_go_back_when_the_system_clock_does(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = AnchoredClock()
    before = clock.now_us()
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() - 3_600_000_000_000)
    assert clock.now_us() >= before


def test_a_step_opens_a_segment_and_a_slew_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = AnchoredClock()
    assert clock.check_step() == 0
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 100_000_000)
    assert clock.check_step() == 0
    assert clock.segment == 1
    monkeypatch.setattr(time, "time_ns", lambda: real() + 10_000_000_000)
    assert clock.check_step() == pytest.approx(10_000_000, abs=STEP_US_MIN)
    assert clock.segment == 2
    assert clock.check_step() == 0


def test_the_manual_clock_moves_when_told() -> None:
    clock = ManualClock(now_us=0)
    clock.advance_s(1.5)
    clock.step_s(-1.0)
    assert (clock.now_us(), clock.monotonic_s(), clock.segment) == (500_000, 1001.5, 2)
