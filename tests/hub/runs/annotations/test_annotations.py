"""Annotations of a run over HTTP."""

from __future__ import annotations

from uuid import uuid4

from tests.hub.runs.conftest import Lab, fields_of, run_url

ANNOTATION = {
    "id", "run_id", "capture_session_id", "timestamp", "text", "kind", "created_by", "created_at",
}  # fmt: skip


async def test_what_is_noted_is_listed_by_time_and_told(lab: Lab) -> None:
    run = await lab.new_run()
    url = run_url(run["id"], "annotations")
    session_id = await lab.new_session(run["id"], "running")
    late = {"text": "valve stuck", "kind": "fault", "timestamp": "2026-05-01T10:00:00+02:00"}
    first = await lab.editor.post(url, json=late | {"capture_session_id": session_id, "run_id": run["id"]})
    assert first.status_code == 201
    assert set(first.json()) == ANNOTATION
    assert (first.json()["timestamp"], first.json()["capture_session_id"]) == ("2026-05-01T08:00:00Z", session_id)
    assert first.json()["created_by"] == (await lab.editor.get("/auth/me")).json()["id"]
    second = (await lab.editor.post(url, json={"text": "start", "timestamp": "2026-05-01T07:00:00Z"})).json()
    assert second["kind"] == "note"
    listed = (await lab.viewer.get(url)).json()
    assert listed == {"annotations": [second, first.json()], "total": 2, "page": 1, "page_size": 50}
    assert (await lab.event_types(run["id"]))[1:] == ["annotation.created"] * 2
    for query, found in (
        ({"kind": "fault"}, 1),
        ({"capture_session_id": session_id}, 1),
        ({"time_from": "2026-05-01T07:30:00Z"}, 1),
        ({"time_to": "2026-05-01T06:00:00Z"}, 0),
    ):
        assert (await lab.viewer.get(url, params=query)).json()["total"] == found, query


async def test_a_removed_annotation_stays_in_the_audit(lab: Lab) -> None:
    run = await lab.new_run()
    url = run_url(run["id"], "annotations")
    noted = (await lab.editor.post(url, json={"text": "x"})).json()
    assert (await lab.viewer.delete(f"{url}/{noted['id']}")).status_code == 403
    other = await lab.new_run("other")
    assert (await lab.editor.delete(f"{run_url(other['id'])}/annotations/{noted['id']}")).status_code == 404
    assert (await lab.editor.delete(f"{url}/{noted['id']}")).status_code == 204
    assert (await lab.editor.delete(f"{url}/{noted['id']}")).status_code == 404
    told = (await lab.events(run["id"]))[-1]
    assert (told["event_type"], told["payload"]["annotation"]) == ("annotation.deleted", noted)


async def test_an_annotation_outlives_its_session_and_goes_with_its_run(lab: Lab) -> None:
    run = await lab.new_run()
    url = run_url(run["id"], "annotations")
    session_id = await lab.new_session(run["id"], "draft")
    await lab.editor.post(url, json={"text": "x", "capture_session_id": session_id})
    await lab.execute("delete from capture_sessions")
    assert (await lab.viewer.get(url)).json()["annotations"][0]["capture_session_id"] is None
    await lab.set_status(run["id"], "archived")
    assert (await lab.editor.post(url, json={"text": "seen later"})).status_code == 201
    assert (await lab.editor.delete(run_url(run["id"]))).status_code == 204
    assert (await lab.viewer.get(url)).status_code == 404


async def test_what_is_no_annotation_is_refused_by_field(lab: Lab) -> None:
    run, other = await lab.new_run(), await lab.new_run("other")
    foreign = await lab.new_session(other["id"], "draft")
    url = run_url(run["id"], "annotations")
    for body, field in (
        ({}, "text"),
        ({"text": ""}, "text"),
        ({"text": "x" * 10_001}, "text"),
        ({"text": "\0"}, "text"),
        ({"text": "x", "kind": "two words"}, "kind"),
        ({"text": "x", "timestamp": "soon"}, "timestamp"),
        ({"text": "x", "capture_session_id": foreign}, "capture_session_id"),
        ({"text": "x", "run_id": other["id"]}, "run_id"),
        ({"text": "x", "project_id": str(uuid4())}, "project_id"),
        ({"text": "x", "created_by": str(uuid4())}, "created_by"),
    ):
        answer = await lab.editor.post(url, json=body)
        assert (answer.status_code, fields_of(answer)) == (422, [field]), body
    assert (await lab.viewer.post(url, json={"text": "x"})).status_code == 403
    assert (await lab.stranger.post(url, json={"text": "x"})).status_code == 404
    assert (await lab.stranger.get(url)).status_code == 404


async def test_a_key_notes_once(lab: Lab) -> None:
    run = await lab.new_run()
    url = run_url(run["id"], "annotations")
    answers = [await lab.editor.post(url, json={"text": "x"}, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert (await lab.viewer.get(url)).json()["total"] == 1
