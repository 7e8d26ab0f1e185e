"""Webhooks reach an independent receiver: signed, unaltered, in spite of failures, one at a time a target."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from typing import Any

from hub.database.pool import transaction
from hub.database.storage import connect
from hub.events import outbox
from hub.events.dispatch import pause_after
from hub.settings import HubSettings
from tests.fixtures.receiver import Receiver, receiving
from tests.hub.conftest import running_hub
from tests.hub.events.conftest import SECRET, WEBHOOKS, Lab, until


async def test_an_event_is_delivered_signed_and_as_it_was_recorded(lab: Lab, receiver: Receiver) -> None:
    await lab.subscribe(receiver.url("/hook?x=1"))
    await lab.happens(name="täst", value=1.5)
    (delivery,) = await lab.delivered("succeeded")
    (request,) = receiver.requests
    assert request.path == "/hook?x=1"
    assert request.is_signed(SECRET)
    assert request.json == delivery["request_body"]
    assert request.json["event_type"] == request.headers["x-webhook-event"] == "run.started"
    assert request.json["project_id"] == lab.project_id
    assert request.json["payload"] == {"name": "täst", "value": 1.5}
    assert request.json["occurred_at"].endswith("Z")
    assert set(request.json) == {"event_type", "project_id", "occurred_at", "payload"}
    assert request.headers["x-webhook-delivery-id"] == delivery["id"]
    assert int(request.headers["x-webhook-event-id"]) == delivery["event_id"]
    assert abs(int(request.headers["x-webhook-timestamp"]) - time.time()) < 60
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"


async def test_only_what_was_subscribed_to_is_delivered(lab: Lab, receiver: Receiver) -> None:
    await lab.subscribe(receiver.url("/finished"), "run.finished")
    await lab.subscribe(receiver.url("/off"), "run.finished", is_active=False)
    await lab.subscribe(receiver.url("/both"), "run.started", "run.finished", secret=None)
    await lab.happens("run.started", "run.finished", "run.created")
    await lab.delivered("succeeded", 3)
    got = sorted((one.path, one.headers["x-webhook-event"]) for one in receiver.requests)
    assert got == [("/both", "run.finished"), ("/both", "run.started"), ("/finished", "run.finished")]
    (unsigned, *_) = [one for one in receiver.requests if one.path == "/both"]
    assert "x-webhook-signature" not in unsigned.headers


async def test_a_failure_is_tried_again_with_the_same_id_and_body(lab: Lab, receiver: Receiver) -> None:
    statuses = iter([500, 404, 302, 200])
    receiver.answer = lambda _: (next(statuses), {"Location": receiver.url("/elsewhere")})
    await lab.subscribe(receiver.url())
    await lab.happens()
    (delivery,) = await lab.delivered("succeeded")
    assert delivery["attempt_count"] == 4
    assert {one.path for one in receiver.requests} == {"/hook"}
    assert len({(one.headers["x-webhook-delivery-id"], one.body) for one in receiver.requests}) == 1


async def test_what_never_succeeds_is_dead_lettered_and_can_be_retried_by_hand(
    event_settings: dict[str, Any], receiver: Receiver
) -> None:
    receiver.answer = lambda _: (503, {})
    async with running_hub(HubSettings(**event_settings | {"webhook_attempts_max": 2})) as hub:
        owner = await hub.signed_in()
        project_id = (await owner.post("/projects", json={"name": "Lab"})).json()["id"]
        lab = Lab(hub, owner, project_id)
        await lab.subscribe(receiver.url())
        await lab.happens()
        (dead,) = await lab.delivered("dead_lettered")
        assert (dead["attempt_count"], dead["last_error"]) == (2, "HTTP 503")
        receiver.answer = lambda _: (200, {})
        retried = await owner.post(f"{WEBHOOKS}/deliveries/{dead['id']}:retry")
        assert (retried.status_code, retried.json()["status"]) == (200, "pending")
        (delivery,) = await lab.delivered("succeeded")
        assert delivery["last_error"] == ""
        assert len({one.body for one in receiver.requests}) == 1
        again = await owner.post(f"{WEBHOOKS}/deliveries/{dead['id']}:retry")
        assert (again.status_code, again.json()["code"]) == (409, "not_retriable")


async def test_a_slow_target_holds_up_itself_alone(lab: Lab, receiver: Receiver) -> None:
    go_on = threading.Event()

    def slow(_: object) -> tuple[int, dict[str, str]]:
        go_on.wait(30)
        return 200, {}

    with receiving() as slow_one:
        slow_one.answer = slow
        await lab.subscribe(slow_one.url())
        await lab.subscribe(receiver.url())
        for _ in range(20):
            await lab.happens()
        try:
            await until(lambda: len(receiver.requests) == 20)
            assert slow_one.under_way_max == 1
        finally:
            go_on.set()
        await lab.delivered("succeeded", 40)


async def test_a_target_that_does_not_answer_is_given_up_in_time(
    event_settings: dict[str, Any], receiver: Receiver
) -> None:
    go_on = threading.Event()
    receiver.answer = lambda _: (200 if go_on.wait(30) else 500, {})
    async with running_hub(HubSettings(**event_settings | {"webhook_timeout_s": 0.3})) as hub:
        owner = await hub.signed_in()
        lab = Lab(hub, owner, (await owner.post("/projects", json={"name": "Lab"})).json()["id"])
        await lab.subscribe(receiver.url())
        await lab.happens()
        try:
            await until(lambda: len(receiver.requests) >= 2)
        finally:
            go_on.set()
        (delivery,) = await lab.delivered("succeeded")
        assert delivery["attempt_count"] >= 2


async def test_deliveries_to_a_target_begin_in_the_order_of_their_events(lab: Lab, receiver: Receiver) -> None:
    await lab.subscribe(receiver.url("/a"))
    for number in range(30):
        await lab.happens(number=number)
    await lab.delivered("succeeded", 30)
    assert [one.json["payload"]["number"] for one in receiver.requests] == list(range(30))
    assert receiver.under_way_max == 1


async def test_two_hubs_share_the_work_and_deliver_each_once(
    lab: Lab, event_settings: dict[str, Any], receiver: Receiver
) -> None:
    async with running_hub(HubSettings(**event_settings)) as other:
        for number in range(5):
            await lab.subscribe(receiver.url(f"/{number}"))
        for number in range(20):
            await lab.happens(number=number, hub=other if number % 2 else None)
        await lab.delivered("succeeded", 50)
        await until(lambda: len(receiver.requests) >= 100)
        await asyncio.sleep(0.3)
        assert len(receiver.requests) == 100
        assert len({one.headers["x-webhook-delivery-id"] for one in receiver.requests}) == 100
        assert receiver.under_way_max <= 5


async def test_while_a_subscription_is_off_what_waits_goes_on_waiting(lab: Lab, receiver: Receiver) -> None:
    receiver.answer = lambda _: (500, {})
    made = await lab.subscribe(receiver.url())
    await lab.happens()
    await until(lambda: receiver.requests)
    off = await lab.owner.patch(f"{WEBHOOKS}/{made['id']}", json={"is_active": False})
    assert off.json()["is_active"] is False
    await lab.delivered("pending")  # an attempt may have been under way
    receiver.answer = lambda _: (200, {})
    await lab.happens()
    await asyncio.sleep(0.5)
    assert [one["status"] for one in await lab.deliveries()] == ["pending"]
    await lab.owner.patch(f"{WEBHOOKS}/{made['id']}", json={"is_active": True})
    await lab.delivered("succeeded")


async def test_a_stopped_hub_gives_back_what_it_has_under_way(
    event_settings: dict[str, Any], receiver: Receiver
) -> None:
    go_on = threading.Event()
    receiver.answer = lambda _: (200 if go_on.wait(30) else 500, {})
    settings = HubSettings(**event_settings | {"webhook_timeout_s": 20})
    try:
        async with running_hub(settings) as hub:
            owner = await hub.signed_in()
            lab = Lab(hub, owner, (await owner.post("/projects", json={"name": "Lab"})).json()["id"])
            await lab.subscribe(receiver.url("/a"))
            await lab.subscribe(receiver.url("/b"))
            await lab.happens()
            await until(lambda: receiver.under_way == 2)
        connection = await connect(settings)
        rows = await connection.fetch("select status, attempt_count from webhook_deliveries")
        await connection.close()
    finally:
        go_on.set()
    assert [(row["status"], row["attempt_count"]) for row in rows] == [("pending", 0)] * 2


async def test_what_a_killed_hub_had_under_way_is_made_again_and_holds_nothing_else_up(
    lab: Lab, receiver: Receiver
) -> None:
    await lab.subscribe(receiver.url())
    services = lab.hub.services
    now = services.now()
    async with transaction(services.pool) as connection:  # as a hub leaves it that is killed
        await connection.execute("select pg_advisory_xact_lock(1280459057, 3)")
        await lab.happens(number=1)
        await connection.execute(
            "update webhook_deliveries set status = 'in_progress', locked_at = $1", now - timedelta(seconds=60)
        )
    await lab.happens(number=2)
    await until(lambda: receiver.requests)
    assert [one.json["payload"]["number"] for one in receiver.requests] == [2]
    async with transaction(services.pool) as connection:
        assert await outbox.release_stuck(connection, now - timedelta(seconds=600), now) == 0
        assert await outbox.release_stuck(connection, now - timedelta(seconds=30), now) == 1
        await outbox.wake(connection)
    await lab.delivered("succeeded", 2)
    assert {one.json["payload"]["number"] for one in receiver.requests} == {1, 2}


async def test_a_late_verdict_over_a_claim_that_was_taken_away_changes_nothing(lab: Lab, receiver: Receiver) -> None:
    services = lab.hub.services
    await lab.subscribe(receiver.url(), is_active=True)
    await lab.happens()
    await lab.delivered("succeeded")
    now = services.now()
    async with transaction(services.pool) as connection:
        row = await connection.fetchrow("select * from webhook_deliveries")
        stale = outbox.Claim(
            outbox.Message(row["id"], row["event_id"], "run.started", "", b"", ""), 1, now - timedelta(hours=1)
        )
        await outbox.fail(connection, stale, "late", None, now)
        assert await connection.fetchval("select status from webhook_deliveries") == "succeeded"


def test_pauses_double_up_to_the_longest() -> None:
    assert [pause_after(attempts, 5.0, 60.0) for attempts in (1, 2, 3, 4, 5, 6, 1000)] == [5, 10, 20, 40, 60, 60, 60]
