"""Events over MQTT: in order, all of them, by one hub at a time, to a broker that comes and goes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hub.database.pool import acquire
from hub.settings import HubSettings
from tests.fixtures.processes import soon
from tests.fixtures.servers import Mosquitto
from tests.hub.conftest import running_hub
from tests.hub.events.conftest import Lab, until


@contextmanager
def subscriber(broker: Mosquitto, topic: str, file: Path) -> Iterator[Callable[[], list[tuple[str, Any]]]]:
    """What `mosquitto_sub` prints, once it has subscribed: (topic, message) each."""
    command = ["stdbuf", "-oL", "mosquitto_sub", "-h", broker.host, "-p", str(broker.port), "-u", broker.username]
    command += ["-P", broker.password, "-q", "1", "-d", "-v", "-i", file.stem, "-c", "-t", topic]
    file.touch()
    before = file.read_text().count("SUBACK")
    with file.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)

    def received() -> list[tuple[str, Any]]:
        lines = [line.partition(" ") for line in file.read_text().splitlines() if line.startswith("labrelay/")]
        return [(topic, json.loads(body)) for topic, _, body in lines]

    try:
        soon(lambda: file.read_text().count("SUBACK") > before, "a subscription")
        yield received
    finally:
        process.kill()
        process.wait(5)


def settings_with(event_settings: dict[str, Any], broker: Mosquitto, folder: Path) -> HubSettings:
    """A hub at this broker."""
    password = folder / "mqtt-password"
    password.write_text(broker.password)
    at_broker = {"mqtt_port": broker.port, "mqtt_username": broker.username, "mqtt_password_file": password}
    return HubSettings(**event_settings | at_broker)


@pytest.fixture
def broker(new_mosquitto: Callable[[], Mosquitto]) -> Mosquitto:
    """A broker that is not running yet."""
    return new_mosquitto()


async def test_events_are_published_in_order_and_wait_for_the_broker(
    event_settings: dict[str, Any], broker: Mosquitto, tmp_path: Path
) -> None:
    settings = settings_with(event_settings, broker, tmp_path)
    async with running_hub(settings) as hub:
        owner = await hub.signed_in()
        lab = Lab(hub, owner, (await owner.post("/projects", json={"name": "Lab"})).json()["id"])
        for number in range(5):
            await lab.happens("run.started", "run.created", number=number)
        broker.start()
        topic = f"labrelay/v1/projects/{lab.project_id}/events"
        with subscriber(broker, topic, tmp_path / "first") as received:
            for number in range(5, 25):
                await lab.happens(number=number)
            await until(lambda: received() and received()[-1][1]["payload"]["number"] == 24, 30)
            got = received()
        numbers = [body["payload"]["number"] for _, body in got]
        assert numbers == sorted(numbers)
        assert set(numbers) >= set(range(5, 25))
        assert {one[0] for one in got} == {topic}
        ids = [body["id"] for _, body in got]
        assert ids == sorted(set(ids))
        assert got[-1][1]["event_type"] == "run.started"
        assert set(got[-1][1]) == {"id", "event_type", "project_id", "occurred_at", "payload"}


async def test_a_broker_that_was_away_gets_what_it_missed_and_two_hubs_publish_each_once(
    event_settings: dict[str, Any], broker: Mosquitto, tmp_path: Path
) -> None:
    broker.start()
    settings = settings_with(event_settings, broker, tmp_path)
    async with running_hub(settings) as hub, running_hub(settings) as other:
        owner = await hub.signed_in()
        lab = Lab(hub, owner, (await owner.post("/projects", json={"name": "Lab"})).json()["id"])
        with subscriber(broker, "labrelay/v1/projects/+/events", tmp_path / "session") as received:
            await until(lambda: hub.services.broker.connected and other.services.broker.connected)
            for number in range(20):
                await lab.happens(number=number, hub=other if number % 2 else hub)
            await until(lambda: len(received()) >= 20)
            before = received()
        assert [body["payload"]["number"] for _, body in before] == list(range(20))
        broker.stop()
        for number in range(20, 30):
            await lab.happens(number=number)
        async with acquire(hub.services.pool) as connection:
            assert await connection.fetchval("select event_id from event_cursors") == before[-1][1]["id"]
        broker.start()
        with subscriber(broker, "labrelay/v1/projects/+/events", tmp_path / "session") as received:
            await until(lambda: any(body["payload"]["number"] == 29 for _, body in received()), 30)
            numbers = [body["payload"]["number"] for _, body in received()]
        assert set(numbers) == set(range(30))
