"""Every call of the API takes `project_id` in the query, and what is not in that project is not there."""

from __future__ import annotations

import re
from uuid import uuid4

import pytest

from hub.access.named_project import BY_PATH
from tests.hub.access.calling import call
from tests.hub.access.route_table import REQUESTS, rows
from tests.hub.access.world import CALLERS, World, lay_out
from tests.hub.conftest import Hub

SENSORS = "POST /api/v1/telemetry"
"""The call that takes a sensor's token."""
PARTS = 3
"""Rows are walked in so many tests, so that workers share them."""
ELSEWHERE = {
    "GET /api/v1/agents": 200,
    "GET /api/v1/backfill-tasks": 200,
    "GET /api/v1/certificate-key": 200,
    "GET /api/v1/events": 200,
    "GET /api/v1/events/stream": 200,
    "GET /api/v1/experiments": 200,
    "GET /api/v1/experiments/export": 200,
    "GET /api/v1/experiments/search": 200,
    "GET /api/v1/sensors": 200,
    "GET /api/v1/sensors/status-summary": 200,
    "GET /api/v1/set-aside": 200,
    "GET /api/v1/users/search": 200,
    "GET /api/v1/webhooks": 200,
    "GET /api/v1/webhooks/deliveries": 200,
    "POST /api/v1/agents/enrol": 404,
    "POST /api/v1/agents/enrolment-codes": 422,
    "POST /api/v1/experiments": 422,
    "POST /api/v1/runs:batch-status": 404,
    "POST /api/v1/runs:bulk-tags": 404,
    "POST /api/v1/sensors": 422,
    "POST /api/v1/telemetry": 404,
    "POST /api/v1/webhooks": 422,
    "GET /api/v1/telemetry/aggregated": 404,
    "GET /api/v1/telemetry/aligned": 404,
    "GET /api/v1/telemetry/export": 404,
    "GET /api/v1/telemetry/query": 404,
    "GET /api/v1/telemetry/stream": 404,
}
"""Calls whose path leads to nothing: lists are of the project that is named, be they empty; what is to be made in
another project than the body says is refused; and what the body or the query leads to is not there."""


def calls() -> list[str]:
    """All rows of the API."""
    return sorted(row for row in rows() if row.split()[1].startswith("/api/"))


def leads_to(row: str) -> str:
    """The first parameter of the path."""
    found = re.search(r"{(\w+)}", row)
    return found.group(1) if found else ""


async def new_project(world: World) -> str:
    """Another one of the owner's, with nothing in it."""
    answer = await world.client("owner").post("/projects", json={"name": "elsewhere"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_each_path_of_the_api_leads_to_something_that_is_in_a_project() -> None:
    assert {leads_to(row) for row in calls()} - {""} == set(BY_PATH)
    assert {row for row in calls() if not leads_to(row)} == set(ELSEWHERE)


@pytest.mark.parametrize("part", range(PARTS))
async def test_no_call_refuses_the_project_that_it_is_about(table_hub: Hub, password_hash: str, part: int) -> None:
    wrong, world = [], await lay_out(table_hub, password_hash, "owner")
    for row in calls()[part::PARTS]:
        caller = "sensor" if row == SENSORS else "owner"
        expected = rows()[row][CALLERS.index(caller)]
        answer = await call(world, row, caller, world.names["project_id"])
        if answer.status_code != expected:
            wrong.append(f"{row}: {answer.status_code} instead of {expected}: {answer.text[:200]}")
        if not row.startswith("GET "):
            world = await lay_out(table_hub, password_hash, "owner")
    assert not wrong, "\n".join(wrong)


async def test_what_is_in_another_project_is_not_there(table_hub: Hub, password_hash: str) -> None:
    wrong, world = [], await lay_out(table_hub, password_hash, "owner")
    elsewhere = await new_project(world)
    for row in calls():
        if row in REQUESTS and (REQUESTS[row].before or REQUESTS[row].first):  # which changes the world
            world = await lay_out(table_hub, password_hash, "owner")
            elsewhere = await new_project(world)
        expected = 404 if leads_to(row) else ELSEWHERE[row]
        answer = await call(world, row, "sensor" if row == SENSORS else "owner", elsewhere)
        if answer.status_code != expected:
            wrong.append(f"{row}: {answer.status_code} instead of {expected}: {answer.text[:200]}")
    assert not wrong, "\n".join(wrong)


async def test_what_is_in_another_project_looks_like_what_is_nowhere(table_hub: Hub, password_hash: str) -> None:
    world = await lay_out(table_hub, password_hash, "owner")
    names, owner = world.names, world.client("owner")
    reads = [
        row.split()[1] for row in calls() if row.startswith("GET ") and row.endswith("_id}") and row.count("{") == 1
    ]
    assert len(reads) >= 6
    for path in reads:
        there = await owner.get(world.filled(path), params={"project_id": str(uuid4())})
        nowhere = await owner.get(re.sub(r"{\w+}", str(uuid4()), path), params={"project_id": names["project_id"]})
        assert (there.status_code, there.json()["detail"]) == (404, nowhere.json()["detail"]), path


async def test_readings_of_runs_and_sessions_of_another_project_are_not_there(
    table_hub: Hub, password_hash: str
) -> None:
    world = await lay_out(table_hub, password_hash, "owner")
    names, owner = world.names, world.client("owner")
    elsewhere = await new_project(world)
    for query in (
        {"run_id": names["run_id"]},
        {"capture_session_id": names["session_id"]},
        {"run_id": [names["run_id"], names["other_run_id"]], "interval": "1m"},
    ):
        path = "/api/v1/telemetry/aligned" if "interval" in query else "/api/v1/telemetry/query"
        own = await owner.get(path, params={**query, "project_id": names["project_id"]})
        other = await owner.get(path, params={**query, "project_id": elsewhere})
        assert (own.status_code, other.status_code) == (200, 404), (query, own.text, other.text)


async def test_a_project_that_is_no_id_is_refused_by_name(table_hub: Hub, password_hash: str) -> None:
    world = await lay_out(table_hub, password_hash, "owner")
    for path, query in (("/api/v1/runs/{run_id}", {}), ("/api/v1/users/search", {"q": "x"}), ("/api/v1/sensors", {})):
        answer = await world.client("owner").get(world.filled(path), params=query | {"project_id": "x"})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "project_id"), path


async def test_who_is_not_signed_in_learns_nothing_of_where_things_are(table_hub: Hub, password_hash: str) -> None:
    world = await lay_out(table_hub, password_hash, "owner")
    path = world.filled("/api/v1/runs/{run_id}")
    for project in (world.names["project_id"], str(uuid4())):
        assert (await world.client("anonymous").get(path, params={"project_id": project})).status_code == 401
        assert (await world.client("stranger").get(path, params={"project_id": project})).status_code == 404
