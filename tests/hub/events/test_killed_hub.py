"""A hub that is killed again and again tells every event, none altered, to a receiver that knows nothing of it."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import httpx
import pytest

from tests.fixtures.receiver import Receiver, Request
from tests.fixtures.stack import Stack, wait_for

SECRET = "known to the receiver alone"
KILLS = 5
SETTINGS = """
webhook_allowed_networks = ["127.0.0.0/8"]
webhook_retry_s = 0.2
webhook_stuck_after_s = 1.0
"""


def add_sensor(stack: Stack, name: str, deadline_s: float) -> None:
    """A sensor, asked for until the hub says that it has it: once, whatever was lost in between."""
    body, headers = {"project_id": stack.project_id, "name": name}, {"Idempotency-Key": name}
    while True:
        try:
            answer = stack.http.post("/api/v1/sensors", json=body, headers=headers)
        except httpx.TransportError:
            pass
        else:
            if answer.status_code == 201:
                return
            assert answer.status_code >= 500, answer.text
        assert time.monotonic() < deadline_s, "the hub did not come back"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(120 + 40 * KILLS)
def test_every_event_arrives_although_the_hub_is_killed_in_between(stack: Stack, receiver: Receiver) -> None:
    def slow_and_unreliable(_: Request) -> tuple[int, dict[str, str]]:
        time.sleep(random.uniform(0.0, 0.05))
        return (500 if random.random() < 0.1 else 200), {}

    receiver.answer = slow_and_unreliable
    stack.hub.kill()
    with (stack.folder / "hub.toml").open("a") as file:
        file.write(SETTINGS)
    stack.start_hub()
    for path in ("/a", "/b"):
        body = {"target_url": receiver.url(path), "event_types": ["sensor.registered"], "secret": SECRET}
        stack.post("/api/v1/webhooks", {"project_id": stack.project_id, **body})
    stop, made = threading.Event(), []

    def work() -> None:
        while not stop.is_set():
            name = f"sensor-{len(made)}"
            add_sensor(stack, name, time.monotonic() + 60)
            made.append(name)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for number in range(KILLS):
            wait_for(lambda at=20 * (number + 1): len(made) >= at, what="more sensors")
            stack.hub.kill()
            stack.start_hub()
    finally:
        stop.set()
        worker.join(60)
    deliveries = "/api/v1/webhooks/deliveries"
    for status in ("pending", "in_progress"):
        wait_for(lambda of=status: stack.get(deliveries, status=of)["total"] == 0, what=f"no delivery {status}")
    check(stack, receiver, made)


def check(stack: Stack, receiver: Receiver, made: list[str]) -> None:
    """What the receiver has is what was done, and nothing else."""
    for path in ("/a", "/b"):
        got = [one for one in receiver.requests if one.path == path]
        assert {one.json["payload"]["name"] for one in got} == set(made)
        by_delivery: dict[str, set[bytes]] = {}
        for one in got:
            assert one.is_signed(SECRET)
            assert one.json["event_type"] == "sensor.registered"
            by_delivery.setdefault(one.headers["x-webhook-delivery-id"], set()).add(one.body)
        assert len(by_delivery) == len(made)
        assert all(len(bodies) == 1 for bodies in by_delivery.values())
    audit: dict[str, Any] = stack.get("/api/v1/events", project_id=stack.project_id, event_type="sensor.registered")
    assert audit["total"] == len(made)
