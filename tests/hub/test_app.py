"""What holds for every request: errors as problems, ids, limits, headers, rules."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub import logs
from hub.app import create_app
from hub.openapi import rules_of
from hub.settings import HubSettings
from tests.hub.conftest import Hub, running_hub


def test_every_route_declares_exactly_one_rule() -> None:
    found = rules_of(create_app(HubSettings()))
    assert len(found) > 20
    assert {route: rules for route, rules in found.items() if len(rules) != 1} == {}


ERRORS = (
    ("GET", "/nowhere", 404),
    ("POST", "/api/v1/nowhere", 404),
    ("GET", "/projects/", 404),
    ("PATCH", "/projects", 405),
    ("POST", "/health", 405),
    ("GET", "/projects", 401),
    ("GET", "/projects/no-uuid", 401),
    ("GET", "/files.py", 404),
    ("GET", "/__init__.py", 404),
    ("GET", "/../settings.py", 404),
)


async def test_every_error_is_a_problem(hub: Hub) -> None:
    for method, path, status in ERRORS:
        answer = await hub.client().request(method, path)
        assert answer.status_code == status, (method, path)
        is_problem(answer)
        assert status != 405 or answer.headers["allow"]
        assert status != 401 or answer.headers["www-authenticate"] == "Bearer"


async def test_a_wrong_method_is_told_all_right_ones(hub: Hub) -> None:
    for path, methods in (("/projects", "GET, POST"), ("/projects/x", "DELETE, GET, PUT"), ("/health", "GET")):
        for wrong in ("PATCH", "OPTIONS"):
            answer = await hub.client().request(wrong, path)
            assert (answer.status_code, answer.headers["allow"]) == (405, methods)


def is_problem(answer: httpx.Response) -> None:
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["error"] == body["detail"]
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["title"]


async def test_ids_are_taken_over_echoed_and_logged(
    hub: Hub, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = io.StringIO()
    handler = logging.StreamHandler(seen)
    handler.setFormatter(logs.EventFormatter())
    monkeypatch.setattr(logging.getLogger("hub.requests"), "handlers", [handler])
    with caplog.at_level(logging.INFO):
        answer = await hub.client().get("/nowhere", headers={"X-Request-Id": "run-7", "X-Trace-Id": "trace.8"})
    assert (answer.headers["x-request-id"], answer.headers["x-trace-id"]) == ("run-7", "trace.8")
    (line,) = [line for line in seen.getvalue().splitlines() if "event=request " in line]
    assert "path=/nowhere status=404" in line
    assert line.endswith("request_id=run-7 trace_id=trace.8")


async def test_harmful_ids_are_replaced(hub: Hub) -> None:
    for given_id in ("", "a b", "x" * 129, "é", "a\tb", 'a"b'):
        answer = await hub.client().get("/health", headers={"X-Request-Id": given_id.encode()})
        assert answer.headers["x-request-id"] != given_id
        assert len(answer.headers["x-request-id"]) == 36


async def test_traceparent_gives_the_trace_id(hub: Hub) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    answer = await hub.client().get("/health", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    assert answer.headers["x-trace-id"] == trace
    for wrong in (f"00-{'0' * 32}-00f067aa0ba902b7-01", "garbage"):
        answer = await hub.client().get("/health", headers={"traceparent": wrong})
        assert answer.headers["x-trace-id"] not in ("0" * 32, "garbage")


async def test_security_headers_are_on_every_answer(hub: Hub) -> None:
    for path in ("/health", "/nowhere", "/projects"):
        headers = (await hub.client().get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"


async def test_large_bodies_are_refused_before_they_are_read(hub_settings: dict[str, Any]) -> None:
    async with running_hub(HubSettings(**hub_settings, body_bytes_max=2048)) as hub:
        declared = await hub.client().post("/auth/login", content=b"x" * 2049)

        async def unbounded() -> Any:
            for _ in range(1000):
                yield b"x" * 1000
            pytest.fail("the body was read to its end")

        streamed = await hub.client().post(
            "/auth/login", content=unbounded(), headers={"content-type": "application/json"}
        )
        for answer in (declared, streamed):
            assert answer.status_code == 413
            is_problem(answer)
            assert answer.headers["connection"] == "close"
        absurd = await hub.client().post("/auth/login", headers={"content-length": "9" * 5000}, content=b"")
        assert absurd.status_code == 413


ODD_BODIES = (
    (b"", 422),
    (b"{", 400),
    (b"\xff\xfe\x00", 400),
    (b"null", 422),
    (b"[]", 422),
    (b'{"name": 1}', 422),
    (b'{"name": ""}', 422),
    (b'{"name": "   "}', 422),
    (b'{"name": "a\\u0000b"}', 422),
    (b'{"name": "\\ud800"}', 422),
    (b'{"\\ud800": 1, "name": "x"}', 422),
    (b'{"name": NaN}', 422),
    (b'{"name": 1' + b"0" * 5000 + b"}", 400),
    (b"[" * 100_000, 400),
    (b'{"name": ' + b"[" * 400 + b"]" * 400 + b"}", 422),
    (b'{"name": "' + b"x" * 201 + b'"}', 422),
    (b'{"name": "x", "description": 1}', 422),
)


async def test_odd_bodies_are_the_clients_fault(hub: Hub) -> None:
    client = await hub.member("ann")
    for body, status in ODD_BODIES:
        answer = await client.post("/projects", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == status, (body[:100], answer.text)
        is_problem(answer)


ODD_PATHS = (
    "/api/v1/users/search?q=%00",
    "/api/v1/users/search?q=%ff",
    "/api/v1/users/search?q=a&limit=99999999999999999999999",
    "/api/v1/users/search?q=a&limit=-1",
    "/api/v1/users/search",
    "/projects/%00",
    "/projects/%ff%fe",
    "/sign-in?token=%00",
    "/sign-in?token=" + "a" * 300,
)


async def test_odd_paths_and_queries_are_the_clients_fault(hub: Hub) -> None:
    client = await hub.member("ann")
    for path in ODD_PATHS:
        answer = await client.get(path)
        assert answer.status_code < 500, (path, answer.text)


async def test_a_body_that_stops_coming_is_given_up(hub_settings: dict[str, Any]) -> None:
    async with running_hub(HubSettings(**hub_settings, body_timeout_s=0.1)) as hub:

        async def stalled() -> Any:
            yield b"{"
            await asyncio.sleep(60)

        answer = await hub.client().post("/auth/login", content=stalled(), headers={"content-type": "application/json"})
        assert answer.status_code == 408
        is_problem(answer)


TEXT = st.text(max_size=20) | st.sampled_from(["\0", "\ud800", "admin", "Password1", "a@b"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


def drawn_requests(document: dict[str, Any], known: list[str], examples: int) -> list[tuple[str, str, Any]]:
    """Requests to any operation, with the names of the document's fields and values that may not fit them."""
    schemas = document["components"]["schemas"].values()
    fields = sorted({name for schema in schemas for name in schema.get("properties", {})})
    operations = [
        (method.upper(), path)
        for path, methods in document["paths"].items()
        for method in methods
        if not path.endswith(("/stream", "/logout", "/change-password"))
    ]
    drawn: list[tuple[str, str, Any]] = []
    segment = st.sampled_from([*known, "00000000-0000-0000-0000-000000000000", "x"])
    value = JSON | TEXT | st.sampled_from(known)
    body = st.dictionaries(st.sampled_from(fields), value, max_size=6) | JSON

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data(), st.sampled_from(operations), body)
    def draw(data: st.DataObject, operation: tuple[str, str], body: Any) -> None:
        method, path = operation
        filled = re.sub(r"{\w+}", lambda _: str(data.draw(segment)), path)
        query = data.draw(st.dictionaries(st.sampled_from(fields), TEXT, max_size=2))
        parts = {name: text.encode("utf-8", "replace") for name, text in query.items()}
        drawn.append((method, f"{filled}?{urlencode(parts)}", body))

    draw()
    return drawn


async def test_no_request_makes_the_hub_fail(hub: Hub) -> None:
    client = await hub.member("ann")
    project = (await client.post("/projects", json={"name": "Lab"})).json()["id"]
    sensor = (await client.post("/api/v1/sensors", json={"project_id": project, "name": "T1"})).json()["sensor"]["id"]
    document = (await client.get("/openapi.json")).json()
    for method, path, body in drawn_requests(document, [project, sensor], 300):
        content = None if method in ("GET", "DELETE") else json.dumps(body)
        answer = await client.request(method, path, content=content, headers={"content-type": "application/json"})
        unready = path.startswith("/health/ready")
        assert answer.status_code < 500 or unready, (method, path, body, answer.text)


async def test_an_unforeseen_error_is_a_problem_too(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    @hub.app.get("/broken")
    async def broken() -> None:
        raise ZeroDivisionError("secret detail")

    answer = await hub.client().get("/broken")
    assert answer.status_code == 500
    is_problem(answer)
    assert "secret detail" not in answer.text
    assert "ZeroDivisionError" in caplog.text


async def test_other_origins_may_call_only_when_configured(hub_settings: dict[str, Any]) -> None:
    configured = HubSettings(**hub_settings, cors_origins=("https://notebook.example",))
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-csrf-token"}
    async with running_hub(configured) as hub:
        known = await hub.client().options("/projects", headers=preflight | {"Origin": "https://notebook.example"})
        assert known.headers["access-control-allow-origin"] == "https://notebook.example"
        assert known.headers["access-control-allow-credentials"] == "true"
        other = await hub.client().options("/projects", headers=preflight | {"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers

        client = hub.client(Origin="https://notebook.example")
        await client.post("/auth/login", json={"username": "admin", "password": "Correct-Horse-1"})
        csrf = {"X-CSRF-Token": client.cookies["csrf_token"]}
        assert (await client.post("/projects", json={"name": "Lab"}, headers=csrf)).status_code == 201


def test_log_lines_cannot_be_forged() -> None:
    record = logging.LogRecord("hub", logging.INFO, "", 0, "event=x value=%s", ("a\nlevel=error\u2028b",), None)
    line = logs.EventFormatter().format(record)
    assert "\n" not in line
    assert "\u2028" not in line
    assert logs.quoted('a "b"=c') == '"a \\"b\\"=c"'


async def test_a_part_that_fails_stops_the_hub(
    hub_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_: object) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr("hub.timetable.Timetable.run", fail)
    app = create_app(HubSettings(**hub_settings))
    failed = asyncio.Event()
    app.state.on_failure = failed.set
    async with app.router.lifespan_context(app), asyncio.timeout(10):
        await failed.wait()
    assert "part='timetable'" in caplog.text
