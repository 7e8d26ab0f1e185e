"""Webhooks over HTTP: who may, what is refused, what is never shown."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from hub.database.pool import acquire
from tests.fixtures.receiver import Receiver
from tests.hub.conftest import Hub
from tests.hub.events.conftest import SECRET, WEBHOOKS, Lab, until


async def test_a_secret_is_never_shown_again(lab: Lab) -> None:
    made = await lab.subscribe("http://127.0.0.1:9/hook", "run.started", "run.finished")
    assert made["event_types"] == ["run.started", "run.finished"]
    assert made["is_signed"] is True
    listed = (await lab.owner.get(WEBHOOKS, params={"project_id": lab.project_id})).json()
    assert listed == {"webhooks": [made], "total": 1, "page": 1, "page_size": 50}
    assert (await lab.owner.get(f"{WEBHOOKS}/{made['id']}")).json() == made
    audit = (await lab.owner.get("/api/v1/events", params={"project_id": lab.project_id})).text
    assert "webhook.created" in audit
    assert SECRET not in str(listed) + str(made) + audit


async def test_the_same_key_makes_one_webhook(lab: Lab) -> None:
    body = {"project_id": lab.project_id, "target_url": "http://127.0.0.1:9/", "event_types": ["run.started"]}
    first = await lab.owner.post(WEBHOOKS, json=body, headers={"Idempotency-Key": "k"})
    again = await lab.owner.post(WEBHOOKS, json=body, headers={"Idempotency-Key": "k"})
    assert first.json() == again.json()
    async with acquire(lab.hub.services.pool) as connection:
        assert await connection.fetchval("select count(*) from webhook_subscriptions") == 1


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("target_url", {"target_url": "http://localhost/hook"}),
        ("target_url", {"target_url": "http://10.0.0.1/hook"}),
        ("target_url", {"target_url": "http://[::1]/hook"}),
        ("target_url", {"target_url": "ftp://example.org/"}),
        ("target_url", {"target_url": "http://me:pw@example.org/"}),
        ("target_url", {"target_url": "http://example.org/\u0000"}),
        ("event_types", {"event_types": []}),
        ("event_types.0", {"event_types": ["run.exploded"]}),
        ("secret", {"secret": ""}),
        ("secret", {"secret": "a\u0000b"}),
        ("nonsense", {"nonsense": 1}),
    ],
)
async def test_what_cannot_be_is_refused_by_name(hub: Hub, field: str, change: dict[str, Any]) -> None:
    owner = await hub.signed_in()
    project_id = (await owner.post("/projects", json={"name": "Lab"})).json()["id"]
    body = {"project_id": project_id, "target_url": "http://example.org/", "event_types": ["run.started"]}
    answer = await owner.post(WEBHOOKS, json=body | change)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == field


async def test_webhooks_are_for_owners(lab: Lab, receiver: Receiver) -> None:
    made = await lab.subscribe(receiver.url())
    await lab.happens()
    (delivery,) = await lab.delivered("succeeded")
    editor, outsider = await lab.hub.member("eddy"), await lab.hub.member("olaf")
    members = f"/projects/{lab.project_id}/members"
    assert (await lab.owner.post(members, json={"username": "eddy", "role": "editor"})).status_code == 201
    body = {"project_id": lab.project_id, "target_url": receiver.url(), "event_types": ["run.started"]}
    for client, status in ((editor, 403), (outsider, 404)):
        of_project = {"project_id": lab.project_id}
        answers = [
            await client.get(WEBHOOKS, params=of_project),
            await client.post(WEBHOOKS, json=body),
            await client.get(f"{WEBHOOKS}/{made['id']}"),
            await client.patch(f"{WEBHOOKS}/{made['id']}", json={"is_active": False}),
            await client.delete(f"{WEBHOOKS}/{made['id']}"),
            await client.get(f"{WEBHOOKS}/deliveries", params=of_project),
            await client.post(f"{WEBHOOKS}/deliveries/{delivery['id']}:retry"),
            await client.get("/api/v1/events", params=of_project),
        ]
        assert [one.status_code for one in answers] == [status] * len(answers)
        assert (await client.get(WEBHOOKS)).json()["total"] == 0
        assert (await client.get(f"{WEBHOOKS}/deliveries")).json()["total"] == 0


async def test_a_webhook_that_is_removed_takes_its_deliveries_with_it(lab: Lab, receiver: Receiver) -> None:
    made = await lab.subscribe(receiver.url())
    await lab.happens()
    await lab.delivered("succeeded")
    assert (await lab.owner.delete(f"{WEBHOOKS}/{made['id']}")).status_code == 204
    assert (await lab.owner.delete(f"{WEBHOOKS}/{made['id']}")).status_code == 404
    assert await lab.deliveries() == []
    await lab.happens()
    assert len(receiver.requests) == 1


async def test_deliveries_are_listed_by_status_and_subscription(lab: Lab, receiver: Receiver) -> None:
    receiver.answer = lambda request: (200 if request.path == "/good" else 500, {})
    good, bad = await lab.subscribe(receiver.url("/good")), await lab.subscribe(receiver.url("/bad"))
    await lab.happens()
    await lab.delivered("succeeded")
    await until(lambda: any(one.path == "/bad" for one in receiver.requests))
    assert [one["subscription_id"] for one in await lab.deliveries(status="succeeded")] == [good["id"]]
    (failing,) = await lab.deliveries(subscription_id=bad["id"])
    assert failing["status"] in ("pending", "in_progress")
    assert (await lab.owner.get(f"{WEBHOOKS}/deliveries", params={"status": "lost"})).status_code == 422
    assert (await lab.owner.post(f"{WEBHOOKS}/deliveries/{uuid4()}:retry")).status_code == 404


async def test_the_audit_of_a_project_is_filtered_and_paged(lab: Lab) -> None:
    await lab.happens("run.started", "run.finished", "run.started")
    listed = (await lab.owner.get("/api/v1/events", params={"project_id": lab.project_id})).json()
    assert [one["event_type"] for one in listed["events"]] == [
        "run.started",
        "run.finished",
        "run.started",
        "project.created",
    ]
    newest, *_ = listed["events"]
    assert (newest["actor_type"], newest["is_public"], newest["subject_type"]) == ("hub", True, "run")

    async def ids(**parameters: Any) -> list[int]:
        answer = await lab.owner.get("/api/v1/events", params={"project_id": lab.project_id, **parameters})
        return [one["id"] for one in answer.json()["events"]]

    everything = [one["id"] for one in listed["events"]]
    assert await ids(event_type="run.finished") == everything[1:2]
    assert await ids(subject_id=newest["subject_id"]) == everything[:1]
    assert await ids(since_id=everything[1]) == everything[:1]
    assert await ids(subject_type="project") == everything[3:]
    assert await ids(limit=1, offset=1) == everything[1:2]
