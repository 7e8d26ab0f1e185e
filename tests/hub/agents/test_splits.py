"""Agents, who know one rule, come to what holds at the hub."""

from __future__ import annotations

from typing import TypeAlias
from uuid import UUID

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from agent.acquisition.profiles import bindings_of
from hub.agents.splits import STRETCHES_MAX, with_splits
from hub.ingest.timeline import FOR_EVER_US, SINCE_EVER_US, Term, Timeline
from shared.messages import Binding, Config, Profile

Stretch: TypeAlias = tuple[int | None, int | None]

STARTS = st.integers(0, 40)
ENDS = st.one_of(st.none(), st.integers(0, 60))
DEFAULTS = st.lists(st.tuples(st.one_of(st.none(), STARTS), ENDS), max_size=5).map(
    lambda found: sorted(found, key=lambda one: -1 if one[0] is None else one[0])
)
SPLITS = st.lists(st.tuples(STARTS, ENDS), max_size=5)


def _profile(number: int, stretch: Stretch) -> Profile:
    return Profile(UUID(int=number), str(number), "linear", {"a": 1.0, "b": 0.0}, *stretch)


def _term(number: int, stretch: Stretch, *, is_split: bool) -> Term:
    from_us, to_us = stretch
    since, until = SINCE_EVER_US if from_us is None else from_us, FOR_EVER_US if to_us is None else to_us
    return Term(number, since, until, is_split=is_split)


@given(DEFAULTS, SPLITS)
@example([(None, None), (10, None)], [(5, 20)])
@example([(10, None)], [(10, 20), (10, 15)])
def test_what_an_agent_is_told_comes_to_what_holds_at_the_hub(defaults: list[Stretch], splits: list[Stretch]) -> None:
    numbered = list(enumerate([*defaults, *splits], start=1))
    terms = [_term(number, one, is_split=number > len(defaults)) for number, one in numbered]
    profiles = [_profile(number, one) for number, one in numbered]
    told = with_splits(profiles[: len(defaults)], profiles[len(defaults) :])
    known = bindings_of(Config(1, 0, [Binding("oven", UUID(int=0), "bound", told)]))
    times = list(range(-2, 70))
    holding = [known.at("oven", at).profile_id for at in times]
    assert [0 if one is None else one.int for one in holding] == Timeline(terms).at(np.array(times)).tolist()


def test_agents_are_told_of_the_latest_windows_only() -> None:
    splits = [_profile(2, (10 * number, 10 * number + 5)) for number in range(STRETCHES_MAX + 7)]
    *windows, default = with_splits([_profile(1, (None, None))], splits)
    assert [one.valid_from_us for one in windows] == [10 * number for number in range(7, STRETCHES_MAX + 7)]
    assert default.id == UUID(int=1)
