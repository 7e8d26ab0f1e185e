"""Projects and members: who sees and changes what."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import httpx

from tests.hub.conftest import Hub


async def make(client: httpx.AsyncClient, name: str = "Lab") -> str:
    answer = await client.post("/projects", json={"name": name})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def join(owner: httpx.AsyncClient, project: str, username: str, role: str) -> str:
    answer = await owner.post(f"/projects/{project}/members", json={"username": username, "role": role})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["user_id"])


async def test_whoever_makes_a_project_owns_it(hub: Hub) -> None:
    ann = await hub.member("ann")
    made = (await ann.post("/projects", json={"name": " Lab ", "description": "Flow"})).json()
    assert (made["name"], made["description"], made["role"]) == ("Lab", "Flow", "owner")
    assert (await ann.get("/projects")).json() == {"projects": [made]}
    assert (await ann.get(f"/projects/{made['id']}")).json() == made
    members = (await ann.get(f"/projects/{made['id']}/members")).json()["members"]
    assert [(member["username"], member["role"]) for member in members] == [("ann", "owner")]


async def test_outsiders_and_administrators_see_no_project(hub: Hub) -> None:
    project = await make(await hub.member("ann"))
    for outsider in (await hub.member("eve"), await hub.signed_in()):
        assert (await outsider.get("/projects")).json() == {"projects": []}
        for method, path in (
            ("GET", ""),
            ("PUT", ""),
            ("DELETE", ""),
            ("GET", "/members"),
            ("POST", "/members"),
            ("DELETE", f"/members/{uuid4()}"),
            ("PUT", f"/members/{uuid4()}/role"),
        ):
            body: dict[str, Any] | None = {"role": "viewer", "username": "eve"} if path else {"name": "X"}
            if path.endswith("/role"):
                body = {"role": "viewer"}
            answer = await outsider.request(method, f"/projects/{project}{path}", json=body)
            assert answer.status_code == 404, (method, path, answer.text)


async def test_roles_are_enforced(hub: Hub) -> None:
    owner, viewer, editor = [await hub.member(name) for name in ("ann", "vic", "eddy")]
    project = await make(owner)
    await join(owner, project, "vic", "viewer")
    await join(owner, project, "eddy", "editor")
    for client in (viewer, editor):
        assert (await client.get(f"/projects/{project}")).status_code == 200
        assert (await client.get(f"/projects/{project}/members")).status_code == 200
        assert (await client.put(f"/projects/{project}", json={"name": "Mine"})).status_code == 403
        assert (await client.delete(f"/projects/{project}")).status_code == 403
        answer = await client.post(f"/projects/{project}/members", json={"username": "admin", "role": "viewer"})
        assert answer.status_code == 403
    assert (await owner.put(f"/projects/{project}", json={"description": "New"})).json()["description"] == "New"
    assert (await owner.delete(f"/projects/{project}")).status_code == 204
    assert (await viewer.get(f"/projects/{project}")).status_code == 404


async def test_names_are_unique_per_owner_as_they_are_written(hub: Hub) -> None:
    ann, bob = await hub.member("ann"), await hub.member("bob")
    await make(ann, "Lab")
    other = await make(ann, "Other")
    assert (await ann.post("/projects", json={"name": " Lab "})).json()["code"] == "taken"
    assert (await ann.put(f"/projects/{other}", json={"name": "Lab"})).json()["code"] == "taken"
    await make(bob, "Lab")
    await make(ann, "LAB")
    assert (await ann.put(f"/projects/{other}", json={"name": "lab"})).status_code == 200
    listed = (await ann.get("/projects")).json()["projects"]
    assert sorted(project["name"] for project in listed) == ["LAB", "Lab", "lab"]


async def test_the_last_owner_stays(hub: Hub) -> None:
    ann = await hub.member("ann")
    await hub.member("bob")
    project = await make(ann)
    ann_id = (await ann.get("/auth/me")).json()["id"]
    bob_id = await join(ann, project, "bob", "editor")
    refused = await ann.delete(f"/projects/{project}/members/{ann_id}")
    demoted = await ann.put(f"/projects/{project}/members/{ann_id}/role", json={"role": "viewer"})
    assert [refused.status_code, demoted.status_code] == [409, 409]

    await ann.put(f"/projects/{project}/members/{bob_id}/role", json={"role": "owner"})
    assert (await ann.delete(f"/projects/{project}/members/{ann_id}")).status_code == 204
    assert (await ann.get(f"/projects/{project}")).status_code == 404


async def test_two_owners_who_leave_at_once_do_not_both_leave(hub: Hub) -> None:
    ann, bob = await hub.member("ann"), await hub.member("bob")
    project = await make(ann)
    bob_id = await join(ann, project, "bob", "owner")
    ann_id = (await ann.get("/auth/me")).json()["id"]
    answers = await asyncio.gather(
        ann.delete(f"/projects/{project}/members/{ann_id}"), bob.delete(f"/projects/{project}/members/{bob_id}")
    )
    assert sorted(answer.status_code for answer in answers) == [204, 409]


async def test_an_owner_who_leaves_passes_the_project_on(hub: Hub) -> None:
    ann, bob = await hub.member("ann"), await hub.member("bob")
    project = await make(ann)
    bob_id = await join(ann, project, "bob", "owner")
    ann_id = (await ann.get("/auth/me")).json()["id"]
    await bob.delete(f"/projects/{project}/members/{ann_id}")
    assert (await bob.get(f"/projects/{project}")).json()["owner_id"] == bob_id


async def test_anyone_may_leave_but_not_remove_others(hub: Hub) -> None:
    ann, bob = await hub.member("ann"), await hub.member("bob")
    await hub.member("cid")
    project = await make(ann)
    bob_id = await join(ann, project, "bob", "viewer")
    cid_id = await join(ann, project, "cid", "viewer")
    assert (await bob.delete(f"/projects/{project}/members/{cid_id}")).status_code == 403
    assert (await bob.delete(f"/projects/{project}/members/{bob_id}")).status_code == 204


async def test_members_are_added_once_and_must_exist(hub: Hub) -> None:
    ann = await hub.member("ann")
    await hub.member("bob")
    project = await make(ann)
    bob_id = await join(ann, project, "bob", "viewer")
    again = await ann.post(f"/projects/{project}/members", json={"user_id": bob_id, "role": "editor"})
    nobody = await ann.post(f"/projects/{project}/members", json={"user_id": str(uuid4()), "role": "editor"})
    neither = await ann.post(f"/projects/{project}/members", json={"role": "editor"})
    odd = await ann.post(f"/projects/{project}/members", json={"username": "bob", "role": "king"})
    missing = await ann.put(f"/projects/{project}/members/{uuid4()}/role", json={"role": "editor"})
    gone = await ann.delete(f"/projects/{project}/members/{uuid4()}")
    statuses = [answer.status_code for answer in (again, nobody, neither, odd, missing, gone)]
    assert statuses == [409, 422, 422, 422, 404, 404]


async def test_a_project_with_sensors_is_not_removed(hub: Hub) -> None:
    ann = await hub.member("ann")
    project = await make(ann)
    async with hub.services.pool.acquire() as connection:
        await connection.execute("insert into sensors (id, project_id, name) values ($1, $2, 'T1')", uuid4(), project)
    refused = await ann.delete(f"/projects/{project}")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_empty")


async def test_fields_that_nobody_knows_are_refused_by_name(hub: Hub) -> None:
    answer = await (await hub.member("ann")).post("/projects", json={"name": "Lab", "colour": "red"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "colour"
