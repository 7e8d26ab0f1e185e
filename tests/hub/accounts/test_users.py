"""What administrators do about accounts, and what the audit says of people getting in and out."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from tests.hub.conftest import ADMIN_PASSWORD, Hub


async def id_of(client: httpx.AsyncClient) -> str:
    return str((await client.get("/auth/me")).json()["id"])


async def told(hub: Hub, subject: str) -> list[tuple[str, dict[str, Any]]]:
    """(type, payload) of all events about one account."""
    async with hub.services.pool.acquire() as connection:
        rows = await connection.fetch("select * from events where subject_id = $1::uuid order by id", subject)
    return [(row["event_type"], row["payload"]) for row in rows]


async def test_administrators_find_accounts_by_part_of_name_or_address(hub: Hub) -> None:
    admin = await hub.signed_in()
    for name in ("ann", "joanne", "bob"):
        await hub.member(name)
    listed = (await admin.get("/auth/users?page_size=2")).json()
    assert ([user["username"] for user in listed["users"]], listed["total"]) == (["admin", "ann"], 4)
    found = (await admin.get("/auth/users?q=ANN")).json()["users"]
    assert [user["username"] for user in found] == ["ann", "joanne"]
    assert [user["username"] for user in (await admin.get("/auth/users?q=b%25")).json()["users"]] == []
    assert [user["username"] for user in (await admin.get("/auth/users?q=bob@")).json()["users"]] == ["bob"]
    assert (await admin.get("/auth/users?is_active=false")).json()["total"] == 0
    assert "password" not in str(found[0].keys() - {"password_change_required"})


async def test_a_deactivated_person_is_out_at_once_and_back_when_activated(hub: Hub) -> None:
    admin, ann = await hub.signed_in(), await hub.member("ann")
    ann_id = await id_of(ann)
    assert (await admin.patch(f"/auth/users/{ann_id}", json={"is_active": False})).json()["is_active"] is False
    assert (await ann.get("/auth/me")).status_code == 401
    credentials = {"username": "ann", "password": "Password1"}
    assert (await hub.client().post("/auth/login", json=credentials)).status_code == 401
    await admin.patch(f"/auth/users/{ann_id}", json={"is_active": True})
    assert (await ann.get("/auth/me")).status_code == 401, "the sign-ins of before stay ended"
    assert (await hub.client().post("/auth/login", json=credentials)).status_code == 200
    assert [event for event in await told(hub, ann_id) if event[0] == "user.changed"] == [
        ("user.changed", {"is_active": False}),
        ("user.changed", {"is_active": True}),
    ]


async def test_a_change_of_password_can_be_required(hub: Hub) -> None:
    admin, ann = await hub.signed_in(), await hub.member("ann")
    await admin.patch(f"/auth/users/{await id_of(ann)}", json={"password_change_required": True})
    assert (await ann.get("/projects")).json()["code"] == "password_change_required"
    same = {"current_password": "Password1", "new_password": "Password1"}
    answer = await ann.post("/auth/change-password", json=same)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "new_password")
    change = {"current_password": "Password1", "new_password": "Password2"}
    assert (await ann.post("/auth/change-password", json=change)).status_code == 200
    assert (await ann.get("/projects")).status_code == 200


async def test_an_account_whose_password_was_changed_is_another_version(hub: Hub) -> None:
    admin, ann = await hub.signed_in(), await hub.member("ann")
    path = f"/auth/users/{await id_of(ann)}"
    seen = (await admin.patch(path, json={"password_change_required": True})).headers["etag"]
    change = {"current_password": "Password1", "new_password": "Password2"}
    assert (await ann.post("/auth/change-password", json=change)).status_code == 200
    late = await admin.patch(path, json={"is_admin": True}, headers={"If-Match": seen})
    assert late.status_code == 412
    now = await admin.get(path)
    assert (now.json()["password_change_required"], now.json()["is_admin"]) == (False, False)
    assert now.headers["etag"] == late.headers["etag"] != seen


async def test_one_administrator_stays_whatever_is_done_at_the_same_time(hub: Hub) -> None:
    admin = await hub.signed_in()
    ids = [await id_of(admin)]
    for number in range(4):
        ids.append(await id_of(await hub.member(f"admin{number}")))
        await admin.patch(f"/auth/users/{ids[-1]}", json={"is_admin": True})
    others = [await hub.signed_in(f"admin{number}", "Password1") for number in range(4)]
    changes = ({"is_admin": False}, {"is_active": False})
    answers = await asyncio.gather(
        *(
            client.patch(f"/auth/users/{ids[(place + step) % 5]}", json=changes[step % 2])
            for place, client in enumerate([admin, *others])
            for step in range(10)
        )
    )
    assert {answer.status_code for answer in answers} <= {200, 401, 403, 409}
    async with hub.services.pool.acquire() as connection:
        assert await connection.fetchval("select count(*) from users where is_admin and is_active") >= 1


async def test_the_last_administrator_and_an_old_version_are_refused(hub: Hub) -> None:
    admin = await hub.signed_in()
    path = f"/auth/users/{await id_of(admin)}"
    refused = await admin.patch(path, json={"is_admin": False})
    assert (refused.status_code, refused.json()["code"]) == (409, "last_admin")
    assert (await admin.get(path)).headers["etag"] == '"1"'
    assert (await admin.patch(path, json={"is_active": True}, headers={"If-Match": '"2"'})).status_code == 412
    for body in ({}, {"is_active": None}, {"is_active": "maybe"}, {"username": "x"}):
        assert (await admin.patch(path, json=body)).status_code == 422, body


async def test_getting_in_and_out_stands_in_the_audit_without_secrets(hub: Hub) -> None:
    ann = await hub.member("ann")
    ann_id = await id_of(ann)
    client = hub.client()
    await client.post("/auth/login", json={"username": "ann", "password": "Wrong-1-password"})
    await client.post("/auth/login", json={"username": "nobody", "password": "Wrong-1-password"})
    tokens = (await client.post("/auth/login", json={"username": "ann", "password": "Password1"})).json()
    await hub.client().post("/auth/refresh", json={"refresh_token": tokens["refresh_token"]})
    await hub.client().post("/auth/refresh", json={"refresh_token": tokens["refresh_token"]})
    await ann.post("/auth/change-password", json={"current_password": "Password1", "new_password": "Password2"})
    await ann.post("/auth/logout")
    assert [event_type for event_type, _ in await told(hub, ann_id)] == [
        "user.registered",
        "user.signed_in",
        "user.sign_in_failed",
        "user.signed_in",
        "user.refresh_token_reused",
        "user.password_changed",
        "user.signed_out",
    ]
    async with hub.services.pool.acquire() as connection:
        rows = await connection.fetch("select * from events where payload ->> 'is_admin' is null")
    assert sum(row["event_type"] == "user.sign_in_failed" for row in rows) == 2
    assert all(row["address"] == "127.0.0.1" and row["request_id"] for row in rows)
    everything = str([dict(row) for row in rows])
    for secret in ("Password1", "Wrong-1", "nobody", tokens["refresh_token"], ADMIN_PASSWORD):
        assert secret not in everything
