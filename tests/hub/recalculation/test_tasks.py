"""Recalculations over HTTP: who may start one, what it changes, and what it leaves alone."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from hub.database.pool import acquire
from tests.hub.sessions.conftest import Lab

NOON = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(hours=2)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def path(sensor: str) -> str:
    return f"/api/v1/sensors/{sensor}/conversion-profiles"


async def draft(lab: Lab, sensor: str, version: str, a: float, **fields: Any) -> str:
    body = {"version": version, "kind": "linear", "payload": {"a": a, "b": 0.0}, **fields}
    answer = await lab.owner.post(path(sensor), json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def published(lab: Lab, sensor: str, version: str, a: float, **fields: Any) -> str:
    profile = await draft(lab, sensor, version, a, **fields)
    answer = await lab.owner.post(f"{path(sensor)}/{profile}/publish")
    assert answer.status_code == 200, answer.text
    return profile


async def backfill(lab: Lab, sensor: str, profile: str, **body: Any) -> httpx.Response:
    return await lab.owner.post(f"{path(sensor)}/{profile}/backfill", json=body)


async def task(lab: Lab, task_id: str) -> dict[str, Any]:
    answer = await lab.owner.get(f"/api/v1/backfill-tasks/{task_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def recalculated(lab: Lab, sensor: str, profile: str, **body: Any) -> dict[str, Any]:
    """A recalculation that has come to its end."""
    answer = await backfill(lab, sensor, profile, **body)
    assert answer.status_code == 202, answer.text
    async with asyncio.timeout(30):
        while (found := await task(lab, answer.json()["backfill_task_id"]))["status"] in ("pending", "running"):
            await asyncio.sleep(0.05)
    return found


async def physical(lab: Lab, sensor: str) -> list[float | None]:
    return [one["physical_value"] for one in await lab.points(sensor_id=sensor)]


async def test_all_readings_get_the_new_profile_and_keep_the_one_they_had(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    first = await published(lab, oven, "1", 2.0)
    await lab.post(oven, {at(0): 1, at(1): 2, at(2): 3})
    second = await published(lab, oven, "2", 10.0)
    assert await physical(lab, oven) == [2, 4, 6]
    done = await recalculated(lab, oven, second)
    assert (done["status"], done["total_records"], done["processed_records"]) == ("succeeded", 3, 3)
    assert (done["changed_records"], done["progress"], done["error"]) == (3, 1.0, None)
    points = await lab.points(sensor_id=oven)
    assert [(one["physical_value"], one["conversion_profile_id"]) for one in points] == [
        (10, second),
        (20, second),
        (30, second),
    ]
    answer = (await lab.owner.get(f"/api/v1/sensors/{oven}/previous-profiles")).json()
    (kept,) = answer["previous_profiles"]
    assert (kept["conversion_profile_id"], kept["readings"], kept["backfill_task_id"]) == (first, 3, done["id"])
    assert (kept["first_id"], kept["last_id"]) == (points[0]["id"], points[-1]["id"])


async def test_aggregates_say_what_the_readings_say_afterwards(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    await published(lab, oven, "1", 2.0)
    await lab.post(oven, {at(seconds): 1 for seconds in range(0, 300, 10)})
    second = await published(lab, oven, "2", 10.0)
    await recalculated(lab, oven, second)
    answer = await lab.owner.get("/api/v1/telemetry/aggregated", params={"sensor_id": oven, "bucket_interval": "1m"})
    assert {one["avg_physical"] for one in answer.json()["buckets"]} == {10.0}


async def test_what_a_client_provided_and_what_failed_at_the_instrument_stay(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    await published(lab, oven, "1", 2.0)
    rows = [
        {"timestamp": at(0).isoformat(), "raw_value": 1.0, "physical_value": 99.0},
        {"timestamp": at(1).isoformat(), "raw_value": 1.0},
    ]
    headers = {"Authorization": f"Bearer {lab.tokens[oven]}"}
    await lab.owner.post("/api/v1/telemetry", json={"sensor_id": oven, "readings": rows}, headers=headers)
    second = await published(lab, oven, "2", 10.0)
    done = await recalculated(lab, oven, second)
    assert (done["processed_records"], done["changed_records"]) == (2, 1)
    assert await physical(lab, oven) == [99, 10]


async def test_a_range_of_time_is_recalculated_and_what_comes_later_for_it_too(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    await published(lab, oven, "1", 2.0)
    await lab.post(oven, {at(seconds): 1 for seconds in range(0, 10, 2)})
    second = await published(lab, oven, "2", 10.0)
    await recalculated(lab, oven, second, time_from=at(2).isoformat(), time_to=at(6).isoformat())
    assert await physical(lab, oven) == [2, 10, 10, 10, 2]
    await lab.post(oven, {at(seconds): 1 for seconds in range(1, 10, 2)})
    assert await physical(lab, oven) == [2, 10, 10, 10, 2, 2, 10, 10, 2, 2]


async def test_sessions_are_recalculated_by_themselves(lab: Lab) -> None:
    oven, run = await lab.sensor("oven"), await lab.run()
    await published(lab, oven, "1", 2.0)
    session = await lab.started(run, started_at=at(2).isoformat())
    await lab.owner.post(f"{lab.path(session)}/stop", json={"stopped_at": at(4).isoformat()})
    headers = {"Authorization": f"Bearer {lab.tokens[oven]}"}
    named = {"sensor_id": oven, "capture_session_id": session["id"]}
    rows = [{"timestamp": at(8).isoformat(), "raw_value": 1.0}]
    await lab.owner.post("/api/v1/telemetry", json={**named, "readings": rows}, headers=headers)
    await lab.post(oven, {at(seconds): 1 for seconds in (0, 2, 3, 4)})
    second = await published(lab, oven, "2", 10.0)
    asked = {"scope": "capture_sessions", "capture_session_ids": [session["id"]]}
    done = await recalculated(lab, oven, second, **asked)
    assert done["total_records"] == 3
    by_time = {one["timestamp"]: one["physical_value"] for one in await lab.points(sensor_id=oven)}
    assert [by_time[key] for key in sorted(by_time)] == [2, 10, 10, 2, 10]


async def test_posts_obey_what_was_decided_for_the_session_that_they_name_however_late_they_come(lab: Lab) -> None:
    oven, run = await lab.sensor("oven"), await lab.run()
    await published(lab, oven, "1", 2.0)
    chosen, other = [
        await lab.started(run, started_at=at(first).isoformat(), stopped_at=at(first + 2).isoformat())
        for first in (2, 12)
    ]

    async def post(offset: float) -> None:
        for seconds, session in ((2, None), (3, other), (8, chosen), (9, None), (13, chosen), (14, other)):
            names = {} if session is None else {"capture_session_id": session["id"]}
            assert (await lab.post(oven, {at(seconds + offset): 1}, **names)).status_code == 202

    await post(0)
    second = await published(lab, oven, "2", 10.0)
    asked = {"scope": "capture_sessions", "capture_session_ids": [chosen["id"]], "time_to": at(20).isoformat()}
    assert (await recalculated(lab, oven, second, **asked))["changed_records"] == 3
    await post(0.5)
    by_time = {one["timestamp"]: one["physical_value"] for one in await lab.points(sensor_id=oven)}
    assert [by_time[key] for key in sorted(by_time)] == [10, 10, 2, 2, 10, 10, 2, 2, 10, 10, 2, 2]
    assert (await lab.post(oven, {at(21): 1}, capture_session_id=chosen["id"])).status_code == 202
    assert (await physical(lab, oven))[-1] == 2, "beyond the time that was asked for"


async def test_what_is_asked_for_later_overrules_only_what_it_covers(lab: Lab) -> None:
    oven, run = await lab.sensor("oven"), await lab.run()
    first = await published(lab, oven, "1", 2.0)
    session = await lab.started(run, started_at=at(2).isoformat(), stopped_at=at(4).isoformat())
    second = await published(lab, oven, "2", 10.0)
    asked = {"scope": "capture_sessions", "capture_session_ids": [session["id"]]}
    await recalculated(lab, oven, second, **asked)
    await recalculated(lab, oven, first, time_from=at(0).isoformat(), time_to=at(6).isoformat())
    await lab.post(oven, {at(3): 1})
    await lab.post(oven, {at(5): 1, at(8): 1}, capture_session_id=session["id"])
    assert sorted(one["physical_value"] for one in await lab.points(sensor_id=oven)) == [2, 2, 10]
    await recalculated(lab, oven, second, **asked)
    await lab.post(oven, {at(3.5): 1, at(5.5): 1})
    by_time = {one["timestamp"]: one["physical_value"] for one in await lab.points(sensor_id=oven)}
    assert [by_time[key] for key in sorted(by_time)] == [10, 10, 10, 2, 10]


async def test_a_session_that_stops_in_the_past_while_its_task_waits_leaves_the_task_as_it_was(lab: Lab) -> None:
    oven, run = await lab.sensor("oven"), await lab.run()
    await published(lab, oven, "1", 2.0)
    session = await lab.started(run, started_at=at(2).isoformat())
    second = await published(lab, oven, "2", 10.0)
    await lab.post(oven, {at(seconds): 1 for seconds in (0, 3, 6)})
    async with acquire(lab.hub.services.pool) as connection:  # as if another hub worked on the sensor
        await connection.execute("select pg_advisory_lock(x'6c616273'::int, hashtext($1))", oven)
        asked = {"scope": "capture_sessions", "capture_session_ids": [session["id"]]}
        started = (await backfill(lab, oven, second, **asked)).json()["backfill_task_id"]
        stopped = await lab.owner.post(f"{lab.path(session)}/stop", json={"stopped_at": at(4).isoformat()})
        assert stopped.status_code == 200, stopped.text
        await lab.post(oven, {at(seconds): 1 for seconds in (1, 3.5, 6.5)})
        await connection.execute("select pg_advisory_unlock(x'6c616273'::int, hashtext($1))", oven)
    async with asyncio.timeout(30):
        while (await task(lab, started))["status"] != "succeeded":
            await asyncio.sleep(0.05)
    by_time = {one["timestamp"]: one["physical_value"] for one in await lab.points(sensor_id=oven)}
    assert [by_time[key] for key in sorted(by_time)] == [2, 2, 10, 10, 10, 10]


async def test_recalculations_of_one_sensor_are_done_in_their_order(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    first = await published(lab, oven, "1", 2.0)
    await lab.post(oven, {at(0): 1})
    second = await published(lab, oven, "2", 10.0)
    await backfill(lab, oven, second)
    await recalculated(lab, oven, first)
    assert await physical(lab, oven) == [2]
    await lab.post(oven, {at(1): 1})
    assert await physical(lab, oven) == [2, 2]
    listed = (await lab.owner.get("/api/v1/backfill-tasks", params={"sensor_id": oven})).json()
    assert [one["profile_id"] for one in listed["backfill_tasks"]] == [first, second]


async def test_what_does_not_fit_is_refused(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    unpublished = await draft(lab, oven, "0", 1.0)
    assert (await backfill(lab, oven, unpublished)).status_code == 409
    profile = await published(lab, oven, "1", 2.0)
    for body, said in (
        ({"scope": "capture_sessions"}, "capture_session_ids"),
        ({"capture_session_ids": [profile]}, "capture_session_ids"),
        ({"scope": "some"}, "scope"),
        ({"time_from": at(1).isoformat(), "time_to": at(0).isoformat()}, "time_to"),
    ):
        answer = await backfill(lab, oven, profile, **body)
        assert answer.status_code == 422, body
        assert said in answer.json()["error"]
    nowhere = {"scope": "capture_sessions", "capture_session_ids": [profile]}
    assert (await backfill(lab, oven, profile, **nowhere)).status_code == 404
    viewer = await lab.member("vic", "viewer")
    assert (await viewer.post(f"{path(oven)}/{profile}/backfill")).status_code == 403


async def test_a_cancelled_recalculation_rules_no_more(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    first = await published(lab, oven, "1", 2.0)
    second = await published(lab, oven, "2", 10.0)
    async with acquire(lab.hub.services.pool) as connection:  # as if another hub worked on the sensor
        await connection.execute("select pg_advisory_lock(x'6c616273'::int, hashtext($1))", oven)
        started = (await backfill(lab, oven, second)).json()["backfill_task_id"]
        await lab.post(oven, {at(0): 1})
        ended = (await lab.owner.post(f"/api/v1/backfill-tasks/{started}/cancel")).json()
        await lab.post(oven, {at(1): 1})
    assert (ended["status"], ended["error"]) == ("failed", "cancelled by ann")
    points = await lab.points(sensor_id=oven)
    assert [one["conversion_profile_id"] for one in points] == [second, first]
    again = (await lab.owner.post(f"/api/v1/backfill-tasks/{started}/cancel")).json()
    assert again["finished_at"] == ended["finished_at"]
    told = (await lab.owner.get("/api/v1/events", params={"project_id": lab.project})).json()["events"]
    assert told[0]["event_type"] == "conversion_profile.backfill_completed"
