"""Invitations: made by owners and administrators, used once, and worth what their maker may do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from hub.settings import HubSettings
from tests.hub.conftest import Hub, running_hub


@pytest.fixture
async def hub(hub_settings: dict[str, Any]) -> AsyncIterator[Hub]:
    """A hub that lets in whoever is invited."""
    async with running_hub(HubSettings(**hub_settings | {"registration": "invitation"})) as running:
        yield running


async def invite(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await client.post("/auth/invitations", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def register(hub: Hub, name: str, token: str, **more: str) -> httpx.Response:
    body = {"username": name, "email": f"{name}@example.org", "password": "Password1", "invitation_token": token}
    return await hub.client().post("/auth/register", json=body | more)


async def owner(hub: Hub) -> tuple[httpx.AsyncClient, str]:
    """Ann, invited by the administrator, with a project of hers."""
    made = await invite(await hub.signed_in())
    answer = await register(hub, "ann", made["token"])
    assert answer.status_code == 201, answer.text
    ann = hub.client(Authorization=f"Bearer {answer.json()['access_token']}")
    return ann, (await ann.post("/projects", json={"name": "Lab"})).json()["id"]


async def test_whoever_is_invited_to_a_project_joins_it_as_he_registers(hub: Hub) -> None:
    ann, project = await owner(hub)
    made = await invite(ann, project_id=project, role="editor")
    assert made["url"] == f"http://127.0.0.1:8000/register?invitation={made['token']}"
    assert made["invitation"]["status"] == "open"
    answer = await register(hub, "bob", made["token"])
    assert answer.status_code == 201, answer.text
    bob = hub.client(Authorization=f"Bearer {answer.json()['access_token']}")
    assert (await bob.get(f"/projects/{project}")).json()["role"] == "editor"
    async with hub.services.pool.acquire() as connection:
        rows = await connection.fetch("select event_type, actor_id from events order by id desc limit 4")
    assert [row["event_type"] for row in rows][::-1] == [
        "user.registered",
        "invitation.used",
        "member.added",
        "user.signed_in",
    ]
    assert {str(row["actor_id"]) for row in rows} == {answer.json()["user"]["id"]}
    (used,) = (await ann.get("/auth/invitations")).json()["invitations"]
    assert (used["status"], used["used_by"]) == ("used", answer.json()["user"]["id"])


async def test_nobody_registers_without_one(hub: Hub) -> None:
    body = {"username": "bob", "email": "bob@example.org", "password": "Password1"}
    answer = await hub.client().post("/auth/register", json=body)
    assert (answer.status_code, answer.json()["code"]) == (403, "invitation_needed")
    answer = await register(hub, "bob", "x" * 43)
    assert (answer.status_code, answer.json()["code"]) == (403, "invitation_refused")


async def test_an_invitation_lets_one_in_however_many_come_at_once(hub: Hub) -> None:
    ann, project = await owner(hub)
    made = await invite(ann, project_id=project)
    answers = await asyncio.gather(*(register(hub, f"user{number}", made["token"]) for number in range(20)))
    assert sorted(answer.status_code for answer in answers) == [201] + [403] * 19
    members = (await ann.get(f"/projects/{project}/members")).json()["members"]
    assert len(members) == 2


async def test_a_name_that_is_taken_does_not_use_it_up(hub: Hub) -> None:
    ann, project = await owner(hub)
    made = await invite(ann, project_id=project)
    assert (await register(hub, "ann", made["token"], email="other@example.org")).status_code == 409
    assert (await register(hub, "bob", made["token"])).status_code == 201


async def test_it_is_for_the_address_that_it_names(hub: Hub) -> None:
    made = await invite(await hub.signed_in(), email="Bob@Example.org")
    other = await register(hub, "eve", made["token"])
    assert (other.status_code, other.json()["errors"][0]["field"]) == (422, "email")
    assert (await register(hub, "bob", made["token"])).status_code == 201


async def test_withdrawn_expired_and_of_a_maker_without_the_right_it_is_worthless(hub: Hub) -> None:
    ann, project = await owner(hub)
    admin = await hub.signed_in()
    withdrawn, expired, orphaned = [await invite(ann, project_id=project) for _ in range(3)]
    unfounded = await invite(admin)
    assert (await ann.delete(f"/auth/invitations/{withdrawn['invitation']['id']}")).status_code == 204
    async with hub.services.pool.acquire() as connection:
        await connection.execute(
            "update invitations set expires_at = now() where id = $1::uuid", expired["invitation"]["id"]
        )
    for made in (withdrawn, expired):
        assert (await register(hub, "bob", made["token"])).status_code == 403
    async with hub.services.pool.acquire() as connection:
        await connection.execute("update project_members set role = 'editor'")
        await connection.execute("update users set is_admin = false")
    for made in (orphaned, unfounded):
        assert (await register(hub, "bob", made["token"])).status_code == 403


async def test_owners_invite_to_their_projects_and_administrators_to_the_hub(hub: Hub) -> None:
    ann, project = await owner(hub)
    admin = await hub.signed_in()
    made = await invite(ann, project_id=project, role="viewer")
    bob = hub.client(Authorization=f"Bearer {(await register(hub, 'bob', made['token'])).json()['access_token']}")
    statuses = [
        (await client.post("/auth/invitations", json=body)).status_code
        for client, body in (
            (bob, {"project_id": project, "role": "viewer"}),
            (admin, {"project_id": project, "role": "viewer"}),
            (ann, {"project_id": str(uuid4()), "role": "viewer"}),
            (ann, {}),
            (ann, {"role": "viewer"}),
            (ann, {"project_id": project, "role": "king"}),
            (ann, {"project_id": project, "expires_in_days": 91}),
        )
    ]
    assert statuses == [403, 404, 404, 403, 422, 422, 422]
    open_one = await invite(ann, project_id=project)
    assert (await bob.get("/auth/invitations")).json()["invitations"] == []
    assert (await bob.get(f"/auth/invitations?project_id={project}")).status_code == 403
    assert (await admin.delete(f"/auth/invitations/{open_one['invitation']['id']}")).status_code == 404
    assert [one["project_id"] for one in (await admin.get("/auth/invitations")).json()["invitations"]] == [None]


async def test_a_repeat_of_the_request_shows_no_token(hub: Hub) -> None:
    admin = await hub.signed_in()
    first, again = [await admin.post("/auth/invitations", json={}, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert again.json() == first.json() | {"token": None, "url": None}


async def test_used_ones_cannot_be_withdrawn_and_closed_hubs_make_none(hub: Hub, hub_settings: dict[str, Any]) -> None:
    admin = await hub.signed_in()
    made = await invite(admin)
    await register(hub, "bob", made["token"])
    assert (await admin.delete(f"/auth/invitations/{made['invitation']['id']}")).status_code == 409
    open_one = await invite(admin)
    async with running_hub(HubSettings(**hub_settings | {"registration": "closed"})) as closed:
        refused = await (await closed.signed_in()).post("/auth/invitations", json={})
        assert (refused.status_code, refused.json()["code"]) == (409, "registration_closed")
        assert (await register(closed, "cay", open_one["token"])).json()["code"] == "registration_closed"
