"""Tokens for scripts: shown once, reaching as far as their scopes, worthless at once when they end."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.hub.conftest import Hub


async def token_of(client: httpx.AsyncClient, *scopes: str, **more: Any) -> dict[str, Any]:
    answer = await client.post("/auth/tokens", json={"name": "script", "scopes": list(scopes), **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def script(hub: Hub, made: dict[str, Any]) -> httpx.AsyncClient:
    return hub.client(Authorization=f"Bearer {made['token']}")


async def test_a_token_is_shown_once_and_kept_as_a_hash(hub: Hub) -> None:
    ann = await hub.member("ann")
    made = await token_of(ann, "write", "read", expires_in_days=30)
    assert made["token"].startswith("lrp_")
    assert made["personal_token"]["token_preview"] == made["token"][-4:]
    assert made["personal_token"]["scopes"] == ["read", "write"]
    listed = await ann.get("/auth/tokens")
    assert listed.json()["tokens"] == [made["personal_token"]]
    assert made["token"] not in listed.text
    async with hub.services.pool.acquire() as connection:
        told = await connection.fetchval("select payload::text from events where event_type = 'token.made'")
        kept = await connection.fetchval("select encode(token_hash, 'escape') from personal_tokens")
    assert made["token"] not in told + kept


async def test_a_repeat_of_the_request_makes_no_second_token_and_shows_none(hub: Hub) -> None:
    ann = await hub.member("ann")
    body, key = {"name": "script"}, {"Idempotency-Key": "k"}
    first, again = [await ann.post("/auth/tokens", json=body, headers=key) for _ in range(2)]
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["token"].startswith("lrp_")
    assert again.json() == first.json() | {"token": None}
    assert (await ann.get("/auth/tokens")).json()["total"] == 1


@pytest.mark.parametrize(
    ("scope", "statuses"), [("read", (200, 403, 403)), ("write", (200, 201, 403)), ("manage", (200, 201, 200))]
)
async def test_scopes_include_those_below(hub: Hub, scope: str, statuses: tuple[int, ...]) -> None:
    ann = await hub.member("ann")
    project = (await ann.post("/projects", json={"name": "Lab"})).json()["id"]
    client = script(hub, await token_of(ann, scope))
    answers = (
        await client.get(f"/projects/{project}"),
        await client.post("/projects", json={"name": "Other"}),
        await client.put(f"/projects/{project}", json={"name": "Third"}),
    )
    assert tuple(answer.status_code for answer in answers) == statuses
    assert all(answer.json()["code"] == "insufficient_scope" for answer in answers if answer.status_code == 403)


async def test_a_token_cannot_do_what_takes_the_person(hub: Hub) -> None:
    ann = await hub.member("ann")
    made = await token_of(ann, "manage")
    client = script(hub, made)
    change = {"current_password": "Password1", "new_password": "Password2"}
    answers = [
        await client.post("/auth/change-password", json=change),
        await client.post("/auth/tokens", json={"name": "more"}),
        await client.delete(f"/auth/tokens/{made['personal_token']['id']}"),
        await client.post("/auth/sign-in-links"),
    ]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(403, "insufficient_scope")] * 4
    assert (await client.post("/auth/logout")).status_code == 204
    assert (await ann.get("/auth/me")).status_code == 200
    assert (await client.get("/auth/me")).json()["username"] == "ann"


async def test_revoked_expired_or_of_a_deactivated_person_a_token_is_worthless(hub: Hub) -> None:
    ann = await hub.member("ann")
    revoked, expired, good = [await token_of(ann, "read", expires_in_days=1) for _ in range(3)]
    assert (await script(hub, revoked).get("/projects")).status_code == 200
    path = f"/auth/tokens/{revoked['personal_token']['id']}"
    assert [(await ann.delete(path)).status_code for _ in range(2)] == [204, 404]
    async with hub.services.pool.acquire() as connection:
        statement = "update personal_tokens set expires_at = now() - interval '1 second' where id = $1::uuid"
        await connection.execute(statement, expired["personal_token"]["id"])
    for made in (revoked, expired, {"token": "lrp_unknown"}, {"token": "lrp_" + "x" * 500}):
        assert (await script(hub, made).get("/projects")).status_code == 401
    assert (await script(hub, good).get("/projects")).status_code == 200
    ann_id = (await ann.get("/auth/me")).json()["id"]
    await (await hub.signed_in()).patch(f"/auth/users/{ann_id}", json={"is_active": False})
    assert (await script(hub, good).get("/projects")).status_code == 401


async def test_others_tokens_are_not_there(hub: Hub) -> None:
    ann, bob = await hub.member("ann"), await hub.member("bob")
    made = await token_of(ann, "read")
    assert (await bob.get("/auth/tokens")).json()["tokens"] == []
    assert (await bob.delete(f"/auth/tokens/{made['personal_token']['id']}")).status_code == 404


async def test_its_use_is_noted_once_a_minute(hub: Hub) -> None:
    ann = await hub.member("ann")
    client = script(hub, await token_of(ann, "read"))

    async def noted() -> tuple[Any, int]:
        async with hub.services.pool.acquire() as connection:
            row = await connection.fetchrow("select last_used_at, xmin::text::bigint as written from personal_tokens")
            assert row is not None
            return row["last_used_at"], row["written"]

    assert (await noted())[0] is None
    await client.get("/projects")
    first = await noted()
    await asyncio.gather(*(client.get("/projects") for _ in range(10)))
    assert await noted() == first
    async with hub.services.pool.acquire() as connection:
        await connection.execute("update personal_tokens set last_used_at = last_used_at - interval '1 minute'")
    await client.get("/projects")
    assert (await noted())[0] >= first[0]


@pytest.mark.parametrize("end", ["revoked", "password change required", "deactivated"])
async def test_a_stream_ends_when_its_token_is_not_good_any_more(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr("hub.telemetry.stream.RECHECK_S", 0.1)
    admin, ann = await hub.signed_in(), await hub.member("ann")
    made = await token_of(ann, "read")
    user_id = (await ann.get("/auth/me")).json()["id"]
    pending = asyncio.ensure_future(script(hub, made).get("/api/v1/telemetry/stream?idle_timeout_seconds=20"))
    async with asyncio.timeout(30):
        while not hub.services.tail.subscribers:
            await asyncio.sleep(0.01)
    assert not pending.done()
    if end == "revoked":
        await ann.delete(f"/auth/tokens/{made['personal_token']['id']}")
    else:
        change = {"is_active": False} if end == "deactivated" else {"password_change_required": True}
        assert (await admin.patch(f"/auth/users/{user_id}", json=change)).status_code == 200
    async with asyncio.timeout(30):
        answer = await pending
    assert "event: error" in answer.text
    assert '"status":401' in answer.text


async def test_a_person_has_a_hundred_tokens_at_most(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.accounts.personal_token_routes.TOKENS_MAX", 3)
    ann = await hub.member("ann")
    answers = await asyncio.gather(*(ann.post("/auth/tokens", json={"name": "x"}) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [409] * 5


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "x", "scopes": []},
        {"name": "x", "scopes": ["all"]},
        {"name": "x", "expires_in_days": 0},
    ],
)
async def test_odd_tokens_are_refused(hub: Hub, body: dict[str, Any]) -> None:
    assert (await (await hub.member("ann")).post("/auth/tokens", json=body)).status_code == 422
