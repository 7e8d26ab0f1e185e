"""Many runs at once: all of them or none, and who is to blame."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import httpx

from hub.experiments.fields import TAGS_MAX
from hub.runs.views import RUNS_AT_ONCE_MAX
from tests.hub.runs.conftest import Lab, fields_of, refused, run_url

STATUS = "/api/v1/runs:batch-status"
TAGS = "/api/v1/runs:bulk-tags"


async def runs_of(lab: Lab, number: int, **fields: Any) -> list[str]:
    return [(await lab.new_run(f"run {index}", **fields))["id"] for index in range(number)]


async def shown(lab: Lab, run_ids: list[str]) -> list[dict[str, Any]]:
    return [(await lab.viewer.get(run_url(run_id))).json() for run_id in run_ids]


def offenders_of(answer: httpx.Response) -> dict[str, str]:
    """The code of each."""
    return {offender["run_id"]: offender["code"] for offender in answer.json()["offenders"]}


async def test_all_runs_get_the_status_and_are_answered_in_order(lab: Lab) -> None:
    run_ids = (await runs_of(lab, 3))[::-1]
    answer = await lab.editor.post(STATUS, json={"run_ids": [*run_ids, run_ids[0]], "status": "running"})
    assert answer.status_code == 200
    assert answer.json() == {"runs": await shown(lab, run_ids)}
    assert {run["status"] for run in answer.json()["runs"]} == {"running"}
    for run_id in run_ids:
        assert (await lab.event_types(run_id))[1:] == ["run.status_changed", "run.started"]


async def test_one_run_that_cannot_keeps_all_as_they_are(lab: Lab) -> None:
    run_ids = await runs_of(lab, 3, status="running")
    await lab.set_status(run_ids[1], "failed")
    await lab.new_session(run_ids[2], "running")
    before = await shown(lab, run_ids)
    answer = await lab.editor.post(STATUS, json={"run_ids": run_ids, "status": "succeeded"})
    assert refused(answer) == (409, "conflict")
    assert offenders_of(answer) == {run_ids[1]: "invalid_transition", run_ids[2]: "active_sessions"}
    assert fields_of(answer) == ["run_ids.1", "run_ids.2"]
    assert "cannot become succeeded" in answer.json()["offenders"][0]["reason"]
    assert await shown(lab, run_ids) == before
    assert (await lab.event_types(run_ids[0]))[-1] == "run.started"


async def test_strange_runs_are_not_found_and_foreign_ones_neither(lab: Lab) -> None:
    (run_id,) = await runs_of(lab, 1)
    strange = str(uuid4())
    answer = await lab.editor.post(STATUS, json={"run_ids": [run_id, strange], "status": "running"})
    assert (answer.status_code, offenders_of(answer)) == (404, {strange: "not_found"})
    answer = await lab.stranger.post(STATUS, json={"run_ids": [run_id], "status": "running"})
    assert (answer.status_code, offenders_of(answer)) == (404, {run_id: "not_found"})
    answer = await lab.viewer.post(TAGS, json={"run_ids": [run_id], "set_tags": ["a"]})
    assert (answer.status_code, offenders_of(answer)) == (403, {run_id: "forbidden"})
    assert (await shown(lab, [run_id]))[0]["version"] == 1


async def test_the_same_batch_in_parallel_changes_each_run_once(lab: Lab) -> None:
    run_ids = await runs_of(lab, 6)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(lab.editor.post(STATUS, json={"run_ids": order, "status": "running"}))
            for order in [run_ids, run_ids[::-1], run_ids[3:] + run_ids[:3]] * 4
        ]
    assert {task.result().status_code for task in tasks} == {200}
    for run_id in run_ids:
        assert (await lab.event_types(run_id)).count("run.started") == 1


async def test_of_two_batches_that_part_one_wins_whole(lab: Lab) -> None:
    run_ids = await runs_of(lab, 4, status="running")
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(lab.editor.post(STATUS, json={"run_ids": order, "status": status}))
            for order, status in [(run_ids, "succeeded"), (run_ids[::-1], "failed")] * 3
        ]
    assert sorted(task.result().status_code for task in tasks) == [200] * 3 + [409] * 3
    assert len({run["status"] for run in await shown(lab, run_ids)}) == 1


async def test_batches_and_single_changes_do_not_deadlock(lab: Lab) -> None:
    run_ids = await runs_of(lab, 4)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(lab.editor.post(TAGS, json={"run_ids": order, "add_tags": [str(number)]}))
            for number, order in enumerate([run_ids, run_ids[::-1]] * 6)
        ]
        singles = [group.create_task(lab.editor.patch(run_url(run_id), json={"notes": "x"})) for run_id in run_ids]
    assert {task.result().status_code for task in [*tasks, *singles]} == {200}
    for run in await shown(lab, run_ids):
        assert sorted(run["tags"], key=int) == [str(number) for number in range(12)]


async def test_a_key_makes_a_batch_once(lab: Lab) -> None:
    run_ids = await runs_of(lab, 2)
    body = {"run_ids": run_ids, "add_tags": ["a"]}
    first = await lab.editor.post(TAGS, json=body, headers={"Idempotency-Key": "k"})
    await lab.editor.post(TAGS, json={"run_ids": run_ids, "set_tags": []})
    again = await lab.editor.post(TAGS, json=body, headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.json()) == (200, first.json())
    assert [run["tags"] for run in await shown(lab, run_ids)] == [[], []]


async def test_tags_are_set_added_and_removed(lab: Lab) -> None:
    run_ids = [(await lab.new_run(tags=tags))["id"] for tags in (["a", "b"], ["b"], [])]

    async def change(**how: list[str]) -> list[list[str]]:
        answer = await lab.editor.post(TAGS, json={"run_ids": run_ids, **how})
        assert answer.status_code == 200, answer.text
        return [run["tags"] for run in answer.json()["runs"]]

    assert await change(add_tags=["c"], remove_tags=["b"]) == [["a", "c"], ["c"], ["c"]]
    assert await change(remove_tags=["c"]) == [["a"], [], []]
    assert await change(set_tags=["x", "y"]) == [["x", "y"]] * 3
    assert await change(set_tags=["x", "y"]) == [["x", "y"]] * 3
    assert (await lab.event_types(run_ids[1]))[1:] == ["run.tags_updated"] * 3
    assert await change(set_tags=[]) == [[], [], []]


async def test_a_client_may_write_down_the_tags_that_it_leaves_out(lab: Lab) -> None:
    run_id = (await lab.new_run(tags=["a"]))["id"]
    for said, tags in (
        ({"set_tags": ["b"], "add_tags": [], "remove_tags": []}, ["b"]),
        ({"set_tags": ["c"], "add_tags": None, "remove_tags": None}, ["c"]),
        ({"set_tags": None, "add_tags": ["d"], "remove_tags": []}, ["c", "d"]),
        ({"set_tags": None, "add_tags": None, "remove_tags": ["c"]}, ["d"]),
        ({"set_tags": None, "add_tags": [], "remove_tags": []}, ["d"]),
        ({"set_tags": [], "add_tags": [], "remove_tags": []}, []),
    ):
        answer = await lab.editor.post(TAGS, json={"run_ids": [run_id], **said})
        assert (answer.status_code, answer.json()["runs"][0]["tags"]) == (200, tags), said


async def test_more_tags_than_a_run_may_have_are_refused(lab: Lab) -> None:
    full = (await lab.new_run(tags=[str(number) for number in range(TAGS_MAX)]))["id"]
    empty = (await lab.new_run())["id"]
    answer = await lab.editor.post(TAGS, json={"run_ids": [empty, full], "add_tags": ["more"]})
    assert (answer.status_code, offenders_of(answer)) == (422, {full: "too_many_tags"})
    assert (await shown(lab, [empty]))[0]["tags"] == []


async def test_a_batch_that_says_nothing_or_too_much_is_refused(lab: Lab) -> None:
    (run_id,) = await runs_of(lab, 1)
    one = {"run_ids": [run_id]}
    many = {"run_ids": [str(uuid4()) for _ in range(RUNS_AT_ONCE_MAX + 1)]}
    for body, field in (
        ({"run_ids": [], "set_tags": []}, "run_ids"),
        (many | {"set_tags": []}, "run_ids"),
        ({"run_ids": ["x"], "set_tags": []}, "run_ids.0"),
        (one, ""),
        (one | {"set_tags": None, "add_tags": None, "remove_tags": None}, ""),
        (one | {"set_tags": [], "add_tags": ["a"]}, ""),
        (one | {"set_tags": ["a"], "remove_tags": ["b"]}, ""),
        (one | {"add_tags": ["a"], "remove_tags": ["a"]}, ""),
        (one | {"set_tags": ["a,b"]}, "set_tags"),
        (one | {"status": "running", "set_tags": []}, "status"),
    ):
        answer = await lab.editor.post(TAGS, json=body)
        assert (answer.status_code, fields_of(answer)) == (422, [field]), body
    for body, field in ((many | {"status": "running"}, "run_ids"), (one | {"status": "odd"}, "status")):
        answer = await lab.editor.post(STATUS, json=body)
        assert (answer.status_code, fields_of(answer)) == (422, [field])
