"""Whatever is published, split off, recorded and recalculated in whatever order: one simple model says what is shown.

`LABRELAY_EXAMPLES=200` tries so many laboratories, other ones each time, instead of the same few.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, note, settings
from hypothesis import strategies as st

from tests.hub.conftest import Hub
from tests.hub.sensors.splits_comparison import require_agreement
from tests.hub.sensors.splits_trial import AHEAD_S, RUNS, SENSORS, new_trial

EXAMPLES = int(os.environ.get("LABRELAY_EXAMPLES", "5"))
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


DRAFT_NAMED_AT_ONCE: list[tuple[Any, ...]] = [
    ("publish", "oven", None, None, 0),
    ("publish", "oven", "one", 5, 0),
    ("post", "oven", [11, 12], None, False),
    ("draft", "one"),
    ("post", "oven", [20, 21, 90], -1, False),
]
OF_EACH_KIND: list[tuple[Any, ...]] = [
    ("publish", "oven", None, None, 0),
    ("draft", "one"),
    ("publish", "oven", [0], AHEAD_S + 30, 0),
    ("start", "both", 0, 100),
    ("publish", "oven", "both", 20, 30),
    ("post", "oven", [10, 25, 55, 110], None, False),
    ("publish", "pump", "both", 0, 0),
    ("deliver", [5, 50, 101], None),
    ("begin", 0, 100),
    ("post", "oven", [105, AHEAD_S + 10, AHEAD_S + 40], None, False),
    ("publish", "oven", [0], 60, 0),
    ("post", "oven", [106, AHEAD_S + 11, AHEAD_S + 41], None, False),
    ("pass", AHEAD_S + 60),
    ("post", "oven", [107, AHEAD_S + 12, AHEAD_S + 42], None, False),
    ("recalculate", 0, [], (0, 40)),
    ("deliver", [6, 51, 102], 0),
    ("stop", 0, 20),
    ("post", "oven", [111, 121], 0, False),
    ("delete", 1),
    ("post", "oven", [12, 26], None, False),
]


@given(BEGINNING, st.lists(STEP, min_size=10, max_size=40))
@example((), DRAFT_NAMED_AT_ONCE)
@example((), OF_EACH_KIND)
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
