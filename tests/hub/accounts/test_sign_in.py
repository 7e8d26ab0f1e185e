"""Signing in, staying signed in, signing out."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx

from hub.settings import HubSettings
from tests.hub.conftest import ADMIN_PASSWORD, Hub, running_hub

CREDENTIALS = {"username": "admin", "password": ADMIN_PASSWORD}
ORIGIN = {"Origin": "http://127.0.0.1:8000"}


async def login(client: httpx.AsyncClient, **headers: str) -> httpx.Response:
    answer = await client.post("/auth/login", json=CREDENTIALS, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


async def test_a_program_gets_tokens_in_the_body_and_uses_them(hub: Hub) -> None:
    answer = (await login(hub.client())).json()

    assert answer["user"]["username"] == "admin"
    assert (answer["expires_in"], answer["refresh_expires_in"], answer["token_type"]) == (900, 14 * 86_400, "bearer")
    me = await hub.client(Authorization=f"Bearer {answer['access_token']}").get("/auth/me")
    assert me.status_code == 200
    assert me.json() == answer["user"]
    assert "password_hash" not in me.text


async def test_a_browser_gets_cookies_and_no_tokens_in_the_body(hub: Hub) -> None:
    client = hub.client()
    answer = await login(client, **ORIGIN)

    assert set(answer.json()) == {"user", "expires_in", "refresh_expires_in", "token_type"}
    cookies = {line.split("=", 1)[0]: line.lower() for line in answer.headers.get_list("set-cookie")}
    assert set(cookies) == {"access_token", "refresh_token", "csrf_token"}
    assert all("samesite=lax" in line and "secure" not in line for line in cookies.values())
    assert [name for name, line in cookies.items() if "httponly" not in line] == ["csrf_token"]
    assert (await client.get("/auth/me")).status_code == 200


async def test_cookies_are_secure_when_the_public_url_is_https(hub_settings: dict[str, Any]) -> None:
    async with running_hub(HubSettings(**hub_settings, public_url="https://lab.example")) as hub:
        answer = await login(hub.client())
        assert all("secure" in line.lower() for line in answer.headers.get_list("set-cookie"))
        assert "max-age" in answer.headers["strict-transport-security"]


async def test_email_and_any_case_of_the_name_sign_in_too(hub: Hub) -> None:
    for body in ({"username": "ADMIN"}, {"username": "Admin@localhost"}, {"email": "admin@localhost"}):
        answer = await hub.client().post("/auth/login", json=body | {"password": ADMIN_PASSWORD})
        assert answer.status_code == 200, answer.text


async def test_wrong_password_and_unknown_user_look_the_same(hub: Hub) -> None:
    answers = [
        await hub.client().post("/auth/login", json={"username": name, "password": "Wrong-1-password"})
        for name in ("admin", "nobody")
    ]
    bodies = [{key: value for key, value in answer.json().items() if key != "request_id"} for answer in answers]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert bodies[0] == bodies[1]


async def test_guessing_is_slowed_down_per_user_and_address(hub_settings: dict[str, Any]) -> None:
    async with running_hub(HubSettings(**hub_settings, login_attempts_max=3)) as hub:
        client = hub.client()
        wrong = {"username": "admin", "password": "Wrong-1"}
        answers = await asyncio.gather(*(client.post("/auth/login", json=wrong) for _ in range(8)))
        assert sorted(answer.status_code for answer in answers) == [401] * 3 + [429] * 5
        refused = await client.post("/auth/login", json=CREDENTIALS)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
        assert refused.json()["error"] == refused.json()["detail"]


async def test_signing_in_rightly_many_times_is_never_slowed_down(hub_settings: dict[str, Any]) -> None:
    async with running_hub(HubSettings(**hub_settings, login_attempts_max=2, login_attempts_address_max=2)) as hub:
        for _ in range(4):
            await login(hub.client())


async def test_refreshing_rotates_and_reusing_an_old_token_ends_the_sign_in(hub: Hub) -> None:
    first = (await login(hub.client())).json()
    second = await hub.client().post("/auth/refresh", json={"refresh_token": first["refresh_token"]})
    assert second.status_code == 200
    assert second.json()["refresh_token"] != first["refresh_token"]

    reused = await hub.client().post("/auth/refresh", json={"refresh_token": first["refresh_token"]})
    newest = await hub.client().post("/auth/refresh", json={"refresh_token": second.json()["refresh_token"]})
    me = await hub.client(Authorization=f"Bearer {second.json()['access_token']}").get("/auth/me")
    assert [reused.status_code, newest.status_code, me.status_code] == [401, 401, 401]


async def test_one_refresh_token_used_by_many_at_once_gives_one_session_at_most(hub: Hub) -> None:
    token = (await login(hub.client())).json()["refresh_token"]
    answers = await asyncio.gather(
        *(hub.client().post("/auth/refresh", json={"refresh_token": token}) for _ in range(5))
    )
    assert sum(answer.status_code == 200 for answer in answers) == 1


async def test_a_browser_refreshes_by_cookie_without_a_csrf_token(hub: Hub) -> None:
    client = hub.client(**ORIGIN)
    await login(client)
    answer = await client.post("/auth/refresh")
    assert answer.status_code == 200
    assert "access_token" not in answer.json()
    assert (await client.get("/auth/me")).status_code == 200


async def test_signing_out_ends_access_at_once_and_clears_cookies(hub: Hub) -> None:
    client = hub.client(**ORIGIN)
    await login(client)
    stolen = client.cookies["access_token"]
    answer = await client.post("/auth/logout", headers={"X-CSRF-Token": client.cookies["csrf_token"]})
    assert answer.status_code == 204
    assert not client.cookies
    assert (await hub.client(Authorization=f"Bearer {stolen}").get("/auth/me")).status_code == 401


async def test_state_changing_requests_with_a_session_cookie_need_origin_and_csrf_token(hub: Hub) -> None:
    client = hub.client()
    await login(client)
    csrf = {"X-CSRF-Token": client.cookies["csrf_token"]}
    project = {"name": "Lab"}
    statuses = [
        (await client.post("/projects", json=project, headers=headers)).status_code
        for headers in (
            {},
            csrf,
            ORIGIN,
            ORIGIN | {"X-CSRF-Token": "wrong"},
            {"Origin": "http://evil.example"} | csrf,
            {"Origin": "null"} | csrf,
            ORIGIN | csrf,
        )
    ]
    assert statuses == [403] * 6 + [201]


async def test_an_authorization_header_wins_over_cookies(hub: Hub) -> None:
    client = hub.client()
    token = (await login(client)).json()["access_token"]
    answer = await client.post("/projects", json={"name": "Lab"}, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 201
    assert (await client.get("/auth/me", headers={"Authorization": "Bearer wrong"})).status_code == 401
    assert (await client.get("/auth/me", headers={"Authorization": "Basic YTpi"})).status_code == 401


async def test_changing_the_password_ends_all_other_sign_ins(hub: Hub) -> None:
    here, there = await hub.signed_in(), await hub.signed_in()
    wrong = await here.post("/auth/change-password", json={"current_password": "x", "new_password": "Another-Horse-2"})
    weak = await here.post("/auth/change-password", json={"current_password": ADMIN_PASSWORD, "new_password": "weak"})
    done = await here.post(
        "/auth/change-password", json={"current_password": ADMIN_PASSWORD, "new_password": "Another-Horse-2"}
    )
    assert [wrong.status_code, weak.status_code, done.status_code] == [401, 422, 200]
    assert (await here.get("/auth/me")).status_code == 200
    assert (await there.get("/auth/me")).status_code == 401
    await hub.signed_in(password="Another-Horse-2")


async def test_who_must_change_the_password_can_do_nothing_else(hub: Hub) -> None:
    client = await hub.signed_in()
    async with hub.services.pool.acquire() as connection:
        await connection.execute("update users set password_change_required = true")
    refused = await client.get("/projects")
    assert (refused.status_code, refused.json()["code"]) == (403, "password_change_required")
    assert (await client.get("/auth/me")).json()["password_change_required"] is True
    body = {"current_password": ADMIN_PASSWORD, "new_password": "Another-Horse-2"}
    assert (await client.post("/auth/change-password", json=body)).status_code == 200
    assert (await client.get("/projects")).status_code == 200


async def test_deactivating_a_user_takes_effect_at_once(hub: Hub) -> None:
    client = await hub.member("robin")
    async with hub.services.pool.acquire() as connection:
        await connection.execute("update users set is_active = false where username = 'robin'")
    assert (await client.get("/auth/me")).status_code == 401
    answer = await hub.client().post("/auth/login", json={"username": "robin", "password": "Password1"})
    assert answer.status_code == 401


async def test_registration_is_closed_unless_opened(hub_settings: dict[str, Any]) -> None:
    async with running_hub(HubSettings(**hub_settings | {"registration": "closed"})) as hub:
        body = {"username": "robin", "email": "robin@example.org", "password": "Password1"}
        answer = await hub.client().post("/auth/register", json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "registration_closed")


async def test_names_and_addresses_are_taken_whatever_their_case(hub: Hub) -> None:
    await hub.member("robin")
    for username, email in (("ROBIN", "other@example.org"), ("other", "Robin@Example.org")):
        body = {"username": username, "email": email, "password": "Password1"}
        answer = await hub.client().post("/auth/register", json=body)
        assert answer.status_code == 409, answer.text


async def test_weak_passwords_and_odd_names_are_refused_by_field(hub: Hub) -> None:
    good = {"username": "robin", "email": "robin@example.org", "password": "Password1"}
    for change in (
        {"password": "Short1"},
        {"password": "alllower1"},
        {"password": "NoDigitsHere"},
        {"password": "Aa1" * 34},
        {"username": "ab"},
        {"username": "a" * 51},
        {"username": "robin@example.org"},
        {"email": "nowhere"},
        {"surprise": 1},
    ):
        answer = await hub.client().post("/auth/register", json=good | change)
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"][0]["field"] == next(iter(change))
        assert str(change.get("password", "\0")) not in answer.text


async def test_a_sign_in_link_works_once(hub: Hub) -> None:
    link = (await (await hub.signed_in()).post("/auth/sign-in-links")).json()
    assert link["url"].startswith("http://127.0.0.1:8000/sign-in?token=")
    browser = hub.client()
    answer = await browser.get(link["url"])
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert (await browser.get("/auth/me")).json()["username"] == "admin"
    assert (await hub.client().get(link["url"])).status_code == 401


async def test_a_repeat_of_the_request_makes_no_second_link_and_shows_none(hub: Hub) -> None:
    admin, headers = await hub.signed_in(), {"Idempotency-Key": "k-1"}
    first = await admin.post("/auth/sign-in-links", json={}, headers=headers)
    again = await admin.post("/auth/sign-in-links", json={}, headers=headers)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
    assert again.json() == {"url": None, "expires_at": first.json()["expires_at"]}
    assert (await hub.client().get(first.json()["url"])).status_code == 303
    async with hub.services.pool.acquire() as connection:
        assert await connection.fetchval("select count(*) from sign_in_links") == 1
        kept = await connection.fetchval("select convert_from(body, 'utf-8') from idempotency_keys")
    assert "token" not in kept


async def test_an_expired_sign_in_link_does_not_work(hub: Hub) -> None:
    link = (await (await hub.signed_in()).post("/auth/sign-in-links", json={})).json()
    async with hub.services.pool.acquire() as connection:
        await connection.execute("update sign_in_links set expires_at = now() - interval '1 second'")
    assert (await hub.client().get(link["url"])).status_code == 401


async def test_a_link_is_void_when_the_password_is_another_or_the_account_was_closed(hub: Hub) -> None:
    admin, robin = await hub.signed_in(), await hub.member("robin")
    user_id = (await robin.get("/auth/me")).json()["id"]
    before = (await robin.post("/auth/sign-in-links")).json()
    change = {"current_password": "Password1", "new_password": "Password2"}
    assert (await robin.post("/auth/change-password", json=change)).status_code == 200
    assert (await hub.client().get(before["url"])).status_code == 401
    after = (await robin.post("/auth/sign-in-links")).json()
    for is_active in (False, True):
        assert (await admin.patch(f"/auth/users/{user_id}", json={"is_active": is_active})).status_code == 200
    assert (await hub.client().get(after["url"])).status_code == 401


async def test_only_an_administrator_makes_links_for_others(hub: Hub) -> None:
    robin = await hub.member("robin")
    refused = await robin.post("/auth/sign-in-links", json={"username": "admin"})
    own = await robin.post("/auth/sign-in-links", json={"username": "Robin"})
    for_robin = await (await hub.signed_in()).post("/auth/sign-in-links", json={"username": "robin"})
    missing = await (await hub.signed_in()).post("/auth/sign-in-links", json={"username": "nobody"})
    assert [answer.status_code for answer in (refused, own, for_robin, missing)] == [403, 201, 201, 404]


async def test_sessions_outlive_the_hub(hub_settings: dict[str, Any]) -> None:
    async with running_hub(HubSettings(**hub_settings)) as hub:
        token = (await login(hub.client())).json()["access_token"]
    async with running_hub(HubSettings(**hub_settings)) as hub:
        assert (await hub.client(Authorization=f"Bearer {token}").get("/auth/me")).status_code == 200


async def test_the_secret_key_is_readable_by_its_owner_only(hub: Hub, hub_settings: dict[str, Any]) -> None:
    key: Path = hub_settings["secret_key_file"]
    assert key.stat().st_mode & 0o777 == 0o600


async def test_users_are_found_by_part_of_the_name_or_the_whole_address(hub: Hub) -> None:
    robin = await hub.member("robin_1")
    await hub.member("wobbly")
    for query, names in (
        ("OB", ["robin_1", "wobbly"]),
        ("_1", ["robin_1"]),
        ("robin_1@example.org", ["robin_1"]),
        ("example", []),
        ("%", []),
        ("", []),
    ):
        answer = await robin.get("/api/v1/users/search", params={"q": query})
        assert [user["username"] for user in answer.json()["users"]] == names, query


async def test_found_users_come_a_page_at_a_time(hub: Hub) -> None:
    robin = await hub.member("robin0")
    for number in range(1, 5):
        await hub.member(f"robin{number}")

    async def asked(how: str) -> tuple[list[str], int, int, int]:
        found = (await robin.get(f"/api/v1/users/search?q=robin{how}")).json()
        names = [user["username"][-1] for user in found["users"]]
        return names, found["total"], found["page"], found["page_size"]

    assert await asked("") == (["0", "1", "2", "3", "4"], 5, 1, 50)
    assert await asked("&limit=2&offset=2") == (["2", "3"], 5, 2, 2)
    assert await asked("&page=3&page_size=2") == (["4"], 5, 3, 2)
    assert await asked("&page_size=1000") == (["0", "1", "2", "3", "4"], 5, 1, 100)
    blank = (await robin.get("/api/v1/users/search?q=%20&page=2")).json()
    assert blank == {"users": [], "total": 0, "page": 2, "page_size": 50}
