"""A change commits with what is told of it, and a post with a key is done once."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from uuid import UUID

import pytest

from hub.database.ids import uuid7
from hub.database.pool import acquire
from hub.events import keys
from hub.events.change import begin_change
from hub.events.event import HUB, NewEvent, SubjectType
from tests.hub.conftest import Hub


async def test_fifty_parallel_creates_with_one_key_make_one_thing(hub: Hub) -> None:
    ann = await hub.member("ann")
    body, headers = {"name": "Lab"}, {"Idempotency-Key": "k-1"}
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ann.post("/projects", json=body, headers=headers)) for _ in range(50)]
    answers = [task.result() for task in tasks]
    assert {answer.status_code for answer in answers} == {201}, answers[0].text
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert Counter("idempotency-replayed" in answer.headers for answer in answers) == {True: 49, False: 1}
    assert len((await ann.get("/projects")).json()["projects"]) == 1


async def test_a_key_means_one_request_of_one_caller(hub: Hub) -> None:
    ann, bob = await hub.member("ann"), await hub.member("bob")
    headers = {"Idempotency-Key": "k-1"}
    first = await ann.post("/projects", json={"name": "Lab"}, headers=headers)
    other_body = await ann.post("/projects", json={"name": "Else"}, headers=headers)
    assert (other_body.status_code, other_body.json()["code"]) == (409, "idempotency_conflict")
    of_bob = await bob.post("/projects", json={"name": "Lab"}, headers=headers)
    assert of_bob.status_code == 201
    assert of_bob.json()["id"] != first.json()["id"]


async def test_a_repeat_may_write_the_same_body_otherwise(hub: Hub) -> None:
    ann = await hub.member("ann")
    headers = {"Idempotency-Key": "k-1", "Content-Type": "application/json"}
    first = await ann.post("/projects", content='{"name":"Lab","description":"\u00e4 b"}', headers=headers)
    for again in ('{"description": "\\u00e4 b",\n "name": "Lab"}', '{"name":"Lab","description":"\u00e4 b"}\n'):
        answer = await ann.post("/projects", content=again.encode(), headers=headers)
        assert (answer.status_code, answer.json()["id"]) == (201, first.json()["id"]), again
        assert answer.headers["idempotency-replayed"] == "true"
    for other in ('{"description":"\u00e4  b","name":"Lab"}', '{"name":"Lab"}'):
        answer = await ann.post("/projects", content=other.encode(), headers=headers)
        assert answer.json()["code"] == "idempotency_conflict", other


async def test_a_key_means_one_path(hub: Hub) -> None:
    ann = await hub.member("ann")
    project_id = (await ann.post("/projects", json={"name": "Lab"})).json()["id"]
    body, headers = {"project_id": project_id, "name": "Anneal"}, {"Idempotency-Key": "k-1"}
    assert (await ann.post("/api/v1/experiments", json=body, headers=headers)).status_code == 201
    elsewhere = await ann.post("/projects", json={"name": "Else"}, headers=headers)
    asked_otherwise = await ann.post(f"/api/v1/experiments?project_id={project_id}", json=body, headers=headers)
    assert {answer.json()["code"] for answer in (elsewhere, asked_otherwise)} == {"idempotency_conflict"}


async def test_a_key_of_a_refused_request_is_free_again(hub: Hub) -> None:
    ann = await hub.member("ann")
    await ann.post("/projects", json={"name": "Lab"})
    headers = {"Idempotency-Key": "k-1"}
    assert (await ann.post("/projects", json={"name": "Lab"}, headers=headers)).status_code == 409
    assert (await ann.post("/projects", json={"name": "Lab 2"}, headers=headers)).status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_a_key_that_is_none_is_refused_by_name(hub: Hub, key: str) -> None:
    ann = await hub.member("ann")
    answer = await ann.post("/projects", json={"name": "Lab"}, headers={"Idempotency-Key": key})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "Idempotency-Key"


async def test_a_purged_key_is_forgotten(hub: Hub) -> None:
    ann = await hub.member("ann")
    headers = {"Idempotency-Key": "k-1"}
    await ann.post("/projects", json={"name": "Lab"}, headers=headers)
    async with acquire(hub.services.pool) as connection:
        await keys.purge(connection, hub.services.now() + timedelta(seconds=1), 10)
    assert (await ann.post("/projects", json={"name": "Else"}, headers=headers)).status_code == 201


async def test_the_audit_says_who_did_what_from_where(hub: Hub) -> None:
    ann = await hub.member("ann")
    made = await ann.post("/projects", json={"name": "Lab"}, headers={"X-Request-Id": "r-1"})
    async with acquire(hub.services.pool) as connection:
        row = await connection.fetchrow("select * from events where subject_id = $1", UUID(made.json()["id"]))
    me = (await ann.get("/auth/me")).json()
    assert (row["event_type"], row["actor_type"], str(row["actor_id"])) == ("project.created", "user", me["id"])
    assert (row["actor_role"], row["address"], row["request_id"]) == ("owner", "127.0.0.1", "r-1")


async def test_a_change_that_fails_leaves_no_event(hub: Hub) -> None:
    subject = uuid7()

    async def fail() -> None:
        async with begin_change(hub.services.pool, HUB, hub.services.now()) as change:
            change.record(NewEvent("project.created", SubjectType.PROJECT, subject))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    async with acquire(hub.services.pool) as connection:
        assert await connection.fetchval("select count(*) from events where subject_id = $1", subject) == 0


async def test_a_cursor_over_event_ids_never_skips_one(hub: Hub) -> None:
    """Many changes at once, read by a cursor all the while: each event is seen, in the order of its id."""
    changes, seen, cursor = 200, [], 0

    async def change(number: int) -> None:
        async with begin_change(hub.services.pool, HUB, hub.services.now()) as one:
            await one.connection.execute("select pg_sleep($1)", number % 7 / 1000)
            one.record(NewEvent(f"test.{number}", SubjectType.PROJECT, None))

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for number in range(changes):
            group.create_task(change(number))
        while len(seen) < changes:
            async with acquire(hub.services.pool, timeout_s=30) as connection:
                rows = await connection.fetch(
                    "select id from events where id > $1 and event_type like 'test.%' order by id", cursor
                )
            seen += [row["id"] for row in rows]
            cursor = seen[-1] if seen else 0
    assert len(set(seen)) == changes
