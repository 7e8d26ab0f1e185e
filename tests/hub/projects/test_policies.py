"""What a project decides: who may read and write it, what is left out, what it falls back to."""

from __future__ import annotations

from datetime import timedelta

import pytest

from hub.access.identity import Role
from hub.access.policies import UNDECIDED, LateData, Policies, policies_of
from hub.database.ids import uuid7
from tests.hub.conftest import Hub
from tests.hub.projects.test_members import join, project_of, told

DECISION = {
    "late_data": "attach",
    "viewers_see_raw": False,
    "retention_days": 7,
    "clock_skew_s": 60,
    "session_start_role": "owner",
}


async def test_a_project_that_decided_nothing_shows_what_the_hub_does(hub: Hub) -> None:
    ann = await hub.member("ann")
    project = await project_of(ann)
    answer = await ann.get(f"/projects/{project}/policies")
    assert answer.headers["etag"] == '"1"'
    assert answer.json() == {
        "project_id": project,
        "late_data": None,
        "viewers_see_raw": True,
        "retention_days": None,
        "clock_skew_s": None,
        "session_start_role": "editor",
        "updated_at": None,
        "version": 1,
        "hub": {"retention_days": 0, "clock_skew_s": 86_400},
    }


async def test_owners_decide_and_everyone_who_enforces_is_told(hub: Hub) -> None:
    ann = await hub.member("ann")
    project = await project_of(ann)
    path = f"/projects/{project}/policies"
    answer = await ann.put(path, json=DECISION, headers={"If-Match": '"1"'})
    assert (answer.status_code, answer.headers["etag"]) == (200, '"2"')
    assert answer.json().items() >= DECISION.items()
    assert (await ann.put(path, json=DECISION, headers={"If-Match": '"1"'})).status_code == 412
    part = await ann.put(path, json={"late_data": None, "clock_skew_s": 0})
    assert part.json().items() >= (DECISION | {"late_data": None, "clock_skew_s": 0}).items()

    other = uuid7()
    async with hub.services.pool.acquire() as connection:
        found = await policies_of(connection, [answer.json()["project_id"], other])
    assert {str(key): value for key, value in found.items()} == {
        project: Policies(None, False, 7, 0, Role.OWNER),
        str(other): UNDECIDED,
    }
    assert UNDECIDED.session_start_role is Role.EDITOR
    assert LateData("attach") is LateData.ATTACH
    assert [event_type for event_type, _, _ in await told(hub, project)] == [
        "project.created",
        "project.policies_changed",
        "project.policies_changed",
    ]


async def test_viewers_read_policies_and_editors_do_not_write_them(hub: Hub) -> None:
    ann, bob, cay = [await hub.member(name) for name in ("ann", "bob", "cay")]
    project = await project_of(ann)
    path = f"/projects/{project}/policies"
    await join(ann, project, "bob", "editor")
    assert (await bob.get(path)).status_code == 200
    assert (await bob.put(path, json=DECISION)).status_code == 403
    assert (await cay.get(path)).status_code == 404
    assert (await cay.put(path, json=DECISION)).status_code == 404


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"late_data": "drop"},
        {"viewers_see_raw": None},
        {"session_start_role": None},
        {"retention_days": -1},
        {"retention_days": 36_501},
        {"clock_skew_s": 31_536_001},
        {"clock_skew_s": 1e300},
        {"colour": "red"},
    ],
)
async def test_odd_decisions_are_refused(hub: Hub, change: dict[str, object]) -> None:
    ann = await hub.member("ann")
    project = await project_of(ann)
    answer = await ann.put(f"/projects/{project}/policies", json=change)
    assert answer.status_code == 422, answer.text


async def test_what_lies_beyond_the_projects_bounds_is_set_aside_from_then_on(hub: Hub) -> None:
    ann = await hub.member("ann")
    project = await project_of(ann)
    made = (await ann.post("/api/v1/sensors", json={"project_id": project, "name": "T1"})).json()
    sensor = hub.client(Authorization=f"Bearer {made['token']}")

    async def send(ahead: timedelta) -> int:
        moment = (hub.services.now() + ahead).isoformat()
        readings = [{"timestamp": moment, "raw_value": 1.0}]
        answer = await sensor.post("/api/v1/telemetry", json={"sensor_id": made["sensor"]["id"], "readings": readings})
        assert answer.status_code == 202, answer.text
        return int(answer.json()["accepted"])

    times = (timedelta(hours=1), timedelta(days=-8))
    assert [await send(one) for one in times] == [1, 1]
    await ann.put(f"/projects/{project}/policies", json=DECISION)
    assert [await send(one) for one in times] == [0, 0]
    assert [await send(one) for one in (timedelta(seconds=30), timedelta(days=-6))] == [1, 1]
    listed = (await ann.get(f"/api/v1/set-aside?project_id={project}")).json()["set_aside"]
    assert sorted(one["reason"] for one in listed) == ["future", "too_old"]
    await ann.put(f"/projects/{project}/policies", json={"clock_skew_s": None, "retention_days": None})
    assert [await send(one + timedelta(seconds=5)) for one in times] == [1, 1]
