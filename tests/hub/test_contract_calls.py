"""The calls of the contract, written out by hand, are all in the document that `labrelay hub openapi` prints."""

from __future__ import annotations

import json
import re

import pytest

from hub import cli

CALLS = """
auth         POST /auth/register
auth         POST /auth/login
auth         POST /auth/refresh
auth         POST /auth/logout
auth         POST /auth/change-password
auth         GET /auth/me
projects     GET /projects
projects     POST /projects
projects     GET /projects/{}
projects     PUT /projects/{}
projects     DELETE /projects/{}
projects     GET /projects/{}/members
projects     POST /projects/{}/members
projects     DELETE /projects/{}/members/{}
projects     PUT /projects/{}/members/{}/role
projects     GET /api/v1/users/search
experiments  GET /api/v1/experiments
experiments  POST /api/v1/experiments
experiments  GET /api/v1/experiments/search
experiments  GET /api/v1/experiments/export
experiments  GET /api/v1/experiments/{}
experiments  PATCH /api/v1/experiments/{}
experiments  DELETE /api/v1/experiments/{}
experiments  POST /api/v1/experiments/{}/archive
experiments  POST /api/v1/experiments/{}/compare
runs         GET /api/v1/experiments/{}/runs
runs         POST /api/v1/experiments/{}/runs
runs         GET /api/v1/experiments/{}/runs/export
runs         GET /api/v1/runs/{}
runs         PATCH /api/v1/runs/{}
runs         DELETE /api/v1/runs/{}
runs         GET /api/v1/runs/{}/events
runs         POST /api/v1/runs:batch-status
runs         POST /api/v1/runs:bulk-tags
runs         GET /api/v1/runs/{}/sensors
runs         PUT /api/v1/runs/{}/sensors
runs         POST /api/v1/runs/{}/metrics
runs         GET /api/v1/runs/{}/metrics
runs         GET /api/v1/runs/{}/metrics/summary
runs         GET /api/v1/runs/{}/metrics/aggregated
runs         POST /api/v1/runs/{}/artifacts
runs         GET /api/v1/runs/{}/artifacts
runs         PUT /api/v1/runs/{}/artifacts/{}/content
runs         GET /api/v1/runs/{}/artifacts/{}/content
runs         POST /api/v1/runs/{}/artifacts/{}/approve
annotations  GET /api/v1/runs/{}/annotations
annotations  POST /api/v1/runs/{}/annotations
annotations  DELETE /api/v1/runs/{}/annotations/{}
sessions     GET /api/v1/runs/{}/capture-sessions
sessions     POST /api/v1/runs/{}/capture-sessions
sessions     GET /api/v1/runs/{}/capture-sessions/{}
sessions     PATCH /api/v1/runs/{}/capture-sessions/{}
sessions     DELETE /api/v1/runs/{}/capture-sessions/{}
sessions     POST /api/v1/runs/{}/capture-sessions/{}/stop
sessions     GET /api/v1/runs/{}/capture-sessions/{}/events
sessions     GET /api/v1/runs/{}/capture-sessions/{}/certificate
sessions     POST /api/v1/runs/{}/capture-sessions/{}/backfill/start
sessions     POST /api/v1/runs/{}/capture-sessions/{}/backfill/complete
sensors      GET /api/v1/sensors
sensors      POST /api/v1/sensors
sensors      GET /api/v1/sensors/{}
sensors      PATCH /api/v1/sensors/{}
sensors      DELETE /api/v1/sensors/{}
sensors      POST /api/v1/sensors/{}/rotate-token
sensors      GET /api/v1/sensors/{}/projects
sensors      POST /api/v1/sensors/{}/projects
sensors      DELETE /api/v1/sensors/{}/projects/{}
sensors      GET /api/v1/sensors/status-summary
sensors      GET /api/v1/sensors/{}/heartbeat-history
sensors      GET /api/v1/sensors/{}/error-log
profiles     GET /api/v1/sensors/{}/conversion-profiles
profiles     POST /api/v1/sensors/{}/conversion-profiles
profiles     POST /api/v1/sensors/{}/conversion-profiles/{}/publish
profiles     POST /api/v1/sensors/{}/conversion-profiles/{}/preview
profiles     POST /api/v1/sensors/{}/conversion-profiles/{}/backfill
profiles     GET /api/v1/backfill-tasks/{}
telemetry    POST /api/v1/telemetry
telemetry    GET /api/v1/telemetry/stream
telemetry    GET /api/v1/telemetry/query
telemetry    GET /api/v1/telemetry/aggregated
telemetry    GET /api/v1/telemetry/export
telemetry    GET /api/v1/telemetry/aligned
webhooks     GET /api/v1/webhooks
webhooks     POST /api/v1/webhooks
webhooks     DELETE /api/v1/webhooks/{}
webhooks     GET /api/v1/webhooks/deliveries
webhooks     POST /api/v1/webhooks/deliveries/{}:retry
events       GET /api/v1/events/stream
agents       POST /api/v1/agents/enrolment-codes
agents       POST /api/v1/agents/enrol
agents       GET /api/v1/agents
agents       GET /api/v1/agents/{}
agents       GET /api/v1/agents/{}/bindings
agents       POST /api/v1/agents/{}/revoke
service      GET /health
service      GET /health/live
service      GET /health/ready
service      GET /metrics
"""
"""Those of the service's documents (`/openapi.json`, …) are not in themselves; the WebSocket is in no OpenAPI."""


def test_every_call_of_the_contract_is_in_the_document(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert cli.main(["openapi"]) == 0
    document = json.loads(capfdbinary.readouterr().out)
    there = {
        f"{method.upper()} {re.sub('{[^}]+}', '{}', path)}"
        for path, operations in document["paths"].items()
        for method in operations
    }
    missing = [line for line in CALLS.strip().splitlines() if line.split(maxsplit=1)[1] not in there]
    assert not missing, "\n".join(missing)
