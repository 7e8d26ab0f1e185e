"""Runs over HTTP: made, shown, changed, removed, listed, exported."""

from __future__ import annotations

import asyncio
import csv
import io
from typing import Any
from uuid import uuid4

from hub.database.pool import acquire
from tests.hub.runs.conftest import Lab, fields_of, refused, run_url

SHOWN = {
    "id", "experiment_id", "project_id", "created_by", "name", "params", "git_sha", "env", "notes", "tags", "metadata",
    "status", "started_at", "finished_at", "duration_seconds", "auto_complete_after_minutes", "created_at",
    "updated_at", "version",
}  # fmt: skip

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "name"),
    ({"name": "x" * 201}, "name"),
    ({"name": 1}, "name"),
    ({"name": "a\0b"}, "name"),
    ({"params": []}, "params"),
    ({"params": {"a": "\0"}}, "params"),
    ({"params": {"a": 1 << 70}}, "params"),
    ({"metadata": {"a": "x" * 70_000}}, "metadata"),
    ({"git_sha": "no sha\n"}, "git_sha"),
    ({"env": "x" * 201}, "env"),
    ({"notes": "x" * 10_001}, "notes"),
    ({"tags": ["a,b"]}, "tags"),
    ({"tags": [""]}, "tags"),
    ({"tags": "a"}, "tags"),
    ({"status": "done"}, "status"),
    ({"auto_complete_after_minutes": 0}, "auto_complete_after_minutes"),
    ({"auto_complete_after_minutes": 1 << 40}, "auto_complete_after_minutes"),
    ({"started_at": "2026-01-01T00:00:00Z"}, "started_at"),
    ({"duration_seconds": 3}, "duration_seconds"),
    ({"colour": "red"}, "colour"),
]


async def test_a_new_run_is_a_draft_with_all_that_was_said(lab: Lab) -> None:
    said = {
        "name": "first",
        "params": {"temperature": 350.5, "steps": [1, 2]},
        "git_sha": "0a1b2c3",
        "env": "bench 2",
        "notes": "übung",
        "tags": ["steel", "hot"],
        "metadata": {"operator": "Ann"},
        "auto_complete_after_minutes": 90,
    }
    answer = await lab.editor.post(lab.runs_url, json=said)
    assert answer.status_code == 201
    assert answer.headers["etag"] == '"1"'
    run = answer.json()
    assert set(run) == SHOWN
    assert {name: run[name] for name in said} == said
    assert (run["status"], run["started_at"], run["finished_at"], run["duration_seconds"]) == (
        "draft",
        None,
        None,
        None,
    )
    assert (run["experiment_id"], run["project_id"]) == (lab.experiment_id, lab.project_id)
    assert run["created_by"] == (await lab.editor.get("/auth/me")).json()["id"]
    shown = await lab.viewer.get(run_url(run["id"]))
    assert (shown.json(), shown.headers["etag"]) == (run, '"1"')
    assert await lab.event_types(run["id"]) == ["run.created"]


async def test_a_run_may_start_as_it_is_made(lab: Lab) -> None:
    run = await lab.new_run(status="running")
    assert (run["status"], run["version"]) == ("running", 2)
    assert run["started_at"] is not None
    assert await lab.event_types(run["id"]) == ["run.created", "run.status_changed", "run.started"]


async def test_a_run_may_be_made_with_any_status_that_follows_a_draft(lab: Lab) -> None:
    run = await lab.new_run(status="archived")
    assert (run["status"], run["started_at"], run["finished_at"]) == ("archived", None, None)
    assert await lab.event_types(run["id"]) == ["run.created", "run.status_changed", "run.archived"]
    for status in ("succeeded", "failed"):
        answer = await lab.editor.post(lab.runs_url, json={"name": "x", "status": status})
        assert refused(answer) == (409, "invalid_transition")
        assert (answer.json()["from_status"], answer.json()["to_status"]) == ("draft", status)
    assert (await lab.viewer.get(lab.runs_url)).json()["total"] == 1


async def test_the_paths_ids_may_stand_in_the_body_and_no_others(lab: Lab) -> None:
    await lab.new_run(project_id=lab.project_id, experiment_id=lab.experiment_id)
    for field in ("project_id", "experiment_id"):
        answer = await lab.editor.post(lab.runs_url, json={"name": "x", field: str(uuid4())})
        assert (answer.status_code, fields_of(answer)) == (422, [field])
        run = await lab.new_run()
        answer = await lab.editor.patch(run_url(run["id"]), json={"name": "x", field: str(uuid4())})
        assert (answer.status_code, fields_of(answer)) == (422, [field])


async def test_what_a_run_cannot_be_is_refused_by_field(lab: Lab) -> None:
    for wrong, field in WRONG:
        answer = await lab.editor.post(lab.runs_url, json={"name": "first", **wrong})
        assert (answer.status_code, fields_of(answer)[0].split(".")[0]) == (422, field), wrong
    assert (await lab.viewer.get(lab.runs_url)).json()["total"] == 0


async def test_who_may_not_is_told_so(lab: Lab) -> None:
    run = await lab.new_run()
    one = run_url(run["id"])
    calls: list[tuple[str, str, Any]] = [
        ("POST", lab.runs_url, {"name": "x"}),
        ("PATCH", one, {"name": "x"}),
        ("DELETE", one, None),
        ("POST", "/api/v1/runs:batch-status", {"run_ids": [run["id"]], "status": "running"}),
        ("POST", "/api/v1/runs:bulk-tags", {"run_ids": [run["id"]], "set_tags": []}),
    ]
    for method, url, body in calls:
        assert (await lab.viewer.request(method, url, json=body)).status_code == 403, url
    reads = [("GET", lab.runs_url, None), ("GET", f"{lab.runs_url}/export", None), ("GET", one, None)]
    for method, url, body in [*calls, *reads, ("GET", f"{one}/events", None)]:
        assert (await lab.stranger.request(method, url, json=body)).status_code == 404, url
        assert (await lab.hub.client().request(method, url, json=body)).status_code == 401, url


async def test_what_is_not_there_is_not_found(lab: Lab) -> None:
    for url in (run_url(str(uuid4())), f"{run_url(str(uuid4()))}/events", f"/api/v1/experiments/{uuid4()}/runs"):
        assert (await lab.owner.get(url)).status_code == 404
    assert (await lab.owner.patch(run_url(str(uuid4())), json={"name": "x"})).status_code == 404
    assert (await lab.owner.delete(run_url(str(uuid4())))).status_code == 404
    assert (await lab.owner.get(run_url("nonsense"))).status_code == 422


async def test_an_archived_experiment_takes_no_runs_and_starts_none(lab: Lab) -> None:
    run = await lab.new_run()
    await lab.execute("update experiments set status = 'archived'")
    assert refused(await lab.editor.post(lab.runs_url, json={"name": "x"})) == (409, "experiment_archived")
    answer = await lab.editor.patch(run_url(run["id"]), json={"status": "running"})
    assert refused(answer) == (409, "experiment_archived")
    await lab.set_status(run["id"], "archived")


async def test_a_change_leaves_what_is_not_named(lab: Lab) -> None:
    run = await lab.new_run(notes="old", params={"a": 1}, auto_complete_after_minutes=5)
    answer = await lab.editor.patch(run_url(run["id"]), json={"notes": "new", "auto_complete_after_minutes": None})
    changed = answer.json()
    assert answer.headers["etag"] == '"2"'
    assert changed["updated_at"] > run["updated_at"]
    same = SHOWN - {"notes", "auto_complete_after_minutes", "updated_at", "version"}
    assert {name: changed[name] for name in same} == {name: run[name] for name in same}
    assert (changed["notes"], changed["auto_complete_after_minutes"]) == ("new", None)
    told = (await lab.events(run["id"]))[-1]
    assert told["event_type"] == "run.updated"
    assert told["payload"]["before"] == {"notes": "old", "auto_complete_after_minutes": 5}
    assert told["payload"]["after"] == {"notes": "new", "auto_complete_after_minutes": None}
    assert (told["actor_type"], told["actor_role"]) == ("user", "editor")


async def test_a_change_that_changes_nothing_leaves_version_and_audit(lab: Lab) -> None:
    run = await lab.new_run(tags=["a"], status="running")
    answer = await lab.editor.patch(run_url(run["id"]), json={"name": "first", "tags": ["a"], "status": "running"})
    assert answer.json() == run
    null = await lab.editor.patch(run_url(run["id"]), json={"name": None, "tags": ["a"]})
    assert null.json() == run
    assert len(await lab.events(run["id"])) == 3


async def test_true_is_another_param_than_one(lab: Lab) -> None:
    run = await lab.new_run(params={"a": 1})
    changed = await lab.editor.patch(run_url(run["id"]), json={"params": {"a": True}})
    assert (changed.json()["params"]["a"], changed.json()["version"]) == (True, 2)
    same = await lab.editor.patch(run_url(run["id"]), json={"params": {"a": True}, "metadata": {}})
    assert same.json()["version"] == 2


async def test_an_empty_change_is_refused(lab: Lab) -> None:
    run = await lab.new_run()
    for body in ({}, {"name": None}, {"tags": None}, {"status": None}, {"project_id": None}):
        assert (await lab.editor.patch(run_url(run["id"]), json=body)).status_code == 422, body


async def test_tags_are_told_to_everyone(lab: Lab) -> None:
    run = await lab.new_run(tags=["a", "b"])
    await lab.editor.patch(run_url(run["id"]), json={"tags": ["b", "c", "c"]})
    told = (await lab.events(run["id"]))[-1]
    assert told["event_type"] == "run.tags_updated"
    assert (told["payload"]["tags"], told["payload"]["previous_tags"]) == (["b", "c"], ["a", "b"])
    async with acquire(lab.hub.services.pool) as connection:
        public = await connection.fetch("select event_type from events where is_public order by id")
    assert [row["event_type"] for row in public] == ["run.tags_updated"]


async def test_a_version_that_was_overtaken_is_refused(lab: Lab) -> None:
    run = await lab.new_run()
    one = run_url(run["id"])
    assert (await lab.editor.patch(one, json={"name": "b"}, headers={"If-Match": '"1"'})).status_code == 200
    late = await lab.editor.patch(one, json={"name": "c"}, headers={"If-Match": '"1"'})
    assert (late.status_code, late.headers["etag"]) == (412, '"2"')
    assert (await lab.editor.delete(one, headers={"If-Match": '"1"'})).status_code == 412
    assert (await lab.editor.delete(one, headers={"If-Match": '"2"'})).status_code == 204


async def test_of_two_changes_of_one_version_one_wins(lab: Lab) -> None:
    run = await lab.new_run()
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(
                lab.editor.patch(run_url(run["id"]), json={"name": f"n{number}"}, headers={"If-Match": '"1"'})
            )
            for number in range(8)
        ]
    assert sorted(task.result().status_code for task in tasks) == [200, *[412] * 7]
    assert len(await lab.events(run["id"])) == 2


async def test_fifty_parallel_creates_with_one_key_make_one_run(lab: Lab) -> None:
    body, headers = {"name": "once", "status": "running"}, {"Idempotency-Key": "k-1"}
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(lab.editor.post(lab.runs_url, json=body, headers=headers)) for _ in range(50)]
    answers = [task.result() for task in tasks]
    assert {answer.status_code for answer in answers} == {201}, answers[0].text
    assert len({answer.text for answer in answers}) == 1
    assert (await lab.viewer.get(lab.runs_url)).json()["total"] == 1
    other = await lab.editor.post(lab.runs_url, json={"name": "other"}, headers=headers)
    assert refused(other) == (409, "idempotency_conflict")


async def test_a_removed_run_is_gone_and_the_audit_remembers(lab: Lab) -> None:
    run = await lab.new_run()
    await lab.new_session(run["id"], "draft")
    assert (await lab.editor.delete(run_url(run["id"]))).status_code == 204
    assert (await lab.editor.get(run_url(run["id"]))).status_code == 404
    async with acquire(lab.hub.services.pool) as connection:
        row = await connection.fetchrow("select * from events where event_type = 'run.deleted'")
        assert await connection.fetchval("select count(*) from capture_sessions") == 0
    assert row["payload"]["run"] == run


async def test_a_run_whose_session_records_is_not_removed(lab: Lab) -> None:
    run = await lab.new_run()
    session_id = await lab.new_session(run["id"], "running")
    for status in ("running", "backfilling"):
        await lab.set_sessions(run["id"], status)
        answer = await lab.editor.delete(run_url(run["id"]))
        assert refused(answer) == (409, "active_sessions")
        assert answer.json()["capture_session_ids"] == [session_id]
    await lab.set_sessions(run["id"], "succeeded")
    assert (await lab.editor.delete(run_url(run["id"]))).status_code == 204


async def test_lists_are_filtered_and_paged(lab: Lab) -> None:
    first = await lab.new_run("first", tags=["a"])
    second = await lab.new_run("second", tags=["a", "b"], status="running")
    third = await lab.new_run("third", tags=["b"])
    elsewhere = await lab.new_experiment("Other")
    await lab.editor.post(f"/api/v1/experiments/{elsewhere}/runs", json={"name": "elsewhere"})

    async def names(**query: Any) -> list[str]:
        answer = await lab.viewer.get(lab.runs_url, params=query)
        assert answer.status_code == 200, answer.text
        return [run["name"] for run in answer.json()["runs"]]

    assert await names() == ["third", "second", "first"]
    assert await names(status="running") == ["second"]
    assert await names(tags="a") == ["second", "first"]
    assert await names(tags="b,a") == ["second"]
    assert await names(created_after=second["created_at"]) == ["third", "second"]
    assert await names(created_before=first["created_at"]) == ["first"]
    assert await names(project_id=lab.project_id, tags="a", status="draft") == ["first"]
    assert (await lab.viewer.get(lab.runs_url, params={"project_id": str(uuid4())})).status_code == 404
    answer = (await lab.viewer.get(lab.runs_url, params={"limit": 1, "offset": 1})).json()
    assert answer == {"runs": [second], "total": 3, "page": 2, "page_size": 1}
    assert (await lab.viewer.get(lab.runs_url, params={"page": 1, "page_size": 2})).json()["runs"][0] == third
    for wrong in ({"status": "odd"}, {"created_after": "yesterday"}, {"page": 0}):
        answer = await lab.viewer.get(lab.runs_url, params=wrong)
        assert (answer.status_code, fields_of(answer)) == (422, list(wrong))


async def test_an_export_holds_what_the_filters_leave(lab: Lab) -> None:
    runs = [
        await lab.new_run(f"run {number}", tags=["a"] if number % 2 else [], params={"n": number})
        for number in range(5)
    ]
    whole = await lab.viewer.get(f"{lab.runs_url}/export", params={"format": "json"})
    assert whole.json()["runs"] == runs[::-1]
    some = await lab.viewer.get(f"{lab.runs_url}/export", params={"format": "csv", "tags": "a"})
    rows = list(csv.DictReader(io.StringIO(some.text)))
    assert [row["name"] for row in rows] == ["run 3", "run 1"]
    assert set(rows[0]) == SHOWN
    assert rows[0]["params"] == '{"n":3}'
    assert (await lab.viewer.get(f"{lab.runs_url}/export", params={"format": "xml"})).status_code == 422


async def test_no_cell_of_an_export_is_a_formula(lab: Lab) -> None:
    await lab.new_run("=1+1", notes="@cmd", env="-x", tags=["+1"])
    exported = await lab.viewer.get(f"{lab.runs_url}/export")
    (row,) = csv.DictReader(io.StringIO(exported.text))
    assert (row["name"], row["notes"], row["env"], row["tags"]) == ("'=1+1", "'@cmd", "'-x", "'+1")


async def test_events_of_sessions_and_artifacts_are_among_the_runs(lab: Lab) -> None:
    run, other = await lab.new_run(), await lab.new_run("other")
    session_id = await lab.new_session(run["id"], "draft")
    insert = """
        insert into events (event_type, project_id, subject_type, subject_id, actor_type, payload)
        values ('capture_session.created', $1::uuid, 'capture_session', $2::uuid, 'hub', $3)
    """
    await lab.execute(insert, lab.project_id, session_id, {"run_id": run["id"]})
    await lab.execute("delete from capture_sessions")
    assert await lab.event_types(run["id"]) == ["run.created", "capture_session.created"]
    assert await lab.event_types(other["id"]) == ["run.created"]
    page = (await lab.viewer.get(run_url(run["id"], "events"), params={"limit": 1})).json()
    assert (page["total"], page["page"], page["page_size"], len(page["events"])) == (2, 1, 1, 1)
    assert page["events"][0]["subject_id"] == session_id
