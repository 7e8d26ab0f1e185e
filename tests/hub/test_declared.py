"""What a request brings that its route does not know is refused by name, on every route."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from hub.app import create_app
from hub.declared import takes_any_part
from hub.errors import Problem
from hub.ingest.body import decode_body
from hub.openapi import openapi_document
from hub.settings import HubSettings
from tests.hub.conftest import ADMIN_PASSWORD, Hub

NOWHERE = "00000000-0000-0000-0000-000000000000"


def routes(app: FastAPI) -> list[tuple[str, str, Any]]:
    """(method, path, route) of all that the document describes."""
    return [
        (method, context.path or "", context)
        for context in iter_route_contexts(app.routes)
        if isinstance(context.original_route, APIRoute) and context.original_route.include_in_schema
        for method in sorted(context.methods or ())
    ]


def filled(path: str) -> str:
    return re.sub(r"{\w+}", NOWHERE, path)


def names(answer: httpx.Response) -> list[str]:
    return [error["field"] for error in answer.json()["errors"]]


async def test_every_route_refuses_parameters_that_it_does_not_know_by_name(hub: Hub) -> None:
    client = await hub.signed_in()
    met = routes(hub.app)
    assert len(met) > 40
    for method, path, _ in met:
        answer = await client.request(method, f"{filled(path)}?colour=red&project_idd=1&colour=blue")
        assert answer.status_code == 422, (method, path, answer.text)
        assert answer.json()["code"] == "unknown_parameter", (method, path)
        assert names(answer) == ["colour", "project_idd"]


async def test_every_api_call_may_name_the_project(hub: Hub) -> None:
    client = await hub.signed_in()
    for method, path, _ in routes(hub.app):
        if path.startswith("/api/") and "/stream" not in path:
            answer = await client.request(method, f"{filled(path)}?project_id={NOWHERE}")
            assert answer.json().get("code") != "unknown_parameter", (method, path)


async def test_a_token_in_the_query_is_known_only_where_it_is_taken(hub: Hub) -> None:
    client = await hub.signed_in()
    taken = await client.get("/api/v1/telemetry/query?access_token=x")
    other = await client.get("/api/v1/sensors?access_token=x")
    assert (taken.status_code, other.status_code) == (200, 422)


async def test_a_route_that_takes_no_body_refuses_fields_by_name(hub: Hub) -> None:
    client = await hub.signed_in()
    met = [
        (path, parameters)
        for method, path, route in routes(hub.app)
        if method in ("POST", "PUT", "PATCH")
        and route.body_field is None
        and "requestBody" not in (route.original_route.openapi_extra or {})
        for parameters in [re.findall(r"{(\w+)}", path)]
    ]
    assert "/api/v1/sensors/{sensor_id}/rotate-token" in [path for path, _ in met]
    for path, parameters in met:
        own = dict.fromkeys(parameters, NOWHERE)
        refused = await client.post(filled(path), json=own | {"colour": "red"})
        assert (refused.status_code, names(refused)) == (422, ["colour"]), path
        other = await client.post(filled(path), json=own | {parameters[0]: NOWHERE[:-1] + "1"})
        assert (other.status_code, names(other)) == (422, [parameters[0]]), path
        assert (await client.post(filled(path), json=[])).status_code == 422, path
        nonsense = await client.post(filled(path), content="{", headers={"Content-Type": "application/json"})
        assert nonsense.status_code == 400, path
        for body in ({}, None, own):
            assert (await client.post(filled(path), json=body)).status_code == 404, (path, body)


async def test_a_parameter_that_is_taken_once_has_one_value(hub: Hub) -> None:
    client = await hub.signed_in()
    for query in ("limit=1&limit=2", "order=asc&limit=1&order=desc", "access_token=a&access_token=b"):
        answer = await client.get(f"/api/v1/telemetry/query?{query}")
        assert (answer.status_code, names(answer)) == (422, [query.split("&")[-1].split("=")[0]])
    doubled = await client.get(f"/api/v1/sensors?project_id={NOWHERE}&project_id={NOWHERE[:-1]}1")
    assert (doubled.status_code, names(doubled)) == (422, ["project_id"])
    for query in ("limit=1&limit=1", "signal=a&signal=b"):
        assert (await client.get(f"/api/v1/telemetry/query?{query}")).status_code == 200


async def sent(client: httpx.AsyncClient, content: str, **headers: str) -> httpx.Response:
    """A project posted as these bytes, without a type unless the headers name one."""
    request = client.build_request("POST", "/projects", content=content, headers=headers)
    assert ("content-type" in request.headers) == ("Content-Type" in headers)
    return await client.send(request)


async def test_a_body_without_a_type_is_json(hub: Hub) -> None:
    client = await hub.signed_in()
    made = await sent(client, '{"name": "Lab"}')
    assert (made.status_code, made.json()["name"]) == (201, "Lab")
    doubled = await sent(client, '{"name": "A", "name": "B"}')
    assert (doubled.status_code, names(doubled)) == (422, ["name"])
    assert (await sent(client, "name=Lab")).status_code == 400
    assert (await sent(client, "{}")).json()["errors"][0]["field"] == "name"


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain;charset=UTF-8", "json", '"x'])
async def test_a_body_of_another_type_is_refused_by_the_name_of_the_header(hub: Hub, kind: str) -> None:
    client = await hub.signed_in()
    for content in ('{"name": "Lab"}', "name=Lab"):
        answer = await sent(client, content, **{"Content-Type": kind})
        assert (answer.status_code, answer.json()["code"], names(answer)) == (
            415,
            "unsupported_media_type",
            ["Content-Type"],
        )
        assert "Content-Type is" in answer.json()["detail"]
    stop = f"/api/v1/runs/{NOWHERE}/capture-sessions/{NOWHERE}/stop"
    assert (await client.post(stop, content="", headers={"Content-Type": kind})).status_code == 404, "there is no body"


async def test_a_browser_says_that_it_sends_json(hub: Hub) -> None:
    """A page elsewhere can make it send a body without a type, even where no cookie is needed."""
    person = {"username": "ann", "email": "ann@example.org", "password": "Password1"}
    page = hub.client(Origin="https://elsewhere.example")
    untyped = await page.post("/auth/register", content=json.dumps(person))
    assert (untyped.status_code, names(untyped)) == (415, ["Content-Type"])
    assert "Content-Type is missing" in untyped.json()["detail"]
    assert (await hub.client().post("/auth/register", content=json.dumps(person))).status_code == 201


async def test_a_change_by_cookie_without_a_type_needs_the_token_all_the_same(hub: Hub) -> None:
    client = hub.client()
    credentials = {"username": "admin", "password": ADMIN_PASSWORD}
    assert (await client.post("/auth/login", json=credentials)).status_code == 200
    answer = await sent(client, '{"name": "Lab"}')
    assert (answer.status_code, answer.json()["code"]) == (403, "origin_refused")


@pytest.mark.parametrize("key", ["name", "colour", "\\u006eame"])
async def test_a_key_that_stands_twice_is_refused_by_name(hub: Hub, key: str) -> None:
    body = '{"name": "A", "colour": 1, "' + key + '": "B"}'
    answer = await (await hub.signed_in()).post(
        "/projects", content=body, headers={"content-type": "application/json; charset=utf-8"}
    )
    assert answer.status_code == 422, answer.text
    assert names(answer) == [json.loads(f'"{key}"')]


async def test_a_key_that_stands_twice_deep_inside_is_refused_too(hub: Hub) -> None:
    client = await hub.signed_in()
    json_body = {"content-type": "application/json"}
    profile = '{"version": "1", "kind": "linear", "payload": {"a": 1, "b": 2, "a": 3}}'
    body = f'{{"project_id": "{NOWHERE}", "name": "T", "conversion_profile": {profile}}}'
    inside = await client.post("/api/v1/sensors", content=body, headers=json_body)
    surrogate = await client.post("/projects", content=b'{"\\ud800": 1, "\\ud800": 2}', headers=json_body)
    assert (inside.status_code, names(inside)) == (422, ["a"])
    assert (surrogate.status_code, names(surrogate)) == (422, ["?"])


async def test_a_change_that_changes_nothing_is_refused_on_every_route(hub: Hub) -> None:
    client = await hub.signed_in()
    changes = [
        (method, path)
        for method, path, route in routes(hub.app)
        if route.body_field is not None
        and (method == "PATCH" or (method == "PUT" and takes_any_part(route.body_field.field_info.annotation)))
    ]
    assert ("PATCH", "/api/v1/sensors/{sensor_id}") in changes
    project = (await client.post("/projects", json={"name": "Lab"})).json()["id"]
    for method, path in changes:
        named = filled(path).replace(f"/projects/{NOWHERE}", f"/projects/{project}")
        answer = await client.request(method, named, json={})
        assert answer.status_code == 422, (method, path, answer.text)
        assert answer.json()["code"] == "invalid_field", (method, path)


def test_the_document_says_that_a_change_must_change_something() -> None:
    schemas = openapi_document(create_app(HubSettings()))["components"]["schemas"]
    assert schemas["SensorChange"]["minProperties"] == 1
    assert "minProperties" not in schemas["NewProject"]


@pytest.mark.parametrize(
    ("body", "twice"),
    [
        (f'{{"sensor_id": "{NOWHERE}", "sensor_id": "{NOWHERE}", "readings": [READING]}}', "sensor_id"),
        (f'{{"sensor_id": "{NOWHERE}", "readings": [READING, {{"raw_value": 1, TIME, "raw_value":2}}]}}', "raw_value"),
        (f'{{"sensor_id": "{NOWHERE}", "readings": [READING], "meta": {{"a": 1, "a": {{}}}}}}', "a"),
        (f'{{"sensor_id": "{NOWHERE}", "readings": [READING], "meta": {{"b": [{{"a": 1, "\\u0061" : 2}}]}}}}', "a"),
    ],
)
def test_a_post_of_readings_has_no_key_twice_either(body: str, twice: str) -> None:
    time = '"timestamp": "2026-03-02T12:00:00Z"'
    content = body.replace("READING", f'{{{time}, "raw_value": 1}}').replace("TIME", time)
    with pytest.raises(Problem) as caught:
        decode_body(content.encode())
    assert [field.field for field in caught.value.fields] == [twice]


def test_a_post_of_readings_may_name_defaults_and_nest_meta() -> None:
    reading = '{"timestamp": "2026-03-02T12:00:00Z", "raw_value": 1, "signal": null, "meta": {"a": {"a": "x\\": y"}}}'
    body = decode_body(f'{{"sensor_id": "{NOWHERE}", "run_id": null, "readings": [{reading}]}}'.encode())
    assert body.readings[0].meta == {"a": {"a": 'x": y'}}
