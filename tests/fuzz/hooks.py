"""What schemathesis is told about the hub: ids of living things, whose token goes where, what an error looks like.

Loaded by schemathesis (`SCHEMATHESIS_HOOKS`). The world comes from the file that `LABRELAY_FUZZ_WORLD` names.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from uuid import UUID

import schemathesis
from schemathesis import Case, CheckContext, HookContext, Response

from tests.fuzz.world import DEAD_END, Ids

WORLD: Ids = json.loads(Path(os.environ["LABRELAY_FUZZ_WORLD"]).read_text())
KEPT = 3
"""Nothing is deleted from so many projects, so that requests find something to the end."""
STREAM_S = 0.2
PROBLEM = {"type", "title", "status", "detail", "error", "code", "request_id"}
_PLURALS = {"run_ids": "run_id", "sensor_ids": "sensor_id", "capture_session_ids": "capture_session_id"}


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """Let ids that are drawn be those of living things, mostly; what is no id stays as drawn, since it should fail."""
    number = _number(case.path_parameters)
    first = KEPT if case.method == "DELETE" else 0
    for name, value in case.path_parameters.items():
        case.path_parameters[name] = _living(name, value, number, first)
    if case.path == "/api/v1/agents/{agent_id}/epochs/{epoch}/close" or case.path == "/api/v1/telemetry":
        first = KEPT
    if isinstance(case.body, dict):
        case.body = {name: _in_body(name, value, first) for name, value in case.body.items()}
        if str(case.body.get("target_url", "")).lower().startswith("http"):
            case.body["target_url"] = DEAD_END  # drawn addresses may be those of strangers
    if isinstance(case.query, dict):
        for name, value in case.query.items():
            case.query[name] = _living(name, value, _seed(value), 0)
    if case.path.endswith("/stream"):
        _keep_short(case)
    if case.path == "/api/v1/telemetry":
        _from_a_sensor(case)


def _seed(value: Any) -> int:
    """A number drawn with the id, so that a request is the same each time; odd for what is no id."""
    try:
        return UUID(value).int if isinstance(value, str) else 1
    except ValueError:
        return 1


def _number(parameters: dict[str, Any]) -> int:
    """One number for a path, so that the things in it belong together."""
    return next((_seed(value) for value in parameters.values() if _is_id(value)), 1)


def _is_id(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(UUID(value))
    except ValueError:
        return False


def _living(name: str, value: Any, number: int, first: int) -> Any:
    known = WORLD.get(name)
    if known is None or number % 5 == 0:
        return value
    if not _is_id(value) and not (name == "aside_id" and isinstance(value, int)):
        return value
    return known[first + number // 5 % (len(known) - first)]


def _in_body(name: str, value: Any, first: int) -> Any:
    if name in _PLURALS and isinstance(value, list):
        found = [_living(_PLURALS[name], one, _seed(one), first) for one in value]
        return list(dict.fromkeys(found)) if all(map(_is_id, found)) else found
    return _living(name, value, _seed(value), first)


def _keep_short(case: Case) -> None:
    """A stream without an end in sight ends soon; what is no number stays as drawn."""
    if case.query is None or not isinstance(case.query, dict):
        return
    drawn = case.query.get("idle_timeout_seconds")
    if drawn is None or (isinstance(drawn, int | float) and drawn > STREAM_S):
        case.query["idle_timeout_seconds"] = STREAM_S


def _from_a_sensor(case: Case) -> None:
    """Readings come with the token of the sensor that they name."""
    sensor = case.body.get("sensor_id") if isinstance(case.body, dict) else None
    place = WORLD["sensor_id"].index(sensor) if sensor in WORLD["sensor_id"] else KEPT
    case.headers = dict(case.headers or {}) | {"Authorization": f"Bearer {WORLD['sensor_token'][place]}"}


@schemathesis.check
def every_error_is_a_problem(ctx: CheckContext, response: Response, case: Case) -> bool | None:
    """The same shape whoever raised it, and always with the request's id."""
    if response.status_code < 400 or response.request.method == "HEAD":
        return None
    assert response.headers["content-type"] == ["application/problem+json"], response.headers
    body = response.json()
    assert set(body) >= PROBLEM, body
    assert body["status"] == response.status_code
    assert body["error"] == body["detail"]
    assert body["detail"]
    assert [body["request_id"]] == response.headers["x-request-id"]
    if response.status_code == 422 and body["code"] == "invalid_field" and "errors" in body:
        assert all(set(one) == {"field", "message"} and one["message"] for one in body["errors"]), body
    return None


@schemathesis.check
def every_success_is_documented(ctx: CheckContext, response: Response, case: Case) -> bool | None:
    """The document's `default` is for errors alone."""
    if response.status_code < 400 and response.request.method == case.operation.method.upper():
        assert str(response.status_code) in case.operation.responses.status_codes, response.status_code
    return None
