"""Removing a sensor: never from a session that counts on it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from hub.database.pool import acquire
from tests.hub.sessions.conftest import Lab, lab

__all__ = ["lab"]

SENSORS = "/api/v1/sensors"
MINUTE = timedelta(minutes=1)


async def test_a_sensor_in_a_running_session_is_not_removed_and_the_session_is_named(lab: Lab) -> None:
    sensor = await lab.sensor("oven")
    session = await lab.started(await lab.run((sensor,)))
    answer = await lab.owner.delete(f"{SENSORS}/{sensor}")
    assert answer.status_code == 409
    problem = answer.json()
    assert (problem["code"], problem["capture_session_id"]) == ("session_active", session["id"])
    assert session["id"] in problem["error"]
    assert problem["capture_sessions"] == [{"id": session["id"], "run_id": session["run_id"], "status": "running"}]
    assert (await lab.owner.get(f"{SENSORS}/{sensor}")).status_code == 200


async def test_nor_one_of_a_session_that_is_backfilling(lab: Lab) -> None:
    sensor = await lab.sensor("oven")
    session = await lab.started(await lab.run((sensor,)))
    for step in ("stop", "backfill/start"):
        assert (await lab.owner.post(f"{lab.path(session)}/{step}")).status_code == 200
    assert (await lab.owner.delete(f"{SENSORS}/{sensor}")).json()["code"] == "session_active"
    assert (await lab.owner.post(f"{lab.path(session)}/backfill/complete")).status_code == 200
    assert (await lab.owner.delete(f"{SENSORS}/{sensor}")).status_code == 204


async def test_with_a_sensor_its_part_in_ended_sessions_goes_and_theirs_stays(lab: Lab) -> None:
    gone, kept = await lab.sensor("gone"), await lab.sensor("kept")
    session = await lab.started(await lab.run((gone, kept)))
    now = datetime.now(UTC)
    for sensor in (gone, kept):
        assert (await lab.post(sensor, {now: 1.0}, capture_session_id=session["id"])).status_code == 202
    assert (await lab.owner.post(f"{lab.path(session)}/stop")).status_code == 200
    assert (await lab.post(gone, {now: 2.0}, capture_session_id=session["id"])).status_code == 202
    assert (await lab.owner.delete(f"{SENSORS}/{gone}")).status_code == 204
    shown = (await lab.owner.get(lab.path(session))).json()
    assert [one["sensor_id"] for one in shown["sensors"]] == [kept]
    assert await lab.counted(session) == [1.0]
    told = (await lab.owner.get("/api/v1/events", params={"project_id": lab.project, "subject_id": gone})).json()
    deleted = next(one for one in told["events"] if one["event_type"] == "sensor.deleted")
    assert deleted["payload"]["capture_session_ids"] == [session["id"]]


async def test_a_decommissioned_sensor_keeps_its_readings_and_takes_no_more(lab: Lab) -> None:
    sensor = await lab.sensor("oven")
    now = datetime.now(UTC)
    assert (await lab.post(sensor, {now: 1.0})).status_code == 202
    assert (await lab.owner.patch(f"{SENSORS}/{sensor}", json={"status": "decommissioned"})).status_code == 200
    assert (await lab.post(sensor, {now + MINUTE: 2.0})).json()["code"] == "decommissioned"
    assert [one["raw_value"] for one in await lab.points(sensor_id=sensor)] == [1.0]


@pytest.mark.parametrize("backfilling", [False, True])
async def test_removal_and_a_start_at_the_same_moment_never_both_succeed(lab: Lab, backfilling: bool) -> None:
    """Fifty sensors, each removed at the moment in which a session of it starts, or begins a backfill."""
    sensors = [await lab.sensor(f"oven {number}") for number in range(50)]
    runs = [await lab.run((sensor, await lab.sensor(f"mate of {sensor}"))) for sensor in sensors]
    paths = [f"/api/v1/runs/{run}/capture-sessions" for run in runs]
    if backfilling:
        for place, run in enumerate(runs):
            session = await lab.started(run)
            paths[place] = f"{lab.path(session)}/backfill/start"
            assert (await lab.owner.post(f"{lab.path(session)}/stop")).status_code == 200
    statuses: dict[str, tuple[int, int]] = {}

    async def collide(sensor: str, path: str) -> None:
        async with asyncio.TaskGroup() as group:
            begun = group.create_task(lab.owner.post(path, json=None if backfilling else {}), name="start")
            removed = group.create_task(lab.owner.delete(f"{SENSORS}/{sensor}"), name="removal")
        statuses[sensor] = begun.result().status_code, removed.result().status_code

    for start in range(0, len(sensors), 10):
        async with asyncio.TaskGroup() as group:
            for sensor, path in list(zip(sensors, paths, strict=True))[start : start + 10]:
                group.create_task(collide(sensor, path), name=sensor)
    async with acquire(lab.hub.services.pool) as connection:
        rows = await connection.fetch(
            "select w.sensor_id from session_sensors w join capture_sessions c on c.id = w.session_id "
            "where c.status in ('running', 'backfilling')"
        )
    counted_on = {row["sensor_id"] for row in rows}
    assert {begun // 100 for begun, _ in statuses.values()} == {2}
    assert {removed for _, removed in statuses.values()} <= {204, 409}
    for sensor, (_, removed) in statuses.items():
        assert (removed == 409) == (UUID(sensor) in counted_on)
