"""Bodies that repeat the ids of their path are taken; such as name others are refused by field."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.hub.sessions.conftest import Lab

OTHER = "0190e2b4-0000-7000-8000-000000000000"


def ids_of(lab: Lab, run: str) -> dict[str, str]:
    return {"run_id": run, "project_id": lab.project}


def require_named(refused: httpx.Response, field: str) -> None:
    """The body was refused for this field."""
    assert refused.status_code == 422, refused.text
    assert field in refused.text


async def test_a_stop_may_repeat_the_ids_of_its_session(lab: Lab) -> None:
    run = await lab.run((await lab.sensor("oven"),))
    sessions = f"/api/v1/runs/{run}/capture-sessions"
    session = (await lab.owner.post(sessions)).json()
    assert session["status"] == "running", session
    for name in ("run_id", "project_id"):
        refused = await lab.owner.post(f"{sessions}/{session['id']}/stop", json=ids_of(lab, run) | {name: OTHER})
        require_named(refused, name)
    stopped = await lab.owner.post(f"{sessions}/{session['id']}/stop", json=ids_of(lab, run))
    assert stopped.json()["status"] == "succeeded", stopped.text


async def test_a_backfill_takes_the_ids_of_its_session_and_nothing_else(lab: Lab) -> None:
    run = await lab.run((await lab.sensor("oven"),))
    session = await lab.started(run)
    assert (await lab.owner.post(f"{lab.path(session)}/stop", json={})).status_code == 200
    for step, status in (("start", "backfilling"), ("complete", "succeeded")):
        path = f"{lab.path(session)}/backfill/{step}"
        for name in ("run_id", "project_id"):
            require_named(await lab.owner.post(path, json=ids_of(lab, run) | {name: OTHER}), name)
        for wrong in ({"status": "failed"}, {"notes": "late"}, [1]):
            require_named(await lab.owner.post(path, json=wrong), next(iter(wrong)) if isinstance(wrong, dict) else "")
        done = await lab.owner.post(path, json={} if step == "start" else ids_of(lab, run))
        assert (done.status_code, done.json()["status"]) == (200, status), done.text


@pytest.mark.parametrize("body", [{}, None])
async def test_a_start_needs_no_body(lab: Lab, body: dict[str, Any] | None) -> None:
    run = await lab.run((await lab.sensor("oven"),))
    started = await lab.owner.post(f"/api/v1/runs/{run}/capture-sessions", json=body)
    assert started.status_code == 201, started.text


async def test_a_run_may_be_changed_with_its_own_id(lab: Lab) -> None:
    run = await lab.run()
    changed = await lab.owner.patch(f"/api/v1/runs/{run}", json={"name": "Second", **ids_of(lab, run)})
    assert changed.json()["name"] == "Second", changed.text
    refused = await lab.owner.patch(f"/api/v1/runs/{run}", json={"name": "Third", "run_id": OTHER})
    require_named(refused, "run_id")
    empty = await lab.owner.patch(f"/api/v1/runs/{run}", json={"run_id": run})
    assert empty.status_code == 422, "ids alone change nothing"


async def test_a_project_and_its_parts_may_be_changed_with_its_id(lab: Lab) -> None:
    await lab.hub.member("bob")
    path = f"/projects/{lab.project}"
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("PUT", path, {"description": "Ovens"}),
        ("PUT", f"{path}/policies", {"viewers_see_raw": False}),
        ("POST", f"{path}/members", {"username": "bob", "role": "editor"}),
    ]
    for method, url, body in asked:
        refused = await lab.owner.request(method, url, json=body | {"project_id": OTHER})
        require_named(refused, "project_id")
        taken = await lab.owner.request(method, url, json=body | {"project_id": lab.project})
        assert taken.status_code in (200, 201), taken.text
    role = f"{path}/members/{taken.json()['user_id']}/role"
    assert (await lab.owner.put(role, json={"role": "viewer", "project_id": OTHER})).status_code == 422
    assert (await lab.owner.put(role, json={"role": "viewer", "project_id": lab.project})).status_code == 200


async def test_a_publication_may_name_its_project(lab: Lab) -> None:
    profiles = f"/api/v1/sensors/{await lab.sensor('oven')}/conversion-profiles"
    draft = {"version": "1", "kind": "linear", "payload": {"a": 2.0, "b": 0.0}}
    profile = (await lab.owner.post(profiles, json=draft)).json()["id"]
    refused = await lab.owner.post(f"{profiles}/{profile}/publish", json={"project_id": OTHER})
    require_named(refused, "project_id")
    published = await lab.owner.post(f"{profiles}/{profile}/publish", json={"project_id": lab.project})
    assert published.json()["status"] == "active", published.text
