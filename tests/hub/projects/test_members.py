"""Members come, go and change roles; a project always has an owner, whoever does what at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx

from tests.hub.conftest import Hub


async def project_of(client: httpx.AsyncClient, name: str = "Lab") -> str:
    answer = await client.post("/projects", json={"name": name})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def join(owner: httpx.AsyncClient, project: str, username: str, role: str) -> str:
    answer = await owner.post(f"/projects/{project}/members", json={"username": username, "role": role})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["user_id"])


async def told(hub: Hub, project: str) -> list[tuple[str, dict[str, Any], str]]:
    """(type, payload, role of whoever did it) of all events of a project."""
    async with hub.services.pool.acquire() as connection:
        rows = await connection.fetch("select * from events where project_id = $1::uuid order by id", project)
    return [(row["event_type"], row["payload"], row["actor_role"]) for row in rows]


async def owners(hub: Hub, project: str) -> int:
    async with hub.services.pool.acquire() as connection:
        query = "select count(*) from project_members where project_id = $1::uuid and role = 'owner'"
        return int(await connection.fetchval(query, project))


async def test_what_happens_to_members_stands_in_the_audit(hub: Hub) -> None:
    ann, bob, _ = [await hub.member(name) for name in ("ann", "bob", "cay")]
    project = await project_of(ann)
    bob_id = await join(ann, project, "bob", "viewer")
    cay_id = await join(ann, project, "cay", "viewer")
    await ann.put(f"/projects/{project}/members/{bob_id}/role", json={"role": "editor"})
    await ann.put(f"/projects/{project}/members/{bob_id}/role", json={"role": "editor"})  # changes nothing
    assert (await bob.delete(f"/projects/{project}/members/{bob_id}")).status_code == 204
    assert (await ann.delete(f"/projects/{project}/members/{cay_id}")).status_code == 204

    events = await told(hub, project)
    assert [event_type for event_type, _, _ in events] == [
        "project.created",
        "member.added",
        "member.added",
        "member.role_changed",
        "member.left",
        "member.removed",
    ]
    assert events[3][1] == {"user_id": bob_id, "username": "bob", "role": "editor", "role_before": "viewer"}
    assert events[1][2] == "owner"


async def test_a_member_is_added_once_for_a_key(hub: Hub) -> None:
    ann, _ = await hub.member("ann"), await hub.member("bob")
    project = await project_of(ann)
    answers = await asyncio.gather(
        *(
            ann.post(f"/projects/{project}/members", json={"username": "bob"}, headers={"Idempotency-Key": "k"})
            for _ in range(20)
        )
    )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1


async def fifty_owners(hub: Hub) -> tuple[str, list[str], list[httpx.AsyncClient]]:
    clients = [await hub.member(f"owner{number}") for number in range(10)]
    project = await project_of(clients[0])
    ids = [(await clients[0].get("/auth/me")).json()["id"]]
    ids += [await join(clients[0], project, f"owner{number}", "owner") for number in range(1, 10)]
    return project, ids, clients


def statuses(answers: Sequence[httpx.Response]) -> set[int]:
    return {answer.status_code for answer in answers}


async def test_one_owner_stays_whoever_leaves_at_the_same_time(hub: Hub) -> None:
    project, ids, clients = await fifty_owners(hub)
    answers = await asyncio.gather(
        *(
            client.delete(f"/projects/{project}/members/{user_id}")
            for client, user_id in zip(clients, ids, strict=True)
            for _ in range(5)
        )
    )
    assert await owners(hub, project) == 1
    assert statuses(answers) <= {204, 404, 409}
    assert sum(answer.status_code == 204 for answer in answers) == 9


async def test_one_owner_stays_whoever_is_demoted_at_the_same_time(hub: Hub) -> None:
    project, ids, clients = await fifty_owners(hub)
    answers = await asyncio.gather(
        *(
            client.put(f"/projects/{project}/members/{ids[(place + step) % 10]}/role", json={"role": "viewer"})
            for place, client in enumerate(clients)
            for step in range(5)
        )
    )
    assert await owners(hub, project) >= 1
    assert statuses(answers) <= {200, 403, 409}
    async with hub.services.pool.acquire() as connection:
        held_by = await connection.fetchval(
            "select m.role from projects p join project_members m on m.project_id = p.id and m.user_id = p.owner_id "
            "where p.id = $1::uuid",
            project,
        )
    assert held_by == "owner"


async def test_who_was_demoted_meanwhile_may_not_go_on(hub: Hub) -> None:
    """The role is looked at again under the lock, not only when the request came in."""
    ann, bob = await hub.member("ann"), await hub.member("bob")
    project = await project_of(ann)
    bob_id = await join(ann, project, "bob", "owner")
    ann_id = (await ann.get("/auth/me")).json()["id"]
    async with hub.services.pool.acquire() as connection, connection.transaction():
        await connection.execute("select from projects where id = $1::uuid for update", project)
        pending = asyncio.ensure_future(bob.delete(f"/projects/{project}/members/{ann_id}"))
        await asyncio.sleep(0.3)
        await connection.execute(
            "update project_members set role = 'viewer' where user_id = $1::uuid and project_id = $2::uuid",
            bob_id,
            project,
        )
    assert (await pending).status_code == 403


async def test_a_project_is_changed_in_the_version_that_was_meant(hub: Hub) -> None:
    ann = await hub.member("ann")
    made = await ann.post("/projects", json={"name": "Lab"})
    path = f"/projects/{made.json()['id']}"
    assert made.headers["etag"] == (await ann.get(path)).headers["etag"] == '"1"'
    first = await ann.put(path, json={"name": "Hall"}, headers={"If-Match": '"1"'})
    late = await ann.put(path, json={"name": "Shed"}, headers={"If-Match": '"1"'})
    assert (first.status_code, first.headers["etag"], late.status_code) == (200, '"2"', 412)
    assert (await ann.delete(path, headers={"If-Match": '"1"'})).status_code == 412
    assert (await ann.delete(path, headers={"If-Match": '"2"'})).status_code == 204
