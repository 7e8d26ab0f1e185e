"""Bad input to every route of the document: refused with the field named, never a failure of the hub."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher

from hub.app import create_app
from hub.openapi import openapi_document
from hub.settings import HubSettings
from tests.hub.access.route_table import NAMED, REQUESTS, Request
from tests.hub.access.world import PASSWORD, World, lay_out
from tests.hub.conftest import Hub, running_hub

DOCUMENT = openapi_document(create_app(HubSettings()))
OPERATIONS = [(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods]
UNREADABLE = (
    (b'{"name": "a', 400),
    (b"\xff\xfe{", 400),
    (b'{"name": "\xc3\x28"}', 400),
    (b"[" * 100_000, 400),
    (b'{"a": 1' + b"0" * 5000 + b"}", 400),
)
"""Bodies that are not JSON, or more than any reader should take."""
NOT_OBJECTS = (b"null", b"[]", b'"text"', b"1e999", b"true", b'{"\\u0000": 1}', b'{"\\ud800": 1}', b'{"a": 1, "a": 1}')
OTHER_KINDS = (
    *("text/plain", "application/xml", "multipart/form-data; boundary=x"),
    "application/x-www-form-urlencoded",
)
TEXTS = (
    "a\0b",
    "'; drop table users; --",
    '" or 1=1 /*',
    "=cmd|' /C calc'!A0",
    "a\r\nSet-Cookie: x=1",
    "\u202e\ufeff\U0001f9ea" * 3,
    "%00%0a../../etc/passwd",
    "x" * 20_000,
)
NUMBERS = (2**70, -(2**70), 1e308, 10**30, 0.1)
WRONG_TYPES: tuple[Any, ...] = (None, [], {}, [[[[]]]], True, "\ud800", 0, *NUMBERS)
PARTS = 4
"""The fields are walked in so many tests, so that workers share them."""
ANSWERED = frozenset({400, 401, 403, 404, 409, 413, 415, 422, 429})


@pytest.fixture
async def hub(hub_settings: dict[str, Any], tmp_path: Path) -> AsyncIterator[Hub]:
    more: dict[str, Any] = {
        "login_attempts_address_max": 100_000,
        "login_attempts_max": 100_000,
        "artifacts_dir": tmp_path / "artifacts",
        "broker_provisioning": "file",
        "broker_credentials_file": tmp_path / "credentials.json",
    }
    async with running_hub(HubSettings(**hub_settings, **more)) as running:
        yield running


@pytest.fixture
async def world(hub: Hub) -> World:
    return await lay_out(hub, PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD), "owner")


def takes_json(method: str, path: str) -> bool:
    content = DOCUMENT["paths"][path][method.lower()].get("requestBody", {}).get("content", {})
    return "application/json" in content


class Asking:
    """Sends requests as the one who may, and keeps what was answered wrongly."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._owner, self._sensor, self._admin = map(world.client, ("owner", "sensor", "admin"))
        self.wrong: list[str] = []

    async def send(self, method: str, path: str, *, expected: frozenset[int] = ANSWERED, **sent: Any) -> httpx.Response:
        """One request; its answer must have one of these statuses and be a problem."""
        client = self._sensor if path == "/api/v1/telemetry" else self._owner
        client = self._admin if path.startswith("/auth/users") else client
        filled = path
        for name, value in NAMED.items():
            filled = filled.replace(f"{{{name}}}", value)
        answer = await client.request(method, self._world.filled(filled), **sent)
        problem = answer.status_code < 400 or answer.headers["content-type"] == "application/problem+json"
        if answer.status_code not in expected or not problem:
            self.wrong.append(f"{method} {path} {str(sent)[:200]}: {answer.status_code} {answer.text[:300]}")
        return answer

    def verdict(self) -> None:
        """Fails with all that was wrong."""
        assert not self.wrong, "\n".join(self.wrong[:40])


async def test_bodies_that_cannot_be_read_are_refused(world: World) -> None:
    asking, kind = Asking(world), {"content-type": "application/json"}
    for method, path in OPERATIONS:
        if not takes_json(method, path):
            continue
        sooner = {422} if path == "/api/v1/telemetry" else set()  # read field by field: what comes first is told
        for content, status in UNREADABLE:
            await asking.send(method, path, content=content, headers=kind, expected=frozenset({status} | sooner))
        for content in NOT_OBJECTS:
            if content == b"null" and not DOCUMENT["paths"][path][method.lower()]["requestBody"].get("required"):
                continue
            await asking.send(method, path, content=content, headers=kind, expected=frozenset({400, 422}))
        body = json.dumps({"name": "x" * (9 * 2**20)}).encode()
        await asking.send(method, path, content=body, headers=kind, expected=frozenset({413}))
        for other in (
            "text/plain",
            "application/xml",
            "multipart/form-data; boundary=x",
            "application/x-www-form-urlencoded",
        ):
            await asking.send(
                method, path, content=b'{"a": 1}', headers={"content-type": other}, expected=frozenset({400, 415, 422})
            )
    asking.verdict()


async def test_unknown_query_parameters_are_refused_by_name(world: World) -> None:
    asking = Asking(world)
    for method, path in OPERATIONS:
        asked = REQUESTS.get(f"{method} {path}", Request())
        query = world.filled(asked.query) | {"no_such_parameter": "1"}
        answer = await asking.send(
            method, path, params=query, json=world.filled(asked.json), content=asked.content, expected=frozenset({422})
        )
        if answer.status_code == 422 and "no_such_parameter" not in answer.text:
            asking.wrong.append(f"{method} {path}: {answer.text}")
    asking.verdict()


def variants(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The body with one field after the other replaced by what it should not be, or by what it may be."""
    for name in body:
        for value in (*TEXTS, *WRONG_TYPES):
            yield body | {name: value}
    yield body | {"no_such_field": 1}
    yield {}


@pytest.mark.parametrize("part", range(PARTS))
async def test_odd_values_in_every_field_never_make_the_hub_fail(world: World, part: int) -> None:
    asking = Asking(world)
    expected = ANSWERED | {200, 201, 202, 204}
    for row, asked in list(REQUESTS.items())[part::PARTS]:
        method, path = row.split()
        if not isinstance(asked.json, dict) or path in ("/auth/change-password", "/auth/login", "/auth/register"):
            continue  # hashing takes its time; they have tests of their own
        body = {name: world.filled(asked.json.get(name, "")) for name in _fields(method, path)}
        for sent in variants(body):
            content = json.dumps(world.filled(asked.json) | _given(sent, body)).encode()
            headers = {"content-type": "application/json"}
            answer = await asking.send(method, path, content=content, headers=headers, expected=expected)
            if "no_such_field" in sent and answer.status_code != 422:
                asking.wrong.append(f"{row}: an unknown field was taken: {answer.status_code}")
        await asyncio.sleep(0)
    asking.verdict()


def _fields(method: str, path: str) -> dict[str, Any]:
    """The schemas of a body's fields, by name."""
    content = DOCUMENT["paths"][path][method.lower()].get("requestBody", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema", {})
    for one in (schema, *schema.get("anyOf", ())):
        if "$ref" in one:
            schema = DOCUMENT["components"]["schemas"][str(one["$ref"]).rpartition("/")[2]]
    return dict(schema.get("properties", {}))


def _given(sent: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """What differs from the body that is right."""
    return {name: value for name, value in sent.items() if name not in body or value != body[name]}


async def test_odd_values_in_every_query_parameter_never_make_the_hub_fail(world: World) -> None:
    asking = Asking(world)
    expected = ANSWERED | {200}
    for method, path in OPERATIONS:
        parameters = DOCUMENT["paths"][path][method.lower()].get("parameters", [])
        if path.endswith("/stream"):
            continue  # tests/hub/test_event_stream.py
        for name in (one["name"] for one in parameters if one["in"] == "query"):
            query = world.filled(REQUESTS.get(f"{method} {path}", Request()).query)
            for value in (*TEXTS[:7], str(2**70), "-1", "1e999", "nan", ""):
                if method == "GET":
                    await asking.send(method, path, params=query | {name: value}, expected=expected)
    asking.verdict()


async def test_moments_are_no_bare_numbers_anywhere(world: World) -> None:
    asking, checked = Asking(world), 0
    for row, asked in REQUESTS.items():
        method, path = row.split()
        if not isinstance(asked.json, dict):
            continue
        for name, one in _fields(method, path).items():
            if "date-time" in json.dumps(one) and "$ref" not in json.dumps(one):
                checked += 1
                body = world.filled(asked.json) | {name: 0}
                await asking.send(method, path, json=body, expected=frozenset({422}))
    assert checked > 3
    asking.verdict()


async def test_headers_cannot_be_injected(world: World) -> None:
    owner = world.client("owner")
    for value in (b"a\nb", b"a\xff", b"x" * 10_000, b"\x00"):
        answer = await owner.get("/auth/me", headers={"X-Request-Id": value, "traceparent": value, "If-Match": value})
        assert answer.status_code == 200
        assert len(answer.headers["x-request-id"]) <= 128
        assert answer.headers["x-request-id"].encode() != value
