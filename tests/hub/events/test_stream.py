"""The stream of events: each once, resumable, of the caller's projects alone."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from hub.database.pool import transaction
from hub.events import feed, stream
from tests.hub.events.conftest import Lab, until

STREAM = "/api/v1/events/stream"


async def read(lab: Lab, client: httpx.AsyncClient | None = None, **parameters: Any) -> list[dict[str, Any]]:
    """A whole stream, which must end by itself."""
    headers = {"Last-Event-ID": parameters.pop("last_event_id")} if "last_event_id" in parameters else {}
    asked = {"project_id": lab.project_id, "idle_timeout_seconds": 0.3, **parameters}
    asked = {name: value for name, value in asked.items() if value is not None}
    answer = await (client or lab.owner).get(STREAM, params=asked, headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    return parse(answer.text)


def parse(text: str) -> list[dict[str, Any]]:
    """The events of a stream, comments left out."""
    found = []
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith((":", "retry:"))]
        if lines:
            fields = dict(line.split(": ", 1) for line in lines)
            found.append(fields | {"data": json.loads(fields["data"])})
    return found


async def test_events_come_with_id_name_and_body(lab: Lab) -> None:
    await lab.happens("run.started", "run.created", name="täst")
    (event,) = await read(lab, since_id=0)
    assert event["event"] == event["data"]["event_type"] == "run.started"
    assert event["data"]["payload"] == {"name": "täst"}
    assert event["data"]["project_id"] == lab.project_id
    assert int(event["id"]) == event["data"]["id"]
    assert set(event["data"]) == {"id", "event_type", "project_id", "occurred_at", "payload"}


async def test_a_stream_goes_on_behind_the_last_event(lab: Lab) -> None:
    for number in range(10):
        await lab.happens(number=number)
    first = await read(lab, since_id=0, max_events=4)
    rest = await read(lab, last_event_id=first[-1]["id"], since_id=0)
    assert [one["data"]["payload"]["number"] for one in first + rest] == list(range(10))


async def test_new_events_reach_all_who_listen_and_each_once(lab: Lab) -> None:
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        readers = [group.create_task(read(lab, max_events=20, idle_timeout_seconds=20)) for _ in range(5)]
        await until(lambda: lab.hub.services.feed.subscribers == 5)
        for number in range(20):
            await lab.happens(number=number)
    for reader in readers:
        assert [one["data"]["payload"]["number"] for one in reader.result()] == list(range(20))


async def test_who_is_behind_the_ring_is_served_from_the_database(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "RING_EVENTS_MAX", 3)
    monkeypatch.setattr(feed, "READ_EVENTS_MAX", 2)
    for number in range(5):
        await lab.happens(number=number)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        late = group.create_task(read(lab, since_id=0, max_events=25, idle_timeout_seconds=20))
        await until(lambda: lab.hub.services.feed.subscribers == 1)
        await lab.happens(*["run.started"] * 20, number=5)
    assert [one["data"]["payload"]["number"] for one in late.result()] == [0, 1, 2, 3, 4] + [5] * 20


async def test_only_types_that_were_asked_for_come(lab: Lab) -> None:
    await lab.happens("run.started", "run.finished", "sensor.silent")
    found = await read(lab, since_id=0, event_type=["run.finished", "sensor.silent"])
    assert [one["event"] for one in found] == ["run.finished", "sensor.silent"]


async def test_a_stream_without_a_project_holds_the_callers_projects_alone(lab: Lab) -> None:
    await lab.happens()
    ann = await lab.hub.member("ann")
    await lab.owner.post(f"/projects/{lab.project_id}/members", json={"username": "ann", "role": "viewer"})
    bob = await lab.hub.member("bob")
    assert len(await read(lab, ann, project_id=None, since_id=0)) == 1
    assert await read(lab, bob, project_id=None, since_id=0) == []
    assert (await bob.get(STREAM, params={"project_id": lab.project_id})).status_code == 404
    assert (await lab.hub.client().get(STREAM)).status_code == 401


@pytest.mark.parametrize("end", ["/auth/logout", "removed", "password change required"])
async def test_who_may_not_see_it_any_more_is_told_and_cut_off(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(stream, "RECHECK_S", 0.1)
    ann = await lab.hub.member("ann")
    admin = await lab.hub.signed_in()
    members = f"/projects/{lab.project_id}/members"
    user_id = (await lab.owner.post(members, json={"username": "ann", "role": "viewer"})).json()["user_id"]
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        reader = group.create_task(read(lab, ann, idle_timeout_seconds=20))
        await until(lambda: lab.hub.services.feed.subscribers == 1)
        if end == "removed":
            assert (await lab.owner.delete(f"{members}/{user_id}")).status_code == 204
        elif end == "password change required":
            change = {"password_change_required": True}
            assert (await admin.patch(f"/auth/users/{user_id}", json=change)).status_code == 200
        else:
            assert (await ann.post(end)).status_code in (200, 204)
    (error,) = reader.result()
    assert (error["event"], error["data"]["status"]) == ("error", 404 if end == "removed" else 401)


async def test_streams_keep_talking_and_end_with_the_hub(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.sse.HEARTBEAT_S", 0.1)
    answer = await lab.owner.get(STREAM, params={"idle_timeout_seconds": 0.5})
    assert ": heartbeat" in answer.text
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["cache-control"] == "no-cache"
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        reader = group.create_task(read(lab, idle_timeout_seconds=None))
        await until(lambda: lab.hub.services.feed.subscribers == 1)
        lab.hub.services.feed.stop()
    assert reader.result() == []
    refused = await lab.owner.get(STREAM)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")


async def test_a_cursor_from_before_a_restore_begins_now_instead_of_never(lab: Lab) -> None:
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        reader = group.create_task(read(lab, last_event_id="999999", max_events=1, idle_timeout_seconds=20))
        await until(lambda: lab.hub.services.feed.subscribers == 1)
        await lab.happens()
    assert len(reader.result()) == 1


async def test_removing_a_webhook_and_an_event_do_not_wait_for_one_another(lab: Lab) -> None:
    """An event that is for a webhook locks it before all others wait for that event, never afterwards."""
    for _ in range(10):
        made = await lab.subscribe("http://127.0.0.1:9/")
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            removal = group.create_task(lab.owner.delete(f"/api/v1/webhooks/{made['id']}"))
            for number in range(5):
                group.create_task(lab.happens(number=number))
        assert removal.result().status_code == 204


async def test_an_event_waits_for_no_lock_on_its_project(lab: Lab) -> None:
    await lab.subscribe("http://127.0.0.1:9/")
    async with transaction(lab.hub.services.pool) as connection:
        await connection.execute("select id from projects where id = $1 for update", lab.project_id)
        async with asyncio.timeout(5):
            await lab.happens()
