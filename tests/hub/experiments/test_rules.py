"""Which status may follow which."""

from __future__ import annotations

from itertools import product

import pytest

from hub.errors import Problem
from hub.experiments.rules import Status, require_transition

ALLOWED = {
    ("draft", "running"),
    ("draft", "archived"),
    ("running", "succeeded"),
    ("running", "failed"),
    ("succeeded", "archived"),
    ("failed", "archived"),
}


@pytest.mark.parametrize(("current", "wanted"), list(product(Status, Status)))
def test_only_the_listed_statuses_follow(current: Status, wanted: Status) -> None:
    if current is wanted:
        assert not require_transition("run", current, wanted)
    elif (current.value, wanted.value) in ALLOWED:
        assert require_transition("run", current, wanted)
    else:
        with pytest.raises(Problem) as refused:
            require_transition("run", current, wanted)
        assert refused.value.status == 409
        assert refused.value.detail == f"a run that is {current} cannot become {wanted}"
        assert refused.value.extensions == {"from_status": current, "to_status": wanted}


def test_an_experiment_takes_another_article() -> None:
    with pytest.raises(Problem, match=r"^an experiment that is archived cannot become draft$"):
        require_transition("experiment", Status.ARCHIVED, Status.DRAFT)


def test_what_has_succeeded_or_failed_has_ended() -> None:
    assert {status for status in Status if status.is_terminal} == {Status.SUCCEEDED, Status.FAILED}
