"""Whatever is published, split off, recorded and recalculated in whatever order: one simple model says what is shown.

`LABRELAY_EXAMPLES=200` tries so many laboratories, other ones each time, instead of the same few.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from tests.hub.conftest import Hub
from tests.hub.sensors.splits_comparison import require_agreement
from tests.hub.sensors.splits_trial import AHEAD_S, RUNS, SENSORS, new_trial

EXAMPLES = int(os.environ.get("LABRELAY_EXAMPLES", "6"))
SAME_ONES = "LABRELAY_EXAMPLES" not in os.environ
pytestmark = pytest.mark.timeout(120 + 10 * EXAMPLES)

PLACE = st.just(-1) | st.integers(0, 20)
"""Of one among those that there are, -1 for the latest."""
PLACES = st.lists(PLACE, min_size=1, max_size=3)
SENSOR = st.sampled_from(SENSORS)
RUN = st.sampled_from(list(RUNS))
PAST = st.integers(0, 120)
AHEAD = st.integers(AHEAD_S, AHEAD_S + 120)
TIMES = st.lists(PAST | AHEAD, min_size=2, max_size=8, unique=True)
LENGTH_S = st.integers(0, 120)
FROM = st.none() | PAST | AHEAD
NAMED = st.none() | RUN | RUN | PLACES


def _step(*parts: Any) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.tuples(*(st.just(one) if isinstance(one, str) else one for one in parts))


STEP = st.one_of(
    _step("publish", SENSOR, NAMED, FROM, st.just(0) | LENGTH_S),
    _step("publish", SENSOR, NAMED, FROM, st.just(0)),
    _step("pass", AHEAD),
    _step("deprecate", PLACE),
    _step("recalculate", PLACE, PLACES | st.just([]), st.none() | st.tuples(PAST, LENGTH_S)),
    _step("draft", RUN),
    _step("start", RUN, PAST, st.none() | LENGTH_S),
    _step("start", RUN, PAST, st.none() | LENGTH_S),
    _step("begin", PLACE, PAST),
    _step("stop", PLACE, LENGTH_S),
    _step("delete", PLACE),
    _step("post", SENSOR, TIMES, st.none() | PLACE, st.booleans()),
    _step("post", SENSOR, TIMES, st.none() | PLACE, st.just(False)),
    _step("post", SENSOR, TIMES, st.none() | PLACE, st.just(False)),
    _step("deliver", TIMES, st.none() | PLACE),
    _step("fold"),
)


def _beginning(sensor: str, run: str) -> st.SearchStrategy[tuple[tuple[Any, ...], ...]]:
    """Of one sensor and one run, so that something is decided with what ingest remembers."""
    return st.tuples(
        _step("publish", st.just(sensor), st.none(), FROM, st.just(0)),
        _step("start", st.just(run), PAST, st.none() | LENGTH_S),
        _step("publish", st.just(sensor), st.just(run) | PLACES, PAST, st.just(0)),
        _step("post", st.just(sensor), TIMES, st.none() | PLACE, st.just(False)),
        _step("draft", st.just(run)),
        _step("post", st.just(sensor), TIMES, st.just(-1), st.just(False)),
    )


BEGINNING = st.tuples(SENSOR, RUN).flatmap(lambda drawn: _beginning(*drawn))


@given(BEGINNING, st.lists(STEP, min_size=10, max_size=40))
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=SAME_ONES,
    phases=set(Phase) - {Phase.explain},
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_every_reading_has_the_profile_that_the_model_says(
    hub: Hub, beginning: tuple[tuple[Any, ...], ...], steps: list[tuple[Any, ...]]
) -> None:
    note(f"{beginning} {steps}")
    trial = await new_trial(hub)
    for step in (*beginning, *steps):
        await trial.do(step)
    await require_agreement(trial)
