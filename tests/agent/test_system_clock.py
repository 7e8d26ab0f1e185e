"""What the operating system says about its clock, and the record that carries it."""

from __future__ import annotations

import sys

import pytest

from agent import system_clock
from agent.system_clock import Vouch, opened_segment, system_vouch, vouch_of

STA_PLL, STA_UNSYNC, TIME_ERROR = 0x0001, 0x0040, 5


@pytest.mark.parametrize(
    ("state", "status", "error_us", "vouch"),
    [
        (0, STA_PLL, 3_500, Vouch(3_500)),
        (0, STA_UNSYNC, 3_500, None),
        (TIME_ERROR, STA_PLL, 3_500, None),
        (-1, 0, 0, None),
        (0, STA_PLL, 16_000_000, None),
    ],
)
def test_a_clock_is_vouched_for_only_while_a_time_service_keeps_it(
    state: int, status: int, error_us: int, vouch: Vouch | None
) -> None:
    assert vouch_of(state, status, error_us) == vouch


@pytest.mark.skipif(sys.platform != "linux", reason="adjtimex is Linux's")
def test_the_kernel_can_be_asked() -> None:
    answer = system_vouch()
    assert answer is None or 0 <= answer.error_us <= system_clock.VOUCHED_US_MAX


def test_a_segment_opens_with_what_the_system_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_clock, "system_vouch", lambda: Vouch(40))
    assert (opened_segment(2, 10, 5).source, opened_segment(2, 10, 5).uncertainty_us) == ("system", 40)
    monkeypatch.setattr(system_clock, "system_vouch", lambda: None)
    record = opened_segment(2, 10, 5)
    assert (record.source, record.uncertainty_us, record.step_us, record.measured_us) == ("none", -1, 5, 10)
