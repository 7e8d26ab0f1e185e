"""`access_token` in the query: on streams, where a browser cannot set a header."""

from __future__ import annotations

import logging

import httpx
import pytest

from tests.hub.conftest import Hub

STREAMS = ("/api/v1/events/stream", "/api/v1/telemetry/stream")
SHORT = {"idle_timeout_seconds": "0.05"}


def token_of(client: httpx.AsyncClient) -> str:
    return client.headers["Authorization"].removeprefix("Bearer ")


@pytest.mark.parametrize("path", STREAMS)
async def test_a_users_token_opens_a_stream_and_stands_in_no_log(
    hub: Hub, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    ann = await hub.member("ann")
    personal = (await ann.post("/auth/tokens", json={"name": "page", "scopes": ["read"]})).json()["token"]
    for token, status in ((token_of(ann), 200), (personal, 200), ("nobodys", 401), ("", 401)):
        answer = await hub.client().get(path, params={"access_token": token, **SHORT})
        assert answer.status_code == status, answer.text
        said = "\n".join(record.getMessage() for record in caplog.records if record.name.split(".")[0] != "httpx")
        assert not token or token not in answer.text + said
    assert f"path={path} status=200" in said


@pytest.mark.parametrize("path", STREAMS)
async def test_a_header_wins_over_the_query_and_the_query_over_cookies(hub: Hub, path: str) -> None:
    ann, bob = await hub.member("ann"), await hub.member("bob")
    project = {"project_id": (await ann.post("/projects", json={"name": "Lab"})).json()["id"], **SHORT}
    by_query = project | {"access_token": token_of(ann)}
    assert (await bob.get(path, params=by_query)).status_code == 404
    cookies = hub.client(Cookie=f"access_token={token_of(bob)}")
    assert (await cookies.get(path, params=by_query)).status_code == 200
    assert (await cookies.get(path, params=project)).status_code == 404


async def test_a_sensors_token_opens_no_stream_of_events(hub: Hub) -> None:
    ann = await hub.member("ann")
    project = (await ann.post("/projects", json={"name": "Lab"})).json()["id"]
    token = (await ann.post("/api/v1/sensors", json={"project_id": project, "name": "S"})).json()["token"]
    opened = [await hub.client().get(path, params={"access_token": token, **SHORT}) for path in STREAMS]
    assert [answer.status_code for answer in opened] == [401, 200]


async def test_who_must_change_the_password_opens_no_stream(hub: Hub) -> None:
    ann, admin = await hub.member("ann"), await hub.signed_in()
    ann_id = (await ann.get("/auth/me")).json()["id"]
    await admin.patch(f"/auth/users/{ann_id}", json={"password_change_required": True})
    for path in STREAMS:
        answer = await hub.client().get(path, params={"access_token": token_of(ann)})
        assert (answer.status_code, answer.json()["code"]) == (403, "password_change_required")
