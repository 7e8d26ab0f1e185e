"""Bodies as clients write them: all the fields that they know, with null for those that they do not use."""

from __future__ import annotations

from typing import Any

import pytest

from hub.openapi import openapi_document
from tests.hub.conftest import Hub

RUN = ("params", "git_sha", "env", "notes", "tags", "metadata", "status", "auto_complete_after_minutes")
EXPERIMENT = ("description", "experiment_type", "tags", "metadata", "status")


def nulls(*names: str) -> dict[str, Any]:
    return dict.fromkeys(names)


async def test_null_is_as_good_as_leaving_a_field_out(hub: Hub) -> None:
    client = await hub.signed_in()
    project = (await client.post("/projects", json={"name": "Lab"} | nulls("description"))).json()["id"]
    made = await client.post("/api/v1/experiments", json={"project_id": project, "name": "E"} | nulls(*EXPERIMENT))
    assert made.status_code == 201, made.text
    assert (made.json()["description"], made.json()["tags"], made.json()["status"]) == ("", [], "draft")
    run = await client.post(f"/api/v1/experiments/{made.json()['id']}/runs", json={"name": "R"} | nulls(*RUN))
    assert run.status_code == 201, run.text
    assert (run.json()["params"], run.json()["git_sha"], run.json()["status"]) == ({}, "", "draft")
    points = {"metrics": [{"name": "loss", "value": 1.5} | nulls("step", "timestamp")]}
    answer = await client.post(f"/api/v1/runs/{run.json()['id']}/metrics", json=points)
    assert answer.status_code == 201, answer.text


async def test_one_signs_in_by_name_with_null_for_the_address(hub: Hub) -> None:
    await hub.member("robin")
    body = {"username": "robin", "email": None, "password": "Password1"}
    assert (await hub.client().post("/auth/login", json=body)).status_code == 200


@pytest.mark.parametrize("body", [{"name": None}, {"name": "Lab", "colour": None}])
async def test_null_is_no_name_and_makes_no_unknown_field_known(hub: Hub, body: dict[str, Any]) -> None:
    answer = await (await hub.signed_in()).post("/projects", json=body)
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == ["name" if body["name"] is None else "colour"]


async def test_the_document_says_where_null_may_stand(hub: Hub) -> None:
    fields = openapi_document(hub.app)["components"]["schemas"]["NewProject"]["properties"]
    assert {"type": "null"} in fields["description"]["anyOf"]
    assert "anyOf" not in fields["name"]
