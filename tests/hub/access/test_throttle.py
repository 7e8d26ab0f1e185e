"""Attempts are counted per user and address, and per address."""

from __future__ import annotations

from hub.access import throttle
from hub.access.throttle import Throttle
from shared.clock import ManualClock


def make(clock: ManualClock, pair_max: int = 2, address_max: int = 3) -> Throttle:
    return Throttle(clock=clock, window_s=60, pair_max=pair_max, address_max=address_max)


def test_too_many_attempts_of_one_user_from_one_address_must_wait() -> None:
    clock = ManualClock()
    limit = make(clock, address_max=10)
    assert [limit.begin("Ann", "a"), limit.begin("ann", "a")] == [0, 0]
    clock.advance_s(20)
    assert limit.begin("ANN", "a") == 40
    assert limit.begin("ann", "b") == 0
    assert limit.begin("bob", "a") == 0


def test_too_many_attempts_from_one_address_must_wait_whoever_they_name() -> None:
    limit = make(ManualClock())
    assert [limit.begin(name, "a") for name in ("ann", "bob", "cid")] == [0, 0, 0]
    assert limit.begin("dan", "a") == 60


def test_the_window_ends() -> None:
    clock = ManualClock()
    limit = make(clock)
    limit.begin("ann", "a")
    limit.begin("ann", "a")
    clock.advance_s(60)
    assert limit.begin("ann", "a") == 0


def test_a_refused_attempt_does_not_count() -> None:
    limit = make(ManualClock(), address_max=4)
    for _ in range(10):
        limit.begin("ann", "a")
    assert limit.begin("bob", "a") == 0


def test_success_gives_the_attempt_back() -> None:
    limit = make(ManualClock())
    for _ in range(10):
        assert limit.begin("ann", "a") == 0
        limit.succeed("ann", "a")


def test_the_number_of_counts_is_bounded() -> None:
    limit = make(ManualClock())
    for number in range(throttle.KEYS_MAX):
        limit.begin(f"user {number}", f"address {number}")
    assert len(limit._windows) == throttle.KEYS_MAX
