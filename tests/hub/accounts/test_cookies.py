"""Sessions of browsers: cookies, the guard against other sites, and refreshes that race."""

from __future__ import annotations

import asyncio
from http.cookies import SimpleCookie
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute, iter_route_contexts

from hub.settings import HubSettings
from tests.hub.conftest import ADMIN_PASSWORD, Hub, running_hub

ORIGIN = "http://127.0.0.1:8000"
CREDENTIALS = {"username": "admin", "password": ADMIN_PASSWORD}
EXEMPT = {"/auth/login", "/auth/register", "/auth/refresh"}


async def browser(hub: Hub, **headers: str) -> httpx.AsyncClient:
    """A browser that is signed in."""
    client = hub.client(Origin=ORIGIN, **headers)
    answer = await client.post("/auth/login", json=CREDENTIALS)
    assert answer.status_code == 200, answer.text
    return client


def cookies_of(answer: httpx.Response) -> dict[str, dict[str, str]]:
    """The attributes of each cookie that is set."""
    found: dict[str, dict[str, str]] = {}
    for line in answer.headers.get_list("set-cookie"):
        for name, morsel in SimpleCookie(line).items():
            found[name] = {key: str(value) for key, value in morsel.items() if value}
    return found


@pytest.mark.parametrize(("public_url", "secure"), [("https://lab.example", True), ("http://lab.example", False)])
async def test_secure_follows_the_scheme_of_the_public_url(
    hub_settings: dict[str, Any], public_url: str, secure: bool
) -> None:
    async with running_hub(HubSettings(**hub_settings, public_url=public_url)) as hub:
        answer = await hub.client(Origin=public_url).post("/auth/login", json=CREDENTIALS)
    cookies = cookies_of(answer)
    assert set(cookies) == {"access_token", "refresh_token", "csrf_token"}
    assert all(("secure" in one) is secure and one["samesite"] == "lax" for one in cookies.values())
    assert {name for name, one in cookies.items() if "httponly" in one} == {"access_token", "refresh_token"}
    assert {name: one["path"] for name, one in cookies.items()} == {
        "access_token": "/",
        "refresh_token": "/auth",
        "csrf_token": "/",
    }
    assert (int(cookies["access_token"]["max-age"]), int(cookies["refresh_token"]["max-age"])) == (900, 14 * 86_400)


async def test_every_route_that_changes_something_needs_origin_and_csrf_token_with_a_cookie(hub: Hub) -> None:
    client = await browser(hub)
    del client.headers["Origin"]
    csrf = {"X-CSRF-Token": client.cookies["csrf_token"]}
    changing = [
        (method, context.path or "")
        for context in iter_route_contexts(hub.app.routes)
        if isinstance(context.original_route, APIRoute)
        for method in context.methods or ()
        if method not in ("GET", "HEAD") and context.path not in EXEMPT
    ]
    assert len(changing) > 40
    for method, path in changing:
        filled = path.replace("{", "").replace("}", "")
        for headers, code in (
            ({"Origin": ORIGIN}, "csrf_failed"),
            ({"Origin": ORIGIN, "X-CSRF-Token": "wrong"}, "csrf_failed"),
            ({"Origin": "https://evil.example"} | csrf, "origin_refused"),
            ({"Origin": "null"} | csrf, "origin_refused"),
            (csrf, "origin_refused"),
        ):
            answer = await client.request(method, filled, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (403, code), (method, path, headers)
    assert (await client.get("/auth/me")).status_code == 200


async def test_signing_in_and_refreshing_need_neither(hub: Hub) -> None:
    client = await browser(hub)
    evil = {"Origin": "https://evil.example"}
    body = {"username": "ann", "email": "ann@example.org", "password": "Password1"}
    assert (await client.post("/auth/login", json=CREDENTIALS, headers=evil)).status_code == 200
    assert (await client.post("/auth/register", json=body, headers=evil)).status_code == 201
    assert (await client.post("/auth/refresh", headers=evil)).status_code == 200


async def test_an_authorization_header_wins_over_the_cookies_even_when_it_is_wrong(hub: Hub) -> None:
    client = await browser(hub)
    await hub.member("ann")
    token = (await hub.client().post("/auth/login", json={"username": "ann", "password": "Password1"})).json()
    bearer = {"Authorization": f"Bearer {token['access_token']}", "Origin": "https://evil.example"}
    assert (await client.get("/auth/me", headers=bearer)).json()["username"] == "ann"
    assert (await client.post("/projects", json={"name": "Lab"}, headers=bearer)).status_code == 201
    assert (await client.get("/auth/me", headers={"Authorization": "Bearer x"})).status_code == 401


async def refreshed(hub: Hub, token: str) -> httpx.Response:
    return await hub.client(Origin=ORIGIN, Cookie=f"refresh_token={token}").post("/auth/refresh")


async def test_of_twenty_tabs_that_refresh_at_once_one_gets_tokens_and_none_is_thrown_out(hub: Hub) -> None:
    client = await browser(hub)
    token = client.cookies["refresh_token"]
    answers = await asyncio.gather(*(refreshed(hub, token) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 19
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"refresh_race"}
    assert all("set-cookie" not in answer.headers for answer in answers if answer.status_code == 409)
    (won,) = [answer for answer in answers if answer.status_code == 200]
    assert (await refreshed(hub, won.cookies["refresh_token"])).status_code == 200
    assert (await client.get("/auth/me")).status_code == 200


async def test_a_token_that_is_used_again_later_ends_the_sign_in_for_everyone(hub: Hub) -> None:
    client = await browser(hub)
    other = await browser(hub)
    token = client.cookies["refresh_token"]
    won = await refreshed(hub, token)
    answers = await asyncio.gather(*(refreshed(hub, token) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {401}
    assert (await refreshed(hub, won.cookies["refresh_token"])).status_code == 401
    assert (await client.get("/auth/me")).status_code == 401
    assert (await other.get("/auth/me")).status_code == 200, "other sign-ins of the same person go on"
    async with hub.services.pool.acquire() as connection:
        count = await connection.fetchval("select count(*) from events where event_type = 'user.refresh_token_reused'")
    assert count == 1
