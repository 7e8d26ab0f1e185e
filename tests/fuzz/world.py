"""A world for fuzzing, laid out over HTTP: projects with one of everything, whose ids then stand in drawn requests."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx

Ids = dict[str, list[str]]
"""The ids of living things, by the name that a path or a body gives them."""

DEAD_END = "http://127.0.0.1:9/"
"""Where webhooks go: to nobody, on this machine."""


def lay_out(client: httpx.Client, projects: int) -> Ids:
    """Make so many projects with all that belongs to them. The client belongs to an administrator."""
    found: Ids = {"sensor_token": []}
    for number in range(projects):
        for name, value in _project(client, number).items():
            found.setdefault(name, []).append(value)
    return found


def _project(client: httpx.Client, number: int) -> dict[str, str]:
    project = _post(client, "/projects", {"name": f"Project {number}"})["id"]
    person = {"username": f"person{number}", "email": f"person{number}@lab.example", "password": "Password1"}
    user = _post(client, "/auth/register", person)["user"]["id"]
    _post(client, f"/projects/{project}/members", {"user_id": user, "role": "editor"})
    there = {
        "project_id": project,
        "user_id": user,
        "other_id": _post(client, "/projects", {"name": f"O{number}"})["id"],
    }
    there |= _recorded(client, project, number)
    there |= _access(client, project, number)
    deliveries = client.get("/api/v1/webhooks/deliveries", params={"project_id": project}).json()["deliveries"]
    asides = client.get("/api/v1/set-aside", params={"project_id": project}).json()
    return there | {
        "delivery_id": deliveries[0]["id"] if deliveries else str(uuid4()),
        "aside_id": str(next(iter(asides["set_aside"]), {"id": 1})["id"]),
    }


def _recorded(client: httpx.Client, project: str, number: int) -> dict[str, str]:
    """A sensor, a run and what belongs to it; the session is running in every other project."""
    hook = {"project_id": project, "target_url": DEAD_END, "event_types": ["run.started", "sensor.registered"]}
    webhook = _post(client, "/api/v1/webhooks", hook)["id"]
    made = _post(client, "/api/v1/sensors", {"project_id": project, "name": f"S{number}"})
    sensor, token = made["sensor"]["id"], made["token"]
    draft = {"version": "1", "kind": "linear", "payload": {"a": 2.0, "b": -1.0}}
    profile = _post(client, f"/api/v1/sensors/{sensor}/conversion-profiles", draft)["id"]
    experiment = _post(client, "/api/v1/experiments", {"project_id": project, "name": f"E{number}", "tags": ["a"]})[
        "id"
    ]
    run = _post(client, f"/api/v1/experiments/{experiment}/runs", {"name": f"R{number}"})["id"]
    session = _post(client, f"/api/v1/runs/{run}/capture-sessions", {})["id"]
    for raw in (1.0, 2.0):  # the second is set aside, since it says something else of the same moment
        reading = {"timestamp": "2026-03-02T12:00:00Z", "raw_value": raw}
        body = {"sensor_id": sensor, "capture_session_id": session if raw == 1.0 else None, "readings": [reading]}
        client.post("/api/v1/telemetry", json=body, headers={"Authorization": f"Bearer {token}"}).raise_for_status()
    _post(client, f"/api/v1/runs/{run}/metrics", {"name": "loss", "step": 1, "value": 0.5})
    if number % 2:
        _post(client, f"/api/v1/runs/{run}/capture-sessions/{session}/stop", {})
    return {
        "webhook_id": webhook,
        "subscription_id": webhook,
        "sensor_id": sensor,
        "sensor_token": token,
        "profile_id": profile,
        "experiment_id": experiment,
        "run_id": run,
        "session_id": session,
        "capture_session_id": session,
        "annotation_id": _post(client, f"/api/v1/runs/{run}/annotations", {"text": "look"})["id"],
        "artifact_id": _post(client, f"/api/v1/runs/{run}/artifacts", {"type": "plot", "uri": "s3://lab/plot"})["id"],
    }


def _access(client: httpx.Client, project: str, number: int) -> dict[str, str]:
    code = _post(client, "/api/v1/agents/enrolment-codes", {"project_id": project})["code"]
    agent, dashboard = str(uuid4()), {"name": f"dashboard{number}"}
    guest = _post(client, "/auth/invitations", {"project_id": project, "role": "viewer"})["invitation"]
    _post(client, "/api/v1/agents/enrol", {"code": code, "agent_id": agent, "name": f"pc{number}"})
    return {
        "agent_id": agent,
        "invitation_id": guest["id"],
        "token_id": _post(client, "/auth/tokens", {"name": f"script{number}"})["personal_token"]["id"],
        "credential_id": _post(client, "/auth/broker-credentials", dashboard)["broker_credential"]["id"],
        "epoch": uuid4().hex,
    }


def _post(client: httpx.Client, path: str, body: dict[str, Any]) -> Any:
    answer = client.post(path, json=body)
    assert answer.is_success, f"{path}: {answer.status_code} {answer.text}"
    return answer.json()
