"""Whatever happens in whatever order: query, aggregated, export and certificate say what one simple model says.

Some laboratories are made by hand (`stories`), the others are drawn: the same few each time, or with
`LABRELAY_EXAMPLES=200` so many, and other ones each time.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, note, settings
from hypothesis import strategies as st

from hub.telemetry import export
from tests.hub.conftest import Hub
from tests.hub.sessions import stories
from tests.hub.sessions.comparison import require_agreement, require_final
from tests.hub.sessions.trial import RUNS, SENSORS, new_trial

EXAMPLES = int(os.environ.get("LABRELAY_EXAMPLES", "2"))
SAME_ONES = "LABRELAY_EXAMPLES" not in os.environ
pytestmark = pytest.mark.timeout(120 + 10 * EXAMPLES)

PLACE = st.integers(0, 50)
SENSOR = st.sampled_from(SENSORS)
SOME_SENSORS = st.lists(SENSOR, min_size=1, max_size=len(SENSORS), unique=True)
TIMES = st.lists(st.integers(-20, 300), min_size=1, max_size=5, unique=True).map(sorted)
SPACES = st.lists(st.integers(1, 12), min_size=0, max_size=5)
OFFSETS_US = st.sampled_from([0, 300_000, -500_000, 3_600_000_000, -7_000_000, 25_000_000])
CLOCKS = st.sampled_from(["measured", "measured", "vouched", "derived"])
LENGTHS_S = st.integers(0, 150)


def _step(*parts: Any) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.tuples(*(st.just(one) if isinstance(one, str) else one for one in parts))


STEP = st.one_of(
    _step("take", SOME_SENSORS, SPACES),
    _step("take", SOME_SENSORS, SPACES),
    _step("bring", PLACE),
    _step("bring", PLACE),
    _step("once more", PLACE),
    _step("again", st.sampled_from(["agents", "posts"]), SENSOR, PLACE, st.integers(1, 4), st.booleans()),
    _step("lose", PLACE, st.sampled_from(["quota_oldest", "quota_thin"])),
    _step("pause", st.sampled_from(["blocked", "overflow"]), st.integers(1, 60), SOME_SENSORS),
    _step("clock", CLOCKS, OFFSETS_US),
    _step("restart", st.sampled_from(["measured", "vouched", "blind"]), OFFSETS_US),
    _step("post", SENSOR, TIMES, st.none() | PLACE),
    _step("policy", st.sampled_from([None, "hold", "attach"])),
    _step("fold"),
    _step("start", st.sampled_from(list(RUNS)), st.integers(-10, 250), st.none() | LENGTHS_S),
    _step("stop", PLACE, LENGTHS_S),
    _step("start backfill", PLACE),
    _step("complete backfill", PLACE),
    _step("archive", PLACE),
    _step("release", PLACE),
    _step("discard", PLACE),
)
BEGINNING = st.tuples(
    _step("policy", st.sampled_from([None, "hold", "attach"])),
    _step("start", st.sampled_from(list(RUNS)), st.integers(-10, 100), st.none() | LENGTHS_S),
)


@example(*stories.LATE)
@example(*stories.CLOCKS)
@example(*stories.UNPLACED)
@example(*stories.HOLES)
@given(BEGINNING, st.lists(STEP, min_size=6, max_size=25))
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=SAME_ONES,
    phases=set(Phase) - {Phase.explain},
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_query_aggregated_export_and_certificate_agree_with_the_model(
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
    beginning: Sequence[stories.Step],
    steps: Sequence[stories.Step],
) -> None:
    note(f"{beginning} {steps}")
    monkeypatch.setattr(export, "BATCH_ROWS", 3)
    trial = await new_trial(hub)
    for step in (*beginning, *steps):
        await trial.do(step)
    await require_agreement(trial)
    await trial.wind_up()
    trial.every_way = True
    await require_agreement(trial)
    await require_final(trial)
    await trial.do(("fold",))
    await require_final(trial)
