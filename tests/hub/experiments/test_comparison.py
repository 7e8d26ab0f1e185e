"""Runs side by side."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from hub.database.ids import uuid7
from hub.database.pool import acquire
from hub.experiments import comparison_store
from hub.experiments.comparison import ComparedRun, compare
from hub.experiments.rules import Status
from tests.hub.experiments.conftest import EXPERIMENTS, Lab

START = datetime(2026, 3, 2, 12, tzinfo=UTC)


def run(**fields: Any) -> ComparedRun:
    defaults: dict[str, Any] = {
        "id": uuid7(),
        "name": "r",
        "status": Status.DRAFT,
        "tags": [],
        "params": {},
        "git_sha": "",
        "env": "",
        "started_at": None,
        "finished_at": None,
        "duration_seconds": None,
    }
    return ComparedRun(**(defaults | fields))


async def add_metrics(lab: Lab, run_id: str, name: str, *points: tuple[int, float]) -> None:
    async with acquire(lab.hub.services.pool) as connection:
        await connection.executemany(
            "insert into run_metrics (id, run_id, name, step, value, timestamp) values ($1, $2, $3, $4, $5, $6)",
            [(uuid7(), UUID(run_id), name, step, value, START) for step, value in points],
        )


def lines(answer: dict[str, Any], part: str) -> dict[str, tuple[list[Any], bool]]:
    """Values in order of the runs, None where there is none."""
    ids = [one["id"] for one in answer["runs"]]
    return {line["name"]: ([line["values"].get(id_) for id_ in ids], line["differs"]) for line in answer[part]}


async def test_runs_stand_side_by_side_with_what_differs(lab: Lab) -> None:
    experiment = await lab.add()
    first = await lab.add_run(
        experiment["id"],
        name="first",
        params={"temperature": 400, "gas": "argon"},
        tags=["a", "b"],
        status="succeeded",
        started_at=START,
        finished_at=START,
        duration_seconds=1.5,
    )
    second = await lab.add_run(
        experiment["id"], params={"temperature": 450.0, "gas": "argon", "ramp": None}, tags=["b", "a"], git_sha="abc"
    )
    await add_metrics(lab, first, "loss", (1, 4.0), (3, 1.0), (2, 7.0))
    await add_metrics(lab, second, "loss", (1, 4.0))
    await add_metrics(lab, second, "yield", (0, 0.25))
    answer = await lab.ann.post(f"{EXPERIMENTS}/{experiment['id']}/compare", json={"run_ids": [second, first]})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["experiment_id"], [one["id"] for one in body["runs"]]) == (experiment["id"], [second, first])
    assert body["runs"][1]["params"] == {"temperature": 400, "gas": "argon"}
    assert lines(body, "fields") == {
        "status": (["draft", "succeeded"], True),
        "tags": ([["a", "b"], ["a", "b"]], False),
        "duration_seconds": ([None, 1.5], True),
        "git_sha": (["abc", ""], True),
        "env": (["", ""], False),
    }
    assert lines(body, "params") == {
        "gas": (["argon", "argon"], False),
        "ramp": ([None, None], True),
        "temperature": ([450.0, 400], True),
    }
    of_first = {"count": 3, "min": 1.0, "max": 7.0, "mean": 4.0, "last": 1.0, "last_step": 3}
    of_second = {"count": 1, "min": 4.0, "max": 4.0, "mean": 4.0, "last": 4.0, "last_step": 1}
    of_yield = {"count": 1, "min": 0.25, "max": 0.25, "mean": 0.25, "last": 0.25, "last_step": 0}
    assert lines(body, "metrics") == {"loss": ([of_second, of_first], True), "yield": ([of_yield, None], True)}
    assert body["metrics_total"] == 2


async def test_a_mean_does_not_overflow_where_a_sum_would(lab: Lab) -> None:
    experiment = await lab.add()
    runs = [await lab.add_run(experiment["id"]) for _ in range(2)]
    for run_id in runs:
        await add_metrics(lab, run_id, "huge", (0, 1.5e308), (1, 1.5e308))
    answer = await lab.ann.post(f"{EXPERIMENTS}/{experiment['id']}/compare", json={"run_ids": runs})
    assert answer.json()["metrics"][0]["values"][runs[0]]["mean"] == 1.5e308
    assert answer.json()["metrics"][0]["differs"] is False


async def test_metrics_are_the_first_by_name_and_how_many_there_are(lab: Lab, monkeypatch: Any) -> None:
    monkeypatch.setattr(comparison_store, "METRICS_MAX", 2)
    experiment = await lab.add()
    runs = [await lab.add_run(experiment["id"]) for _ in range(2)]
    for name in ("c", "a", "b"):
        await add_metrics(lab, runs[0], name, (0, 1.0))
    body = (await lab.ann.post(f"{EXPERIMENTS}/{experiment['id']}/compare", json={"run_ids": runs})).json()
    assert ([line["name"] for line in body["metrics"]], body["metrics_total"]) == (["a", "b"], 3)


async def test_only_runs_of_the_experiment_are_compared(lab: Lab) -> None:
    experiment, other = await lab.add(), await lab.add("Other")
    mine, also = await lab.add_run(experiment["id"]), await lab.add_run(experiment["id"])
    foreign, unknown = await lab.add_run(other["id"]), str(uuid4())
    path = f"{EXPERIMENTS}/{experiment['id']}/compare"
    refused = await lab.ann.post(path, json={"run_ids": [mine, foreign, unknown]})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "run_ids")
    assert foreign in refused.json()["detail"]
    assert unknown in refused.json()["detail"]
    assert mine not in refused.json()["detail"]
    for body, culprit in (
        ({}, "run_ids"),
        ({"run_ids": []}, "run_ids"),
        ({"run_ids": [mine]}, "run_ids"),
        ({"run_ids": [mine, mine]}, "run_ids"),
        ({"run_ids": [mine, "x"]}, "run_ids.1"),
        ({"run_ids": [str(uuid4()) for _ in range(51)]}, "run_ids"),
        ({"run_ids": [mine, also], "colour": "red"}, "colour"),
        ({"run_ids": [mine, also], "project_id": str(uuid4())}, "project_id"),
    ):
        refused = await lab.ann.post(path, json=body)
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, culprit), body
    elsewhere = await lab.ann.post(f"{EXPERIMENTS}/{uuid4()}/compare", json={"run_ids": [mine, also]})
    assert (elsewhere.status_code, elsewhere.json()["detail"]) == (404, "experiment not found")


def test_what_a_run_lacks_is_a_difference_and_true_is_not_one() -> None:
    one, two, three = run(params={"a": 1, "b": None}), run(params={"a": True}), run(params={"a": 1.0, "b": None})
    experiment_id = uuid7()

    def differing(*runs: ComparedRun) -> set[str]:
        return {line.name for line in compare(experiment_id, runs, {}, 0).params if line.differs}

    assert differing(one, two) == {"a", "b"}
    assert differing(one, three) == set()
    assert differing(two, one, three) == {"a", "b"}
