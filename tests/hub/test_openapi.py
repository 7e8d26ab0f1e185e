"""The OpenAPI document: complete, without a database, the same in JSON and YAML."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest
import yaml

from hub import cli, openapi
from hub.app import create_app
from hub.openapi import openapi_document
from hub.settings import HubSettings
from tests.hub.conftest import Hub


def test_the_command_prints_the_document_without_a_database(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert cli.main(["openapi"]) == 0
    printed = json.loads(capfdbinary.readouterr().out)
    assert printed == openapi_document(create_app(HubSettings()))
    assert {"/auth/login", "/projects/{project_id}", "/health/ready"} <= set(printed["paths"])


async def test_json_and_yaml_say_the_same(hub: Hub) -> None:
    as_json = await hub.client().get("/openapi.json")
    as_yaml = await hub.client().get("/openapi.yaml")
    assert as_json.json() == yaml.safe_load(as_yaml.text)
    assert as_yaml.headers["content-type"].startswith("application/yaml")


async def test_it_is_made_once_and_beside_the_loop(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    make = openapi.get_openapi

    def noted(**told: Any) -> dict[str, Any]:
        threads.append(threading.get_ident())
        return make(**told)

    monkeypatch.setattr(openapi, "get_openapi", noted)
    client = hub.client()
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(client.get(f"/openapi.{kind}")) for kind in ("json", "yaml", "json")]
    assert [task.result().status_code for task in asked] == [200, 200, 200]
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


def test_every_operation_is_described() -> None:
    document = openapi_document(create_app(HubSettings()))
    operations = [
        (f"{method} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    identifiers = [operation["operationId"] for _, operation in operations]
    assert len(identifiers) == len(set(identifiers))
    for name, operation in operations:
        assert operation.get("description"), f"{name} has no description"
        assert operation.get("tags"), f"{name} has no tag"


def test_errors_are_documented_as_problems() -> None:
    document: dict[str, Any] = openapi_document(create_app(HubSettings()))
    assert "Problem" in document["components"]["schemas"]
    login = document["paths"]["/auth/login"]["post"]["responses"]
    assert "application/problem+json" in login["422"]["content"]
    assert "HTTPValidationError" not in document["components"]["schemas"]
