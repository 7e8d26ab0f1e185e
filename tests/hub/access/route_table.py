"""Who may call what: the status that each caller gets, and what is sent.

A new route gets a line in `TABLE`; where it needs a body, a query or a state of things other than the laid-out one
(`tests/hub/access/world.py`), an entry in `REQUESTS`. Placeholders are those of the path, and whatever else the world
names. The status is that of a request which is right in all but, perhaps, who makes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.hub.access.world import CALLERS

TABLE = """
#                                                            anonymous stranger viewer editor owner admin sensor agent
GET    /api/v1/agents                                                               401 200 200 200 200 200 401 401
GET    /api/v1/certificate-key                                                      200 200 200 200 200 200 200 200
POST   /api/v1/agents/enrol                                                         200 200 200 200 200 200 200 200
POST   /api/v1/agents/enrolment-codes                                               401 404 403 201 201 404 401 401
GET    /api/v1/agents/{agent_id}                                                    401 404 200 200 200 404 401 401
GET    /api/v1/agents/{agent_id}/bindings                                           401 404 200 200 200 404 401 401
GET    /api/v1/agents/{agent_id}/epochs                                             401 404 200 200 200 404 401 401
POST   /api/v1/agents/{agent_id}/epochs/{epoch}/close                               401 404 403 403 200 404 401 401
POST   /api/v1/agents/{agent_id}/import                                             401 404 403 403 422 404 401 401
POST   /api/v1/agents/{agent_id}/retire                                             401 404 403 403 200 404 401 401
POST   /api/v1/agents/{agent_id}/revoke                                             401 404 403 403 200 404 401 401
GET    /api/v1/backfill-tasks                                                       401 404 200 200 200 404 401 401
GET    /api/v1/backfill-tasks/{task_id}                                             401 404 200 200 200 404 401 401
POST   /api/v1/backfill-tasks/{task_id}/cancel                                      401 404 403 200 200 404 401 401
GET    /api/v1/events                                                               401 404 403 403 200 404 401 401
GET    /api/v1/events/stream                                                        401 404 200 200 200 404 401 401
GET    /api/v1/experiments                                                          401 404 200 200 200 404 401 401
POST   /api/v1/experiments                                                          401 404 403 201 201 404 401 401
GET    /api/v1/experiments/export                                                   401 404 200 200 200 404 401 401
GET    /api/v1/experiments/search                                                   401 404 200 200 200 404 401 401
GET    /api/v1/experiments/{experiment_id}                                          401 404 200 200 200 404 401 401
PATCH  /api/v1/experiments/{experiment_id}                                          401 404 403 200 200 404 401 401
DELETE /api/v1/experiments/{experiment_id}                                          401 404 403 204 204 404 401 401
POST   /api/v1/experiments/{experiment_id}/archive                                  401 404 403 200 200 404 401 401
POST   /api/v1/experiments/{experiment_id}/compare                                  401 404 200 200 200 404 401 401
GET    /api/v1/experiments/{experiment_id}/runs                                     401 404 200 200 200 404 401 401
POST   /api/v1/experiments/{experiment_id}/runs                                     401 404 403 201 201 404 401 401
GET    /api/v1/experiments/{experiment_id}/runs/export                              401 404 200 200 200 404 401 401
GET    /api/v1/runs/{run_id}                                                        401 404 200 200 200 404 401 401
PATCH  /api/v1/runs/{run_id}                                                        401 404 403 200 200 404 401 401
DELETE /api/v1/runs/{run_id}                                                        401 404 403 204 204 404 401 401
GET    /api/v1/runs/{run_id}/annotations                                            401 404 200 200 200 404 401 401
POST   /api/v1/runs/{run_id}/annotations                                            401 404 403 201 201 404 401 401
DELETE /api/v1/runs/{run_id}/annotations/{annotation_id}                            401 404 403 204 204 404 401 401
GET    /api/v1/runs/{run_id}/artifacts                                              401 404 200 200 200 404 401 401
POST   /api/v1/runs/{run_id}/artifacts                                              401 404 403 201 201 404 401 401
GET    /api/v1/runs/{run_id}/artifacts/{artifact_id}                                401 404 200 200 200 404 401 401
PATCH  /api/v1/runs/{run_id}/artifacts/{artifact_id}                                401 404 403 200 200 404 401 401
DELETE /api/v1/runs/{run_id}/artifacts/{artifact_id}                                401 404 403 204 204 404 401 401
POST   /api/v1/runs/{run_id}/artifacts/{artifact_id}/approve                        401 404 403 403 200 404 401 401
DELETE /api/v1/runs/{run_id}/artifacts/{artifact_id}/approve                        401 404 403 403 200 404 401 401
GET    /api/v1/runs/{run_id}/artifacts/{artifact_id}/content                        401 404 200 200 200 404 401 401
HEAD   /api/v1/runs/{run_id}/artifacts/{artifact_id}/content                        401 404 200 200 200 404 401 401
PUT    /api/v1/runs/{run_id}/artifacts/{artifact_id}/content                        401 404 403 200 200 404 401 401
GET    /api/v1/runs/{run_id}/capture-sessions                                       401 404 200 200 200 404 401 401
POST   /api/v1/runs/{run_id}/capture-sessions                                       401 404 403 201 201 404 401 401
GET    /api/v1/runs/{run_id}/capture-sessions/{session_id}                          401 404 200 200 200 404 401 401
PATCH  /api/v1/runs/{run_id}/capture-sessions/{session_id}                          401 404 403 200 200 404 401 401
DELETE /api/v1/runs/{run_id}/capture-sessions/{session_id}                          401 404 403 204 204 404 401 401
POST   /api/v1/runs/{run_id}/capture-sessions/{session_id}/backfill/complete        401 404 403 200 200 404 401 401
POST   /api/v1/runs/{run_id}/capture-sessions/{session_id}/backfill/start           401 404 403 200 200 404 401 401
GET    /api/v1/runs/{run_id}/capture-sessions/{session_id}/certificate              401 404 200 200 200 404 401 401
GET    /api/v1/runs/{run_id}/capture-sessions/{session_id}/certificate/versions     401 404 200 200 200 404 401 401
GET    /api/v1/runs/{run_id}/capture-sessions/{session_id}/events                   401 404 200 200 200 404 401 401
POST   /api/v1/runs/{run_id}/capture-sessions/{session_id}/stop                     401 404 403 200 200 404 401 401
GET    /api/v1/runs/{run_id}/events                                                 401 404 200 200 200 404 401 401
GET    /api/v1/runs/{run_id}/metrics                                                401 404 200 200 200 404 401 401
POST   /api/v1/runs/{run_id}/metrics                                                401 404 403 201 201 404 401 401
GET    /api/v1/runs/{run_id}/metrics/aggregated                                     401 404 200 200 200 404 401 401
GET    /api/v1/runs/{run_id}/metrics/summary                                        401 404 200 200 200 404 401 401
GET    /api/v1/runs/{run_id}/sensors                                                401 404 200 200 200 404 401 401
PUT    /api/v1/runs/{run_id}/sensors                                                401 404 403 200 200 404 401 401
POST   /api/v1/runs:batch-status                                                    401 404 403 200 200 404 401 401
POST   /api/v1/runs:bulk-tags                                                       401 404 403 200 200 404 401 401
GET    /api/v1/sensors                                                              401 404 200 200 200 404 401 401
POST   /api/v1/sensors                                                              401 404 403 201 201 404 401 401
GET    /api/v1/sensors/status-summary                                               401 404 200 200 200 404 401 401
GET    /api/v1/sensors/{sensor_id}                                                  401 404 200 200 200 404 401 401
PATCH  /api/v1/sensors/{sensor_id}                                                  401 404 403 200 200 404 401 401
DELETE /api/v1/sensors/{sensor_id}                                                  401 404 403 204 204 404 401 401
GET    /api/v1/sensors/{sensor_id}/conversion-profiles                              401 404 200 200 200 404 401 401
POST   /api/v1/sensors/{sensor_id}/conversion-profiles                              401 404 403 201 201 404 401 401
POST   /api/v1/sensors/{sensor_id}/conversion-profiles/{profile_id}/backfill        401 404 403 202 202 404 401 401
POST   /api/v1/sensors/{sensor_id}/conversion-profiles/{profile_id}/deprecate       401 404 403 403 200 404 401 401
POST   /api/v1/sensors/{sensor_id}/conversion-profiles/{profile_id}/preview         401 404 200 200 200 404 401 401
POST   /api/v1/sensors/{sensor_id}/conversion-profiles/{profile_id}/publish         401 404 403 403 200 404 401 401
GET    /api/v1/sensors/{sensor_id}/previous-profiles                                401 404 200 200 200 404 401 401
GET    /api/v1/sensors/{sensor_id}/error-log                                        401 404 200 200 200 404 401 401
GET    /api/v1/sensors/{sensor_id}/heartbeat-history                                401 404 200 200 200 404 401 401
GET    /api/v1/sensors/{sensor_id}/limits                                           401 404 200 200 200 404 401 401
PUT    /api/v1/sensors/{sensor_id}/limits                                           401 404 403 200 200 404 401 401
GET    /api/v1/sensors/{sensor_id}/projects                                         401 404 200 200 200 404 401 401
POST   /api/v1/sensors/{sensor_id}/projects                                         401 404 403 201 201 404 401 401
DELETE /api/v1/sensors/{sensor_id}/projects/{other_id}                              401 404 403 204 204 404 401 401
POST   /api/v1/sensors/{sensor_id}/rotate-token                                     401 404 403 200 200 404 401 401
GET    /api/v1/set-aside                                                            401 404 403 403 200 404 401 401
POST   /api/v1/set-aside/{aside_id}/discard                                         401 404 403 403 200 404 401 401
POST   /api/v1/set-aside/{aside_id}/release                                         401 404 403 403 200 404 401 401
POST   /api/v1/telemetry                                                            401 401 401 401 401 401 202 401
GET    /api/v1/telemetry/aggregated                                                 401 404 200 200 200 404 200 401
GET    /api/v1/telemetry/aligned                                                    401 404 200 200 200 404 200 401
GET    /api/v1/telemetry/export                                                     401 404 200 200 200 404 200 401
GET    /api/v1/telemetry/query                                                      401 404 200 200 200 404 200 401
GET    /api/v1/telemetry/stream                                                     401 404 200 200 200 404 200 401
GET    /api/v1/users/search                                                         401 200 200 200 200 200 401 401
GET    /api/v1/webhooks                                                             401 404 403 403 200 404 401 401
POST   /api/v1/webhooks                                                             401 404 403 403 201 404 401 401
GET    /api/v1/webhooks/deliveries                                                  401 404 403 403 200 404 401 401
POST   /api/v1/webhooks/deliveries/{delivery_id}:retry                              401 404 403 403 200 404 401 401
GET    /api/v1/webhooks/{webhook_id}                                                401 404 403 403 200 404 401 401
PATCH  /api/v1/webhooks/{webhook_id}                                                401 404 403 403 200 404 401 401
DELETE /api/v1/webhooks/{webhook_id}                                                401 404 403 403 204 404 401 401
GET    /asyncapi.yaml                                                               200 200 200 200 200 200 200 200
GET    /auth/broker-credentials                                                     401 200 200 200 200 200 401 401
POST   /auth/broker-credentials                                                     401 201 201 201 201 201 401 401
DELETE /auth/broker-credentials/{credential_id}                                     401 204 204 204 204 204 401 401
POST   /auth/change-password                                                        401 200 200 200 200 200 401 401
GET    /auth/invitations                                                            401 200 200 200 200 200 401 401
POST   /auth/invitations                                                            401 404 403 403 201 404 401 401
DELETE /auth/invitations/{invitation_id}                                            401 404 404 404 204 404 401 401
POST   /auth/login                                                                  200 200 200 200 200 200 200 200
POST   /auth/logout                                                                 204 204 204 204 204 204 204 204
GET    /auth/me                                                                     401 200 200 200 200 200 401 401
POST   /auth/refresh                                                                401 200 200 200 200 200 401 401
POST   /auth/register                                                               201 201 201 201 201 201 201 201
POST   /auth/sign-in-links                                                          401 201 201 201 201 201 401 401
GET    /auth/tokens                                                                 401 200 200 200 200 200 401 401
POST   /auth/tokens                                                                 401 201 201 201 201 201 401 401
DELETE /auth/tokens/{token_id}                                                      401 204 204 204 204 204 401 401
GET    /auth/users                                                                  401 403 403 403 403 200 401 401
GET    /auth/users/{user_id}                                                        401 403 403 403 403 200 401 401
PATCH  /auth/users/{user_id}                                                        401 403 403 403 403 200 401 401
GET    /health                                                                      200 200 200 200 200 200 200 200
GET    /health/live                                                                 200 200 200 200 200 200 200 200
GET    /health/ready                                                                503 503 503 503 503 503 503 503
GET    /metrics                                                                     200 200 200 200 200 200 200 200
GET    /openapi.json                                                                200 200 200 200 200 200 200 200
GET    /openapi.yaml                                                                200 200 200 200 200 200 200 200
GET    /projects                                                                    401 200 200 200 200 200 401 401
POST   /projects                                                                    401 201 201 201 201 201 401 401
GET    /projects/{project_id}                                                       401 404 200 200 200 404 401 401
PUT    /projects/{project_id}                                                       401 404 403 403 200 404 401 401
DELETE /projects/{project_id}                                                       401 404 403 403 204 404 401 401
GET    /projects/{project_id}/members                                               401 404 200 200 200 404 401 401
POST   /projects/{project_id}/members                                               401 404 403 403 201 404 401 401
DELETE /projects/{project_id}/members/{user_id}                                     401 404 204 403 204 404 401 401
PUT    /projects/{project_id}/members/{user_id}/role                                401 404 403 403 200 404 401 401
GET    /projects/{project_id}/policies                                              401 404 200 200 200 404 401 401
PUT    /projects/{project_id}/policies                                              401 404 403 403 200 404 401 401
GET    /sign-in                                                                     401 401 401 401 401 401 401 401
"""


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent.

    Attributes:
        before: SQL that is run first.
        first: another row, which the owner calls first.
    """

    json: Any = None
    query: dict[str, str] = field(default_factory=dict)
    before: str = ""
    first: str = ""
    content: bytes | None = None


def _json(**fields: Any) -> Request:
    return Request(json=fields)


_STOPPED = "update capture_sessions set status = 'succeeded', stopped_at = started_at where id = '{session_id}'"
_NO_RUN = "delete from runs where experiment_id = '{experiment_id}'"
_NO_SESSION = "delete from capture_sessions where id = '{session_id}'"
_PUBLISHED = (
    "update conversion_profiles set status = 'active', published_at = now() where id = '{profile_id}';"
    "update backfill_tasks set status = 'succeeded' where id = '{task_id}'"
)
_KEPT_HERE = (
    "update artifacts set uri = '/api/v1/runs/{run_id}/artifacts/{artifact_id}/content' where id = '{artifact_id}'"
)

REQUESTS: dict[str, Request] = {
    "POST /auth/register": _json(username="new-{mark}", email="new-{mark}@lab", password="Password1"),
    "POST /auth/login": _json(username="owner-{mark}", password="Password1"),
    "POST /auth/refresh": _json(refresh_token="{refresh_token}"),
    "POST /auth/change-password": _json(current_password="Password1", new_password="Password2"),
    "POST /auth/broker-credentials": _json(name="dashboard"),
    "POST /auth/tokens": _json(name="script"),
    "POST /auth/invitations": _json(project_id="{project_id}", role="viewer"),
    "PATCH /auth/users/{user_id}": _json(password_change_required=True),
    "GET /api/v1/users/search": Request(query={"q": "{mark}"}),
    "POST /projects": _json(name="mine"),
    "PUT /projects/{project_id}": _json(description="new"),
    "DELETE /projects/{project_id}": Request(
        before="delete from experiments where project_id = '{project_id}';"
        "delete from webhook_subscriptions where project_id = '{project_id}';"
        "delete from agents where project_id = '{project_id}';"
        "delete from sensor_projects where project_id = '{project_id}';"
        "delete from sensors where project_id = '{project_id}'"
    ),
    "POST /projects/{project_id}/members": _json(user_id="{stranger_id}"),
    "PUT /projects/{project_id}/members/{user_id}/role": _json(role="editor"),
    "PUT /projects/{project_id}/policies": _json(viewers_see_raw=False),
    "POST /api/v1/agents/enrol": _json(code="{code}", agent_id="{new_agent_id}", name="new"),
    "POST /api/v1/agents/enrolment-codes": _json(project_id="{project_id}", name="pc"),
    "POST /api/v1/agents/{agent_id}/revoke": _json(mode="compromised", reason="stolen"),
    "POST /api/v1/agents/{agent_id}/epochs/{epoch}/close": _json(reason="the disk is lost"),
    "GET /api/v1/events": Request(query={"project_id": "{project_id}"}),
    "GET /api/v1/events/stream": Request(query={"project_id": "{project_id}", "idle_timeout_seconds": "0.05"}),
    "POST /api/v1/experiments": _json(project_id="{project_id}", name="new"),
    "GET /api/v1/experiments": Request(query={"project_id": "{project_id}"}),
    "GET /api/v1/experiments/search": Request(query={"q": "E", "project_id": "{project_id}"}),
    "GET /api/v1/experiments/export": Request(query={"format": "json", "project_id": "{project_id}"}),
    "PATCH /api/v1/experiments/{experiment_id}": _json(description="new"),
    "DELETE /api/v1/experiments/{experiment_id}": Request(before=_NO_RUN),
    "POST /api/v1/experiments/{experiment_id}/archive": Request(before=_NO_RUN),
    "POST /api/v1/experiments/{experiment_id}/compare": _json(run_ids=["{run_id}", "{other_run_id}"]),
    "POST /api/v1/experiments/{experiment_id}/runs": _json(name="new"),
    "GET /api/v1/experiments/{experiment_id}/runs/export": Request(query={"format": "csv"}),
    "PATCH /api/v1/runs/{run_id}": _json(notes="new"),
    "DELETE /api/v1/runs/{run_id}": Request(before=_STOPPED),
    "POST /api/v1/runs:batch-status": Request(json={"run_ids": ["{run_id}"], "status": "failed"}, before=_STOPPED),
    "POST /api/v1/runs:bulk-tags": Request(json={"run_ids": ["{run_id}"], "add_tags": ["good"]}),
    "POST /api/v1/runs/{run_id}/annotations": _json(text="look"),
    "POST /api/v1/runs/{run_id}/artifacts": _json(type="plot", uri="https://files.example/other.png"),
    "PATCH /api/v1/runs/{run_id}/artifacts/{artifact_id}": _json(type="photo"),
    "PUT /api/v1/runs/{run_id}/artifacts/{artifact_id}/content": Request(content=b"content", before=_KEPT_HERE),
    "HEAD /api/v1/runs/{run_id}/artifacts/{artifact_id}/content": Request(
        first="PUT /api/v1/runs/{run_id}/artifacts/{artifact_id}/content"
    ),
    "GET /api/v1/runs/{run_id}/artifacts/{artifact_id}/content": Request(
        first="PUT /api/v1/runs/{run_id}/artifacts/{artifact_id}/content"
    ),
    "POST /api/v1/runs/{run_id}/metrics": _json(name="loss", value=1.0, step=1),
    "GET /api/v1/runs/{run_id}/metrics/aggregated": Request(query={"name": "loss"}),
    "PUT /api/v1/runs/{run_id}/sensors": _json(sensor_ids=["{sensor_id}"]),
    "POST /api/v1/runs/{run_id}/capture-sessions": Request(json={}, before=_NO_SESSION),
    "PATCH /api/v1/runs/{run_id}/capture-sessions/{session_id}": _json(notes="new"),
    "DELETE /api/v1/runs/{run_id}/capture-sessions/{session_id}": Request(before=_STOPPED),
    "POST /api/v1/runs/{run_id}/capture-sessions/{session_id}/backfill/start": Request(before=_STOPPED),
    "POST /api/v1/runs/{run_id}/capture-sessions/{session_id}/backfill/complete": Request(
        before=f"{_STOPPED}; update capture_sessions set status = 'backfilling', status_before_backfill = 'succeeded' "
        "where id = '{session_id}'"
    ),
    "POST /api/v1/sensors": _json(project_id="{project_id}", name="new"),
    "GET /api/v1/sensors": Request(query={"project_id": "{project_id}"}),
    "GET /api/v1/sensors/status-summary": Request(query={"project_id": "{project_id}"}),
    "PATCH /api/v1/sensors/{sensor_id}": _json(type="flow"),
    "POST /api/v1/sensors/{sensor_id}/conversion-profiles": _json(
        version="2", kind="linear", payload={"a": 2.0, "b": 0.0}
    ),
    "POST /api/v1/sensors/{sensor_id}/conversion-profiles/{profile_id}/backfill": Request(before=_PUBLISHED),
    "GET /api/v1/backfill-tasks": Request(query={"project_id": "{project_id}"}),
    "PUT /api/v1/sensors/{sensor_id}/limits": _json(limits=[{"high": 80.0}]),
    "POST /api/v1/sensors/{sensor_id}/projects": Request(
        json={"project_id": "{other_project_id}"},
        before="delete from sensor_projects where project_id = '{other_project_id}'",
    ),
    "GET /api/v1/set-aside": Request(query={"project_id": "{project_id}"}),
    "POST /api/v1/set-aside/{aside_id}/discard": _json(reason="a test"),
    "POST /api/v1/telemetry": _json(
        sensor_id="{sensor_id}", readings=[{"timestamp": "2026-03-02T12:00:00Z", "raw_value": 1.0}]
    ),
    "GET /api/v1/telemetry/query": Request(query={"sensor_id": "{sensor_id}"}),
    "GET /api/v1/telemetry/aligned": Request(query={"sensor_id": "{sensor_id}", "interval": "1m"}),
    "GET /api/v1/telemetry/export": Request(query={"sensor_id": "{sensor_id}"}),
    "GET /api/v1/telemetry/aggregated": Request(query={"sensor_id": "{sensor_id}"}),
    "GET /api/v1/telemetry/stream": Request(query={"sensor_id": "{sensor_id}", "idle_timeout_seconds": "0.05"}),
    "GET /api/v1/webhooks": Request(query={"project_id": "{project_id}"}),
    "POST /api/v1/webhooks": _json(
        project_id="{project_id}", target_url="https://93.184.216.34/", event_types=["run.started"]
    ),
    "GET /api/v1/webhooks/deliveries": Request(query={"project_id": "{project_id}"}),
    "PATCH /api/v1/webhooks/{webhook_id}": _json(is_active=False),
}
"""What is sent; an entry that is missing stands for a bare request."""

NAMED = {"user_id": "{viewer_id}", "other_id": "{other_project_id}"}
"""What stands for parameters of paths that are called otherwise than in the world."""
REFUSED = frozenset({401, 403, 404})


def rows() -> dict[str, tuple[int, ...]]:
    """The statuses of each `METHOD path`, in the order of `CALLERS`."""
    found: dict[str, tuple[int, ...]] = {}
    for line in TABLE.strip().splitlines():
        if not line.startswith("#"):
            method, path, *statuses = line.split()
            assert len(statuses) == len(CALLERS), line
            assert f"{method} {path}" not in found, line
            found[f"{method} {path}"] = tuple(map(int, statuses))
    return found
