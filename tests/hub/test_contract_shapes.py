"""Lists, objects and errors of the contract, as a running hub gives them: the names of their fields, written out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.servers import Mosquitto
from tests.fixtures.stack import Stack, new_stack
from tests.fuzz.world import lay_out

OBJECTS = {
    "user": "id username email is_active password_change_required created_at",
    "project": "id name description owner_id created_at updated_at",
    "member": "user_id username role created_at",
    "experiment": "id project_id owner_id name description experiment_type tags metadata status archived_at created_at "
    "updated_at",
    "run": "id experiment_id project_id created_by name params git_sha env notes tags metadata status started_at "
    "finished_at duration_seconds auto_complete_after_minutes",
    "session": "id run_id project_id ordinal_number status initiated_by notes started_at stopped_at archived",
    "sensor": "id project_id name type input_unit display_unit status token_preview last_heartbeat active_profile_id "
    "calibration_notes connection_status",
    "profile": "id sensor_id version kind payload status valid_from valid_to created_by published_by",
    "point": "project_id sensor_id signal timestamp raw_value physical_value conversion_status conversion_profile_id "
    "run_id capture_session_id meta ingested_at",
    "bucket": "bucket sensor_id signal capture_session_id sample_count avg_raw min_raw max_raw avg_physical "
    "min_physical max_physical",
    "metric": "run_id name step value timestamp",
    "artifact": "id run_id type uri checksum size metadata approved_by",
    "annotation": "id run_id capture_session_id timestamp text kind created_by",
    "event": "id event_type actor_id actor_role payload created_at",
    "webhook": "id target_url event_types is_active",
    "delivery": "id subscription_id event_type target_url request_body status attempt_count last_error dedup_key "
    "locked_at next_attempt_at",
    "sign-in": "user expires_in refresh_expires_in token_type access_token refresh_token",
    "health": "status service env",
}
SECRETS = ("secret", "password_hash", "token_hash")
PAGE = {"total", "page", "page_size"}
SENSOR = "/api/v1/sensors/{sensor_id}"
RUN = "/api/v1/runs/{run_id}"
SESSION = f"{RUN}/capture-sessions/{{session_id}}"

LISTS = (
    ("/api/v1/experiments", "experiments", "experiment"),
    ("/api/v1/experiments/search?q=E0", "experiments", "experiment"),
    ("/api/v1/experiments/{experiment_id}/runs", "runs", "run"),
    (f"{RUN}/capture-sessions", "capture_sessions", "session"),
    (f"{RUN}/annotations", "annotations", "annotation"),
    (f"{RUN}/artifacts", "artifacts", "artifact"),
    (f"{RUN}/metrics", "metrics", "metric"),
    (f"{RUN}/events", "events", "event"),
    (f"{SESSION}/events", "events", "event"),
    ("/api/v1/sensors", "sensors", "sensor"),
    (f"{SENSOR}/conversion-profiles", "conversion_profiles", "profile"),
    ("/api/v1/webhooks?project_id={project_id}", "webhooks", "webhook"),
    ("/api/v1/webhooks/deliveries?project_id={project_id}", "deliveries", "delivery"),
    ("/api/v1/agents", "agents", None),
    ("/api/v1/users/search?q=person0", "users", None),
)
WHOLE = (
    ("/projects", "projects", "project"),
    ("/projects/{project_id}/members", "members", "member"),
)
ONES = (
    ("/auth/me", "user"),
    ("/projects/{project_id}", "project"),
    ("/api/v1/experiments/{experiment_id}", "experiment"),
    (RUN, "run"),
    (SESSION, "session"),
    (SENSOR, "sensor"),
    ("/health", "health"),
)


@pytest.fixture
def served(tmp_path: Path, database_url: str, mosquitto: Mosquitto) -> Iterator[Stack]:
    """A running hub that lets people register and calls webhooks on this machine."""
    made = new_stack(tmp_path, database_url, mosquitto, mosquitto.port)
    with (tmp_path / "hub.toml").open("a") as file:
        file.write('registration = "open"\nwebhook_allowed_networks = ["127.0.0.0/8"]\n')
    try:
        made.start_hub()
        made.sign_in()
        yield made
    finally:
        made.close()


@pytest.fixture
def get(served: Stack) -> Callable[[str], Any]:
    """Asks for a path whose placeholders stand for what was laid out."""
    names = {name: found[0] for name, found in lay_out(served.http, 1).items()}

    def ask(path: str) -> Any:
        answer = served.http.get(path.format(**names))
        assert answer.is_success, f"{path}: {answer.text}"
        return answer.json()

    return ask


def holds(found: dict[str, Any], kind: str | None, where: str) -> None:
    assert not set(found) & set(SECRETS), where
    if kind is not None:
        assert set(OBJECTS[kind].split()) <= set(found), f"{where}: {set(OBJECTS[kind].split()) - set(found)} missing"


def test_lists_and_objects_have_the_names_of_the_contract(get: Callable[[str], Any]) -> None:
    for path, plural, kind in LISTS:
        page = get(path)
        assert set(page) == {plural} | PAGE, path
        assert (page["page"], page["page_size"]) == (1, 50), path
        assert page["total"] >= len(page[plural]) > 0, path
        holds(page[plural][0], kind, path)
    for path, plural, kind in WHOLE:
        page = get(path)
        assert set(page) == {plural}, path
        holds(page[plural][0], kind, path)
    for path, kind in ONES:
        holds(get(path), kind, path)


def test_readings_are_answered_as_points_and_buckets(get: Callable[[str], Any]) -> None:
    points = get("/api/v1/telemetry/query?sensor_id={sensor_id}")
    assert set(points) == {"points", "next_since_id"}
    assert points["next_since_id"] is None
    holds(points["points"][0], "point", "query")
    buckets = get("/api/v1/telemetry/aggregated?sensor_id={sensor_id}")
    assert set(buckets) == {"buckets", "bucket_interval"}
    assert set(buckets["buckets"][0]) == set(OBJECTS["bucket"].split())


def test_what_is_made_or_changed_is_answered_in_the_form_of_the_contract(served: Stack) -> None:
    project = served.post("/projects", {"name": "Lab"}, status=201)["id"]
    made = served.post("/api/v1/sensors", {"project_id": project, "name": "S"}, status=201)
    assert set(made) == {"sensor", "token"}
    sensor = made["sensor"]["id"]
    assert set(served.post(f"/api/v1/sensors/{sensor}/rotate-token")) == {"sensor", "token"}
    assert set(served.get(f"/api/v1/sensors/{sensor}/projects")) == {"project_ids"}
    experiment = served.post("/api/v1/experiments", {"project_id": project, "name": "E"}, status=201)
    holds(experiment, "experiment", "POST")
    run = served.post(f"/api/v1/experiments/{experiment['id']}/runs", {"name": "R"}, status=201)
    holds(run, "run", "POST")
    tagged = served.post("/api/v1/runs:bulk-tags", {"run_ids": [run["id"]], "add_tags": ["a"]})
    assert set(tagged) == {"runs"}
    session = served.post(f"/api/v1/runs/{run['id']}/capture-sessions", {}, status=201)
    there = f"/api/v1/runs/{run['id']}/capture-sessions/{session['id']}"
    assert served.post(f"{there}/stop")["status"] == "succeeded"
    assert served.post(f"{there}/backfill/start")["status"] == "backfilling"
    completed = served.post(f"{there}/backfill/complete")
    holds(completed, "session", "complete")
    assert completed["attached_records"] == 0
    done = served.post("/api/v1/runs:batch-status", {"run_ids": [run["id"]], "status": "succeeded"})
    assert (set(done), done["runs"][0]["status"]) == ({"runs"}, "succeeded")
    signed_in = served.post("/auth/login", {"username": "admin", "password": "Correct-Horse-1"})
    holds(signed_in, "sign-in", "login")
    with_origin = served.http.post(
        "/auth/login", json={"username": "admin", "password": "Correct-Horse-1"}, headers={"Origin": served.url}
    )
    assert set(with_origin.json()) == {"user", "expires_in", "refresh_expires_in", "token_type"}


def test_errors_have_the_form_of_the_contract(served: Stack) -> None:
    nowhere = "00000000-0000-0000-0000-000000000000"
    for method, path, body, status in (
        ("GET", f"/projects/{nowhere}", None, 404),
        ("POST", "/projects", {"name": ""}, 422),
        ("POST", "/projects", {"name": "x", "colour": "red"}, 422),
        ("PATCH", "/projects", None, 405),
    ):
        answer = served.http.request(method, path, json=body)
        found = answer.json()
        assert (answer.status_code, found["status"]) == (status, status), answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert {"type", "title", "status", "detail", "error", "request_id"} <= set(found)
        assert found["error"] == found["detail"]
        assert found["request_id"] == answer.headers["x-request-id"]
        assert status != 422 or found["errors"][0]["field"] in ("name", "colour")
