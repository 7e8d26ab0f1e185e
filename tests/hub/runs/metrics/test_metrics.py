"""Metrics of a run over HTTP: added, listed, summed up, put into buckets."""

from __future__ import annotations

import math
from typing import Any
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from hub.runs.metrics import routes
from hub.runs.metrics.routes import BUCKETS_MAX
from hub.runs.metrics.views import POINTS_MAX, STEP_MAX
from tests.hub.runs.conftest import Lab, fields_of, refused, run_url


async def add(lab: Lab, run_id: str, points: list[dict[str, Any]]) -> None:
    answer = await lab.editor.post(run_url(run_id, "metrics"), json={"metrics": points})
    assert (answer.status_code, answer.json()) == (201, {"status": "accepted", "accepted": len(points)}), answer.text


async def test_one_number_or_many_are_added_and_listed_in_order(lab: Lab) -> None:
    run = await lab.new_run()
    url = run_url(run["id"], "metrics")
    one = {"name": "loss", "value": 0.5, "step": 2, "timestamp": "2026-01-02T03:04:05+01:00", "run_id": run["id"]}
    answer = await lab.editor.post(url, json=one)
    assert (answer.status_code, answer.json()["accepted"]) == (201, 1)
    await add(lab, run["id"], [{"name": "loss", "value": 1, "step": 1}, {"name": "acc", "value": -3.5}])
    listed = (await lab.viewer.get(url)).json()
    assert [(one["name"], one["step"], one["value"]) for one in listed["metrics"]] == [
        ("acc", 0, -3.5),
        ("loss", 1, 1.0),
        ("loss", 2, 0.5),
    ]
    assert listed["metrics"][2]["timestamp"] == "2026-01-02T02:04:05Z"
    assert (listed["total"], listed["page"], listed["page_size"]) == (3, 1, 50)
    some = await lab.viewer.get(url, params={"name": "loss", "step_from": 2, "step_to": 2, "limit": 1})
    assert ([one["step"] for one in some.json()["metrics"]], some.json()["total"]) == ([2], 1)


async def test_the_summary_tells_extremes_average_and_the_last_value(lab: Lab) -> None:
    run = await lab.new_run()
    url = run_url(run["id"], "metrics", "summary")
    assert (await lab.viewer.get(url)).json() == {"metrics": [], "total": 0, "page": 1, "page_size": 50}
    await add(
        lab, run["id"], [{"name": "loss", "value": value, "step": step} for step, value in ((3, 1), (1, 9), (2, 5))]
    )
    late = [
        {"name": "loss", "value": 2, "step": 3, "timestamp": "2100-01-01T00:00:00Z"},
        {"name": "acc", "value": 1e300},
    ]
    await add(lab, run["id"], [*late, {"name": "acc", "value": 1e300}])
    acc, loss = (await lab.viewer.get(url)).json()["metrics"]
    assert loss == {
        "name": "loss",
        "count": 4,
        "min": 1.0,
        "max": 9.0,
        "avg": 4.25,
        "first_step": 1,
        "last_step": 3,
        "last_value": 2.0,
        "last_timestamp": "2100-01-01T00:00:00Z",
    }
    assert (acc["count"], acc["avg"]) == (2, 1e300)
    page = (await lab.viewer.get(url, params={"limit": 1, "offset": 1})).json()
    assert ([one["name"] for one in page["metrics"]], page["total"]) == (["loss"], 2)
    (steps,) = (await lab.viewer.get(url, params={"name": "loss", "step_to": 2})).json()["metrics"]
    assert (steps["count"], steps["last_step"], steps["last_value"]) == (2, 2, 5.0)


async def test_buckets_of_steps_are_aligned_and_leave_empty_ones_out(lab: Lab) -> None:
    run = await lab.new_run()
    url = run_url(run["id"], "metrics", "aggregated")
    assert (await lab.viewer.get(url)).json() == {"buckets": [], "bucket_size": 1}
    await add(lab, run["id"], [{"name": "loss", "value": step, "step": step} for step in (0, 9, 10, 35)])
    answer = (await lab.viewer.get(url, params={"bucket_size": 10})).json()
    keys = ("step_from", "step_to", "count", "avg", "min", "max")
    assert [tuple(bucket[key] for key in keys) for bucket in answer["buckets"]] == [
        (0, 9, 2, 4.5, 0.0, 9.0),
        (10, 19, 1, 10.0, 10.0, 10.0),
        (30, 39, 1, 35.0, 35.0, 35.0),
    ]
    assert (answer["bucket_size"], answer["buckets"][0]["name"]) == (10, "loss")
    await add(lab, run["id"], [{"name": "loss", "value": 1, "step": STEP_MAX}])
    whole = (await lab.viewer.get(url)).json()
    assert [bucket["count"] for bucket in whole["buckets"]] == [4, 1]


async def test_more_buckets_than_an_answer_holds_are_refused(lab: Lab) -> None:
    run = await lab.new_run()
    await add(lab, run["id"], [{"name": "a", "value": 1, "step": step} for step in range(POINTS_MAX)])
    await add(lab, run["id"], [{"name": "b", "value": 1}])
    url = run_url(run["id"], "metrics", "aggregated")
    answer = await lab.viewer.get(url, params={"bucket_size": 1})
    assert (answer.status_code, fields_of(answer)) == (422, ["bucket_size"])
    one = (await lab.viewer.get(url, params={"bucket_size": 1, "name": "a"})).json()
    assert len(one["buckets"]) == POINTS_MAX == BUCKETS_MAX


@given(st.integers(0, STEP_MAX), st.integers(0, STEP_MAX))
def test_by_default_there_are_five_hundred_buckets_at_most(one: int, other: int) -> None:
    first, last = sorted((one, other))
    size = routes._default_size((first, last))
    assert last // size - first // size + 1 <= 500
    assert size == 1 or (last - first + 1) / size > 499 / 2


async def test_what_is_no_metric_is_refused_by_field(lab: Lab) -> None:
    run = await lab.new_run()
    url = run_url(run["id"], "metrics")
    point = {"name": "loss", "value": 1}
    for body, field in (
        ({}, ""),
        ({"name": "loss"}, ""),
        (point | {"metrics": [point]}, ""),
        ({"metrics": []}, "metrics"),
        ({"metrics": [point] * (POINTS_MAX + 1)}, "metrics"),
        ({"metrics": [point, {"name": "loss"}]}, "metrics.1.value"),
        ({"metrics": [point | {"run_id": str(uuid4())}]}, "metrics.0.run_id"),
        (point | {"run_id": str(uuid4())}, "run_id"),
        (point | {"project_id": str(uuid4())}, "project_id"),
        (point | {"step": -1}, "step"),
        (point | {"step": STEP_MAX + 1}, "step"),
        (point | {"value": "x"}, "value"),
        (point | {"value": 1.7e308}, "value"),
        (point | {"name": "a\0"}, "name"),
        (point | {"timestamp": "soon"}, "timestamp"),
        (point | {"unit": "V"}, "unit"),
    ):
        answer = await lab.editor.post(url, json=body)
        assert (answer.status_code, fields_of(answer)) == (422, [field]), body
    for value in (math.nan, math.inf):
        content = f'{{"name": "loss", "value": {value}}}'.replace("nan", "NaN").replace("inf", "Infinity")
        answer = await lab.editor.post(url, content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 422)
    assert (await lab.viewer.get(url)).json()["total"] == 0


async def test_who_may_not_add_or_see_metrics(lab: Lab) -> None:
    run = await lab.new_run()
    url = run_url(run["id"], "metrics")
    point = {"name": "loss", "value": 1}
    assert (await lab.viewer.post(url, json=point)).status_code == 403
    assert (await lab.stranger.post(url, json=point)).status_code == 404
    for part in ("", "/summary", "/aggregated"):
        assert (await lab.stranger.get(url + part)).status_code == 404
        assert (await lab.hub.client().get(url + part)).status_code == 401
    await lab.set_status(run["id"], "archived")
    assert refused(await lab.editor.post(url, json=point)) == (409, "run_archived")


async def test_a_key_adds_a_number_once(lab: Lab) -> None:
    run = await lab.new_run()
    url = run_url(run["id"], "metrics")
    for _ in range(3):
        await lab.editor.post(url, json={"name": "loss", "value": 1}, headers={"Idempotency-Key": "k"})
    assert (await lab.viewer.get(url)).json()["total"] == 1
