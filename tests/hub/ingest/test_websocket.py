"""Readings over WebSocket: numbered, acknowledged after the commit, once whatever is lost on the way."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from hub.database.pool import acquire
from hub.ingest import sensor_socket
from hub.ingest.arrivals import Outcome
from tests.fixtures.websocket import Client, Refused, connected
from tests.hub.sessions.conftest import Lab, lab

__all__ = ["lab"]

PATH = "/api/v1/telemetry/ws"
NOW = datetime.now(UTC).replace(microsecond=0)
NOW_US = int(NOW.timestamp()) * 1_000_000


@pytest.fixture
async def sensor(lab: Lab) -> str:
    return await lab.sensor("oven")


def connection(lab: Lab, sensor: str) -> AbstractAsyncContextManager[Client]:
    return connected(lab.hub.app, PATH, token=lab.tokens[sensor])


async def opened(client: Client, stream: str = "s") -> dict[str, Any]:
    await client.say({"type": "open", "stream": stream})
    ready = await client.hear()
    assert ready["type"] == "ready", ready
    return ready


def columns(seq: int, *raw: float, **more: Any) -> dict[str, Any]:
    """A message whose readings are a second apart, from a time of its own."""
    times = [NOW_US + (100 * seq + place) * 1_000_000 - 86_400_000_000 for place in range(len(raw))]
    return {"type": "readings", "seq": seq, "columns": {"timestamp_us": times, "raw_value": list(raw), **more}}


async def stored(lab: Lab, sensor: str) -> list[float]:
    return [one["raw_value"] for one in await lab.points(sensor_id=sensor, limit=20_000)]


async def test_readings_are_acknowledged_after_their_commit_in_both_forms(lab: Lab, sensor: str) -> None:
    async with connection(lab, sensor) as client:
        ready = await opened(client)
        assert (ready["last_seq"], ready["sensor_id"], ready["readings_max"]) == (0, sensor, 10_000)
        reading = {"timestamp": NOW.isoformat(), "raw_value": 1.5, "physical_value": 3.0, "meta": {"by": "hand"}}
        await client.say({"type": "readings", "seq": 1, "body": {"sensor_id": sensor, "readings": [reading]}})
        assert await client.hear() == {"type": "ack", "seq": 1, "stored": 1, "repeated": 0, "set_aside": 0}
        assert await stored(lab, sensor) == [1.5]
        await client.say(columns(2, 2.5, 3.5, physical_value=[None, 7.0], signal="value"))
        assert (await client.hear())["stored"] == 2
    points = await lab.points(sensor_id=sensor)
    assert {(one["raw_value"], one["physical_value"], one["conversion_status"]) for one in points} == {
        (2.5, None, "raw_only"),
        (3.5, 7.0, "client_provided"),
        (1.5, 3.0, "client_provided"),
    }


async def test_acknowledgements_cover_all_that_came_before(lab: Lab, sensor: str) -> None:
    async with connection(lab, sensor) as client:
        await opened(client)
        for seq in range(1, 41):
            await client.say(columns(seq, float(seq)))
        acks: list[dict[str, Any]] = []
        while not acks or acks[-1]["seq"] < 40:
            acks.append(await client.hear())
    assert [one["seq"] for one in acks] == sorted(one["seq"] for one in acks)
    assert sum(one["stored"] for one in acks) == 40
    assert len(await stored(lab, sensor)) == 40


async def test_a_lost_connection_and_a_resend_double_nothing(lab: Lab, sensor: str) -> None:
    """What was sent when the line broke is committed or not; either way the client sends on from `last_seq`."""
    conflicting = {"readings": [{"timestamp": NOW.isoformat(), "raw_value": 9.0}], "sensor_id": sensor}
    assert (await lab.post(sensor, {NOW: 1.0})).status_code == 202
    messages = [
        {"type": "readings", "seq": 1, "body": conflicting},
        *(columns(seq, float(seq)) for seq in range(2, 30)),
    ]
    last_seq, rounds = 0, 0
    while last_seq < len(messages):
        rounds += 1
        async with connection(lab, sensor) as client:
            last_seq = (await opened(client))["last_seq"]
            for message in messages[last_seq : last_seq + 10]:
                await client.say(message)
            await client.hang_up()
    assert rounds >= 3
    async with acquire(lab.hub.services.pool) as connection_:
        asides = await connection_.fetchval("select sum(readings) from set_aside")
        count = await connection_.fetchval("select count(*) from readings")
    assert (asides, count) == (1, 29)


async def test_what_was_dealt_with_is_not_stored_again_even_with_other_values(lab: Lab, sensor: str) -> None:
    async with connection(lab, sensor) as client:
        await opened(client)
        await client.say(columns(5, 1.0))
        assert (await client.hear())["seq"] == 5
    async with connection(lab, sensor) as client:
        assert (await opened(client))["last_seq"] == 5
        await client.say(columns(5, 2.0))
        assert await client.hear() == {"type": "ack", "seq": 5, "stored": 0, "repeated": 0, "set_aside": 0}
    async with connection(lab, sensor) as client:
        assert (await opened(client, "another"))["last_seq"] == 0
    assert await stored(lab, sensor) == [1.0]


async def test_a_wrong_message_is_refused_with_its_seq_and_the_stream_goes_on(lab: Lab, sensor: str) -> None:
    async with connection(lab, sensor) as client:
        await opened(client)
        await client.say(columns(1, 1.0, physical_value=[1.0, 2.0]))
        refused = await client.hear()
        assert (refused["type"], refused["seq"], refused["problem"]["status"]) == ("refused", 1, 422)
        assert refused["problem"]["errors"][0]["field"] == "physical_value"
        await client.say({"type": "readings", "seq": 2, "body": {"sensor_id": sensor, "readings": [{"raw_value": 1}]}})
        assert (await client.hear())["problem"]["errors"][0]["field"] == "readings[0]"
        await client.say(columns(3, 1.0, capture_session_id="00000000-0000-0000-0000-000000000001"))
        assert (await client.hear())["problem"]["status"] == 404
        await client.say(columns(4, 1.0))
        assert (await client.hear())["stored"] == 1


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("nonsense", 400),
        ('{"type": "readings"}', 422),
        ('{"type": "readings", "seq": 0, "columns": {}}', 422),
        ('{"type": "readings", "seq": 2}', 422),
        ('{"type": "readings", "seq": 2, "columns": {}, "body": {}}', 422),
        ('{"type": "readings", "seq": 2, "seq": 3, "columns": {}}', 422),
        ('{"type": "readings", "seq": 1, "columns": {}}', 409),
        ('{"type": "open", "stream": "s"}', 409),
        ('{"type": "other"}', 422),
    ],
)
async def test_what_breaks_the_protocol_ends_the_connection(lab: Lab, sensor: str, said: str, status: int) -> None:
    async with connection(lab, sensor) as client:
        await opened(client)
        await client.say(columns(1, 1.0))
        assert (await client.hear())["type"] == "ack"
        await client.say(said)
        told = await client.hear()
        assert (told["type"], told["problem"]["status"]) == ("error", status), told
        assert await client.closed() == sensor_socket.REFUSED


async def test_a_newer_connection_takes_its_stream_over(lab: Lab, sensor: str) -> None:
    async with connection(lab, sensor) as older, connection(lab, sensor) as newer:
        await opened(older)
        for seq in range(1, 21):
            await older.say(columns(seq, float(seq)))
        while (await older.hear())["seq"] < 20:
            pass
        assert (await opened(newer))["last_seq"] == 20
        assert await older.closed() == sensor_socket.SUPERSEDED
        await newer.say(columns(21, 1.0))
        assert (await newer.hear())["seq"] == 21


async def test_the_token_may_come_in_the_query_or_in_the_first_message(lab: Lab, sensor: str) -> None:
    token = lab.tokens[sensor]
    async with connected(lab.hub.app, PATH, query=f"access_token={token}") as client:
        await opened(client)
    async with connected(lab.hub.app, PATH) as client:
        await client.say({"type": "open", "stream": "s", "access_token": token})
        assert (await client.hear())["type"] == "ready"


async def test_who_has_no_good_token_gets_in_nowhere(lab: Lab, sensor: str) -> None:
    with pytest.raises(Refused) as refused:
        async with connected(lab.hub.app, PATH, token="wrong"):
            pass
    assert (refused.value.status, refused.value.body["code"]) == (401, "unauthorized")
    for first in ({"type": "open", "stream": "s"}, {"type": "open", "stream": "s", "access_token": "wrong"}):
        async with connected(lab.hub.app, PATH) as client:
            await client.say(first)
            assert (await client.hear())["problem"]["status"] == 401
            assert await client.closed() == sensor_socket.REFUSED


async def test_the_query_may_name_a_project_of_the_sensor_and_no_other(lab: Lab, sensor: str) -> None:
    token = lab.tokens[sensor]
    async with connected(lab.hub.app, PATH, token=token, query=f"project_id={lab.project}") as client:
        await opened(client)
    with pytest.raises(Refused) as refused:
        async with connected(lab.hub.app, PATH, token=token, query=f"project_id={uuid4()}"):
            pass
    assert (refused.value.status, refused.value.body["detail"]) == (404, "project not found")
    async with connected(lab.hub.app, PATH, query=f"project_id={uuid4()}") as client:
        await client.say({"type": "open", "stream": "s", "access_token": token})
        assert (await client.hear())["problem"]["status"] == 404


async def test_a_rotated_token_ends_the_connection(lab: Lab, sensor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensor_socket, "RECHECK_S", 0.1)
    async with connection(lab, sensor) as client:
        await opened(client)
        assert (await lab.owner.post(f"/api/v1/sensors/{sensor}/rotate-token")).status_code == 200
        assert (await client.hear())["problem"]["status"] == 401
        assert await client.closed() == sensor_socket.REFUSED


async def test_a_decommissioned_sensor_is_told_so(lab: Lab, sensor: str) -> None:
    async with connection(lab, sensor) as client:
        await opened(client)
        await lab.owner.patch(f"/api/v1/sensors/{sensor}", json={"status": "decommissioned"})
        await client.say(columns(1, 1.0))
        told = await client.hear()
        assert (told["type"], told["seq"], told["problem"]["code"]) == ("error", 1, "decommissioned")
        assert await client.closed() == sensor_socket.REFUSED


async def test_the_hub_reads_nothing_beyond_the_window(lab: Lab, sensor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[asyncio.Future[Any]] = []

    def submit(_: Any) -> asyncio.Future[Any]:
        waiting.append(asyncio.get_running_loop().create_future())
        return waiting[-1]

    async with connection(lab, sensor) as client:
        window = (await opened(client))["window"]
        monkeypatch.setattr(lab.hub.services.ingest, "submit", submit)
        for seq in range(1, window["messages"] + 20):
            await client.say(columns(seq, 1.0))
        for _ in range(200):
            await asyncio.sleep(0.005)
            if len(waiting) >= window["messages"]:
                break
        await asyncio.sleep(0.05)
        assert len(waiting) == window["messages"]
        monkeypatch.undo()
        for one in waiting:
            one.set_result(Outcome(1))
        assert (await client.hear())["stored"] == window["messages"]


async def test_readings_after_the_end_of_a_session_are_held_as_posts_are(lab: Lab, sensor: str) -> None:
    session = await lab.started(await lab.run((sensor,)), started_at=(NOW - timedelta(days=2)).isoformat())
    await lab.owner.post(f"{lab.path(session)}/stop")
    async with connection(lab, sensor) as client:
        await opened(client)
        await client.say(columns(1, 1.0))
        assert (await client.hear())["stored"] == 1
    assert await lab.counted(session) == []
    assert await lab.counted(session, include_late=True) == [1.0]
