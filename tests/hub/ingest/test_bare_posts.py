"""Posts over WebSocket as they are: each answered in order, as it would be over HTTP."""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hub.ingest import sensor_socket
from hub.ingest.bare_posts import is_bare_post
from hub.ingest.write import IngestWriter
from shared.errors import StorageUnavailable
from tests.fixtures.websocket import Client, connected
from tests.hub.sessions.conftest import Lab, lab
from tests.hub.test_asyncapi import validate

__all__ = ["lab"]

PATH = "/api/v1/telemetry/ws"
NOON = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)


@pytest.fixture
async def sensor(lab: Lab) -> str:
    return await lab.sensor("oven")


def connection(lab: Lab, sensor: str) -> AbstractAsyncContextManager[Client]:
    return connected(lab.hub.app, PATH, token=lab.tokens[sensor])


def post(sensor: str, *raw: float, second: int = 0, **more: Any) -> dict[str, Any]:
    """A post whose readings are a second apart."""
    rows = [
        {"timestamp": (NOON + timedelta(seconds=second + place)).isoformat(), "raw_value": value}
        for place, value in enumerate(raw)
    ]
    return {"sensor_id": sensor, "readings": rows, **more}


async def test_each_post_is_answered_with_how_many_of_its_readings_are_new(lab: Lab, sensor: str) -> None:
    async with connection(lab, sensor) as client:
        for said, accepted in (
            (post(sensor, 1, 2), 2),
            (post(sensor, 1, 2, 3), 1),
            (post(sensor, 1, 2), 0),
            (post(sensor, float("nan"), second=9), 1),
        ):
            validate("SocketPost", said)
            await client.say(said)
            answer = await client.hear()
            assert answer == {"status": "accepted", "accepted": accepted}
            validate("SocketAccepted", answer)
        await client.say(json.dumps(post(sensor, 4, second=10)).encode())
        assert (await client.hear())["accepted"] == 1
    assert [one["raw_value"] for one in await lab.points()] == [1, 2, 3, None, 4]


async def test_they_may_be_sent_without_waiting_and_are_answered_in_order(lab: Lab, sensor: str) -> None:
    async with connection(lab, sensor) as client:
        for size in range(1, 21):
            await client.say(post(sensor, *range(size), second=100 * size))
        answers = [await client.hear() for _ in range(20)]
    assert [one["accepted"] for one in answers] == list(range(1, 21))


async def test_a_problem_is_told_as_over_http_and_the_connection_goes_on(lab: Lab, sensor: str) -> None:
    other = await lab.sensor("scale")
    nowhere = "00000000-0000-0000-0000-000000000001"
    wrong: list[tuple[Any, int, str | None]] = [
        (post(sensor), 422, "readings"),
        (post(sensor, 1, colour="red"), 422, None),
        ({"sensor_id": sensor, "readings": [{"raw_value": 1}]}, 422, "readings[0]"),
        (post(sensor, 1, type="readings"), 422, None),
        (post(other, 1), 403, None),
        (post(sensor, 1, project_id=nowhere), 404, None),
        (post(sensor, 1, capture_session_id=nowhere), 404, None),
        ("nonsense", 400, None),
        ("[]", 422, None),
        ({"type": "open", "stream": "s"}, 422, None),
    ]
    async with connection(lab, sensor) as client:
        await client.say(post(sensor, 1))
        assert (await client.hear())["accepted"] == 1
        for said, status, field in wrong:
            await client.say(said)
            told = await client.hear()
            assert told["status"] == status, (said, told)
            assert told["error"] == told["detail"]
            assert field is None or told["errors"][0]["field"] == field
            validate("SocketProblem", told)
        await client.say(post(sensor, 2, second=1))
        assert (await client.hear())["accepted"] == 1


async def test_the_first_may_be_wrong_too(lab: Lab, sensor: str) -> None:
    async with connection(lab, sensor) as client:
        await client.say({"sensor_id": sensor, "readings": [{"timestamp": "noon", "raw_value": float("nan")}]})
        assert (await client.hear())["errors"][0]["field"] == "readings[0].timestamp"
        await client.say(post(sensor, 2))
        assert (await client.hear())["accepted"] == 1


async def test_the_token_comes_in_the_header_or_in_the_query(lab: Lab, sensor: str) -> None:
    async with connected(lab.hub.app, PATH, query=f"access_token={lab.tokens[sensor]}") as client:
        await client.say(post(sensor, 1))
        assert (await client.hear())["accepted"] == 1
    async with connected(lab.hub.app, PATH) as client:
        await client.say(post(sensor, 2, second=1))
        assert (await client.hear())["status"] == 401
        assert await client.closed() == sensor_socket.REFUSED
    assert len(await lab.points()) == 1


async def test_a_rotated_token_is_refused_at_once(lab: Lab, sensor: str) -> None:
    async with connection(lab, sensor) as client:
        await client.say(post(sensor, 1))
        assert (await client.hear())["accepted"] == 1
        assert (await lab.owner.post(f"/api/v1/sensors/{sensor}/rotate-token")).status_code == 200
        await client.say(post(sensor, 2, second=1))
        assert (await client.hear())["status"] == 401
        assert await client.closed() == sensor_socket.REFUSED
    assert len(await lab.points()) == 1


@pytest.mark.parametrize("has_posted", [False, True])
async def test_a_rotated_token_ends_a_connection_that_says_nothing(
    lab: Lab, sensor: str, monkeypatch: pytest.MonkeyPatch, has_posted: bool
) -> None:
    monkeypatch.setattr(sensor_socket, "RECHECK_S", 0.1)
    async with connection(lab, sensor) as client:
        if has_posted:
            await client.say(post(sensor, 1))
            assert (await client.hear())["accepted"] == 1
        assert (await lab.owner.post(f"/api/v1/sensors/{sensor}/rotate-token")).status_code == 200
        told = await client.hear()
        assert (told if has_posted else told["problem"])["status"] == 401
        assert await client.closed() == sensor_socket.REFUSED


async def test_a_decommissioned_sensor_is_told_so_at_each_post(lab: Lab, sensor: str) -> None:
    async with connection(lab, sensor) as client:
        await client.say(post(sensor, 1))
        assert (await client.hear())["accepted"] == 1
        await lab.owner.patch(f"/api/v1/sensors/{sensor}", json={"status": "decommissioned"})
        for _ in range(2):
            await client.say(post(sensor, 2, second=1))
            told = await client.hear()
            assert (told["status"], told["code"]) == (409, "decommissioned")


async def test_who_sends_too_much_and_a_hub_that_cannot_store_say_when_to_come_again(
    lab: Lab, sensor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def submit(*_: Any) -> None:
        raise StorageUnavailable("too many readings wait for the database")

    async with connection(lab, sensor) as client:
        with monkeypatch.context() as patched:
            patched.setattr(IngestWriter, "submit", submit)
            await client.say(post(sensor, 1))
            told = await client.hear()
            assert (told["status"], told["retry_after_s"] >= 1) == (503, True)
        await lab.owner.patch(f"/api/v1/sensors/{sensor}", json={"readings_per_s_max": 1})
        await client.say(post(sensor, *range(1000), second=10))
        assert (await client.hear())["accepted"] == 1000
        await client.say(post(sensor, 1))
        told = await client.hear()
        assert (told["status"], told["retry_after_s"] > 60) == (429, True)


async def test_a_message_that_is_too_large_ends_the_connection(lab: Lab, sensor: str) -> None:
    async with connection(lab, sensor) as client:
        await client.say(post(sensor, 1))
        assert (await client.hear())["accepted"] == 1
        await client.say(" " * (lab.hub.settings.body_bytes_max + 1))
        assert (await client.hear())["status"] == 413
        assert await client.closed() == sensor_socket.TOO_LARGE


def test_a_post_is_told_from_the_messages_of_a_stream() -> None:
    for bare in ('{"readings": []}', '{"sensor_id": "x"}', '{"readings": [NaN]}', '{"readings": [1e999]}'):
        assert is_bare_post(bare.encode()), bare
    for other in (
        '{"type": "open", "stream": "s"}',
        '{"type": "readings", "readings": [NaN]}',
        '{"stream": "s"}',
        "{}",
        "[]",
        "1",
        "",
        "{",
        '{"readings": [NaN]',
        '{"readings": [NaN], "readings": 1}',
        "[" * 100_000,
    ):
        assert not is_bare_post(other.encode()), other[:50]
    assert not is_bare_post(b'{"readings": "\xff"}')
