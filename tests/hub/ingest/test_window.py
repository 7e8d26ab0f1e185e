"""What agents may have on their way: shared by need, never more than the broker holds."""

from __future__ import annotations

from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from hub.ingest.window import ACTIVE_S, WINDOW_BATCHES_MAX, WINDOW_BATCHES_MIN, Window
from shared.clock import ManualClock

LIVE = [uuid4() for _ in range(100)]


def window(batches: int = 800) -> tuple[Window, ManualClock]:
    clock = ManualClock()
    return Window(clock, batches=batches), clock


def test_one_agent_alone_has_all_that_one_may_have() -> None:
    own, _ = window()
    own.note({LIVE[0]: 1})
    assert own.grants().of(LIVE[0]) == WINDOW_BATCHES_MAX


def test_what_agents_with_live_data_leave_over_goes_to_one_that_is_behind() -> None:
    own, _ = window()
    behind = uuid4()
    own.note(dict.fromkeys(LIVE, 1) | {behind: 7})
    grants = own.grants()
    assert grants.of(behind) == WINDOW_BATCHES_MAX
    assert grants.of(LIVE[0]) == WINDOW_BATCHES_MIN


def test_when_all_are_behind_all_have_the_same() -> None:
    own, _ = window()
    own.note(dict.fromkeys(LIVE, 8))
    assert {own.grants().of(agent) for agent in LIVE} == {8}


def test_one_that_has_caught_up_gives_back() -> None:
    own, _ = window()
    own.note(dict.fromkeys(LIVE[:20], 1) | {LIVE[20]: 60})
    assert own.grants().of(LIVE[20]) == WINDOW_BATCHES_MAX
    for _ in range(40):
        own.note({LIVE[20]: 1})
    assert own.grants().of(LIVE[20]) == own.grants().of(LIVE[0])


def test_who_is_gone_holds_nothing() -> None:
    own, clock = window(100)
    own.note(dict.fromkeys(LIVE[:50], 1))
    clock.advance_s(ACTIVE_S + 1)
    own.note({LIVE[0]: 1})
    assert own.grants().of(LIVE[0]) == WINDOW_BATCHES_MAX


@given(st.dictionaries(st.uuids(), st.integers(1, 200), min_size=1, max_size=150), st.integers(8, 2000))
def test_all_together_stay_below_the_brokers_queue(answered: dict[UUID, int], batches: int) -> None:
    own, _ = window(batches)
    own.note(answered)
    grants = own.grants()
    given_out = sum(grants.of(agent) for agent in answered)
    assert given_out <= max(batches, WINDOW_BATCHES_MIN * len(answered))
