"""Capture sessions: numbered, started, stopped, backfilled; who takes part, and what they keep from happening."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from hub.database.ids import uuid7
from hub.database.pool import acquire
from tests.hub.sessions.conftest import Lab

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def sensors_of(session: dict[str, Any]) -> set[str]:
    return {one["sensor_id"] for one in session["sensors"]}


async def test_a_session_starts_now_with_the_next_number_and_its_run(lab: Lab) -> None:
    oven, run = await lab.sensor("oven"), await lab.run()
    first = await lab.started(run)
    assert (first["ordinal_number"], first["status"], first["stopped_at"]) == (1, "running", None)
    assert sensors_of(first) == {oven}
    assert abs(datetime.fromisoformat(first["started_at"]) - datetime.now(UTC)) < timedelta(minutes=1)
    stopped = (await lab.owner.post(f"{lab.path(first)}/stop")).json()
    assert (stopped["status"], stopped["sensors"][0]["time_to"]) == ("succeeded", stopped["stopped_at"])
    second = await lab.started(run, ordinal_number=7)
    await lab.owner.post(f"{lab.path(second)}/stop", json={"status": "failed", "notes": "power cut"})
    third = await lab.started(run, status="draft")
    assert (third["ordinal_number"], third["status"], third["started_at"], third["sensors"]) == (8, "draft", None, [])
    listed = (await lab.owner.get(f"/api/v1/runs/{run}/capture-sessions")).json()
    assert [one["ordinal_number"] for one in listed["capture_sessions"]] == [1, 7, 8]
    assert [one["status"] for one in listed["capture_sessions"]] == ["succeeded", "failed", "draft"]
    async with acquire(lab.hub.services.pool) as connection:
        assert await connection.fetchval("select status from runs where id = $1", UUID(run)) == "running"
        told = await connection.fetch(
            """select event_type from events where subject_type = 'capture_session'
               and event_type <> 'capture_session.certified' order by id"""
        )
    assert [row["event_type"] for row in told] == [
        f"capture_session.{what}" for what in ("created", "stopped", "created", "stopped", "created")
    ]


async def test_a_number_is_taken_once(lab: Lab) -> None:
    run = await lab.run()
    await lab.started(run, ordinal_number=1)
    answer = await lab.start(run, ordinal_number=1, status="draft")
    assert (answer.status_code, answer.json()["code"]) == (409, "taken")


async def test_a_draft_is_started_by_a_patch(lab: Lab) -> None:
    oven, run = await lab.sensor("oven"), await lab.run()
    draft = await lab.started(run, status="draft")
    started = (await lab.owner.patch(lab.path(draft), json={"status": "running"})).json()
    assert (started["status"], sensors_of(started)) == ("running", {oven})
    again = await lab.owner.patch(lab.path(draft), json={"status": "running"})
    assert again.json()["version"] == started["version"]


async def test_a_session_is_recorded_after_the_fact(lab: Lab) -> None:
    await lab.sensor("oven")
    run = await lab.run()
    times = {"started_at": NOON.isoformat(), "stopped_at": (NOON + timedelta(hours=1)).isoformat()}
    made = await lab.started(run, **times)
    assert made["status"] == "succeeded"
    assert made["sensors"][0]["time_from"] == made["started_at"]
    assert made["sensors"][0]["time_to"] == made["stopped_at"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"status": "draft", "started_at": NOON.isoformat()}, "started_at"),
        ({"status": "running", "stopped_at": NOON.isoformat()}, "stopped_at"),
        ({"status": "succeeded", "started_at": NOON.isoformat()}, "stopped_at"),
        ({"stopped_at": NOON.isoformat()}, "started_at"),
        ({"started_at": "2999-01-01T00:00:00Z"}, "started_at"),
        ({"started_at": NOON.isoformat(), "stopped_at": "2026-03-02T11:00:00Z"}, "stopped_at"),
        ({"status": "archived"}, "status"),
        ({"archived": True}, "archived"),
        ({"ordinal_number": 0}, "ordinal_number"),
        ({"run_id": str(uuid7())}, "run_id"),
        ({"project_id": str(uuid7())}, "project_id"),
        ({"initiated_by": str(uuid7())}, "initiated_by"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_what_does_not_go_together_is_refused_by_name(lab: Lab, body: dict[str, Any], field: str) -> None:
    answer = await lab.start(await lab.run(), **body)
    assert (answer.status_code, [one["field"] for one in answer.json()["errors"]]) == (422, [field])


async def test_an_attached_sensor_of_another_session_is_a_conflict_that_names_both(lab: Lab) -> None:
    oven, scale = await lab.sensor("oven"), await lab.sensor("scale")
    first = await lab.started(await lab.run((oven,)))
    answer = await lab.start(await lab.run((oven, scale)))
    assert (answer.status_code, answer.json()["code"]) == (409, "session_overlap")
    (overlap,) = answer.json()["overlaps"]
    assert (overlap["sensor_name"], overlap["capture_session_id"]) == ("oven", first["id"])
    assert answer.json()["capture_session_id"] != first["id"]


async def test_a_run_without_sensors_records_those_that_are_free(lab: Lab) -> None:
    oven, scale = await lab.sensor("oven"), await lab.sensor("scale")
    await lab.started(await lab.run((oven,)))
    assert sensors_of(await lab.started(await lab.run())) == {scale}
    assert sensors_of(await lab.started(await lab.run())) == set()


async def test_no_session_starts_on_a_run_that_has_ended(lab: Lab) -> None:
    for status in ("succeeded", "failed", "archived"):
        answer = await lab.start(await lab.run(status=status))
        assert (answer.status_code, answer.json()["code"]) == (409, "run_ended")


async def test_only_what_is_at_rest_is_deleted(lab: Lab) -> None:
    session = await lab.started(await lab.run())
    path = lab.path(session)
    assert (await lab.owner.delete(path)).status_code == 409
    await lab.owner.post(f"{path}/stop")
    await lab.owner.post(f"{path}/backfill/start")
    assert (await lab.owner.delete(path)).status_code == 409
    await lab.owner.post(f"{path}/backfill/complete")
    assert (await lab.owner.delete(path)).status_code == 204
    assert (await lab.owner.get(path)).status_code == 404


async def test_a_backfill_returns_to_what_the_session_was(lab: Lab) -> None:
    session = await lab.started(await lab.run())
    path = lab.path(session)
    refused = await lab.owner.post(f"{path}/backfill/start")
    assert (refused.status_code, refused.json()["from_status"]) == (409, "running")
    await lab.owner.post(f"{path}/stop", json={"status": "failed"})
    assert (await lab.owner.post(f"{path}/backfill/complete")).status_code == 409
    assert (await lab.owner.post(f"{path}/backfill/start")).json()["status"] == "backfilling"
    assert (await lab.owner.post(f"{path}/stop")).status_code == 409
    done = (await lab.owner.post(f"{path}/backfill/complete")).json()
    assert (done["status"], done["attached_records"]) == ("failed", 0)


async def test_what_is_archived_stays_so(lab: Lab) -> None:
    session = await lab.started(await lab.run())
    path = lab.path(session)
    assert (await lab.owner.patch(path, json={"archived": True})).status_code == 409
    await lab.owner.post(f"{path}/stop")
    archived = (await lab.owner.patch(path, json={"archived": True})).json()
    assert (archived["status"], archived["archived"]) == ("archived", True)
    assert (await lab.owner.post(f"{path}/backfill/start")).status_code == 409
    assert (await lab.owner.patch(path, json={"archived": False})).status_code == 422
    assert (await lab.owner.post(f"{path}/stop")).status_code == 409


async def test_a_stop_is_never_before_the_start_nor_ahead(lab: Lab) -> None:
    session = await lab.started(await lab.run())
    for moment in ("2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z"):
        answer = await lab.owner.post(f"{lab.path(session)}/stop", json={"stopped_at": moment})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "stopped_at")
    answer = await lab.owner.post(f"{lab.path(session)}/stop", json={"status": "draft"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "status")


async def test_another_version_than_the_one_meant_is_refused(lab: Lab) -> None:
    session = await lab.started(await lab.run())
    stale = {"If-Match": '"1"'}
    answer = await lab.owner.patch(lab.path(session), json={"notes": "x"}, headers=stale)
    assert answer.status_code == 412
    fresh = {"If-Match": (await lab.owner.get(lab.path(session))).headers["ETag"]}
    assert (await lab.owner.patch(lab.path(session), json={"notes": "x"}, headers=fresh)).status_code == 200


async def test_the_project_decides_who_starts(lab: Lab) -> None:
    run, viewer, editor = await lab.run(), await lab.member("vic", "viewer"), await lab.member("eddy", "editor")
    path = f"/api/v1/runs/{run}/capture-sessions"
    assert (await viewer.post(path, json={})).status_code == 403
    async with acquire(lab.hub.services.pool) as connection:
        await connection.execute(
            "insert into project_policies (project_id, session_start_role) values ($1, 'owner')", UUID(lab.project)
        )
    assert (await editor.post(path, json={})).status_code == 403
    async with acquire(lab.hub.services.pool) as connection:
        await connection.execute("update project_policies set session_start_role = 'viewer'")
    assert (await viewer.post(path, json={})).status_code == 201


async def test_of_fifty_parallel_starts_for_one_sensor_one_wins(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    runs = [await lab.run((oven,)) for _ in range(50)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(lab.start(run)) for run in runs]
    assert Counter(task.result().status_code for task in tasks) == {201: 1, 409: 49}


async def test_of_parallel_stops_one_is_told(lab: Lab) -> None:
    session = await lab.started(await lab.run())
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(lab.owner.post(f"{lab.path(session)}/stop")) for _ in range(20)]
    assert {task.result().status_code for task in tasks} == {200}
    assert len({task.result().json()["stopped_at"] for task in tasks}) == 1
    events = (await lab.owner.get(f"{lab.path(session)}/events")).json()["events"]
    told = [one["event_type"] for one in events if one["event_type"] != "capture_session.certified"]
    assert told == ["capture_session.stopped", "capture_session.created"]
