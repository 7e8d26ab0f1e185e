"""However readings come, and whenever their session does: they are converted as their session is."""

from __future__ import annotations

from typing import Any

from hub.telemetry.moments import to_us
from tests.fixtures.websocket import connected
from tests.hub.sensors.splitting import DEFAULT, SPLIT, at, factors, post, publish, split, stop
from tests.hub.sessions.conftest import Lab, lab

__all__ = ["lab"]


async def test_a_post_may_name_a_draft_that_was_made_since(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    await publish(lab, oven, DEFAULT)
    run = await lab.run((oven,))
    await split(lab, oven, SPLIT, run_ids=[run])
    first = await lab.started(run, status="draft")
    await post(lab, oven, 1, capture_session_id=first["id"])
    later = await lab.started(run, status="draft")
    await post(lab, oven, 2, capture_session_id=later["id"])
    assert await factors(lab, oven) == {1: 10, 2: 10}


async def test_a_draft_that_starts_is_heard_of_at_once(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    await publish(lab, oven, DEFAULT)
    run = await lab.run((oven,))
    named = await lab.started(run, status="draft")
    await split(lab, oven, SPLIT, capture_session_ids=[named["id"]])
    await post(lab, oven, 1)
    body = {"status": "running", "started_at": at(0).isoformat()}
    assert (await lab.owner.patch(lab.path(named), json=body)).status_code == 200
    await post(lab, oven, 2)
    assert await factors(lab, oven) == {1: 2, 2: 10}


async def test_a_websocket_that_stays_open_follows_sessions_and_splits(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    await publish(lab, oven, DEFAULT)
    run, other = await lab.run((oven,)), await lab.run((oven,))
    theirs = await lab.started(other, started_at=at(100).isoformat(), stopped_at=at(110).isoformat())
    seq = 0

    async with connected(lab.hub.app, "/api/v1/telemetry/ws", token=lab.tokens[oven]) as client:

        async def send(*seconds: float, **named: Any) -> None:
            nonlocal seq
            seq += 1
            readings = [{"timestamp": at(one).isoformat(), "raw_value": 1.0} for one in seconds]
            await client.say(
                {"type": "readings", "seq": seq, "body": {"sensor_id": oven, "readings": readings, **named}}
            )
            told = await client.hear()
            assert (told["type"], told["seq"]) == ("ack", seq), told

        await client.say({"type": "open", "stream": "bench"})
        assert (await client.hear())["type"] == "ready"
        await send(1)
        await split(lab, oven, SPLIT, run_ids=[run])
        await send(2)
        session = await lab.started(run, started_at=at(0).isoformat(), stopped_at=at(50).isoformat())
        await send(3, 51)
        await send(52, capture_session_id=session["id"])
        await send(4, capture_session_id=theirs["id"])
        columns = {"timestamp_us": [to_us(at(5)), to_us(at(53))], "raw_value": [1.0, 1.0]}
        await client.say({"type": "readings", "seq": seq + 1, "columns": columns})
        assert (await client.hear())["type"] == "ack"
    assert await factors(lab, oven) == {1: 2, 2: 2, 3: 10, 51: 2, 52: 10, 4: 2, 5: 10, 53: 2}


async def test_sums_of_a_session_are_of_what_its_split_made(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    await publish(lab, oven, DEFAULT)
    run = await lab.run((oven,))
    await split(lab, oven, SPLIT, run_ids=[run])
    session = await lab.started(run, started_at=at(30).isoformat())
    await post(lab, oven, 10, 20, 40, 50, 70)
    await stop(lab, session, 60)
    for asked, expected in (
        ({"sensor_id": oven}, [(4, 2, 10, 6), (1, 10, 10, 10)]),
        ({"capture_session_id": session["id"]}, [(2, 10, 10, 10)]),
    ):
        answer = await lab.owner.get("/api/v1/telemetry/aggregated", params={**asked, "bucket_interval": "1m"})
        names = ("sample_count", "min_physical", "max_physical", "avg_physical")
        assert [tuple(one[name] for name in names) for one in answer.json()["buckets"]] == expected
