"""Conversion profiles over HTTP: validated when made, never changed once published, one in force at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from hub.database.pool import transaction
from hub.sensors.profiles import activate_scheduled
from tests.hub.conftest import Hub
from tests.hub.sensors.test_sensors import SENSORS, join, new_project, new_sensor

LINEAR = {"kind": "linear", "payload": {"a": 2.0, "b": -1.0}}


async def a_sensor(client: httpx.AsyncClient) -> str:
    return f"{SENSORS}/{(await new_sensor(client, await new_project(client)))['sensor']['id']}"


async def draft(client: httpx.AsyncClient, sensor: str, version: str, **fields: Any) -> dict[str, Any]:
    answer = await client.post(f"{sensor}/conversion-profiles", json={"version": version, **LINEAR, **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def publish(client: httpx.AsyncClient, sensor: str, profile: dict[str, Any], **body: Any) -> dict[str, Any]:
    answer = await client.post(f"{sensor}/conversion-profiles/{profile['id']}/publish", json=body or None)
    assert answer.status_code == 200, answer.text
    published: dict[str, Any] = answer.json()
    return published


async def statuses(client: httpx.AsyncClient, sensor: str) -> dict[str, str]:
    listed = (await client.get(f"{sensor}/conversion-profiles")).json()["conversion_profiles"]
    return {one["version"]: one["status"] for one in listed}


async def test_the_first_profile_holds_for_all_earlier_times_and_later_ones_from_now(hub: Hub) -> None:
    client = await hub.signed_in()
    sensor = await a_sensor(client)
    first = await publish(client, sensor, await draft(client, sensor, "1"))
    assert (first["status"], first["valid_from"]) == ("active", None)
    second = await publish(client, sensor, await draft(client, sensor, "2"))
    assert second["valid_from"] is not None
    assert await statuses(client, sensor) == {"1": "deprecated", "2": "active"}
    listed = (await client.get(f"{sensor}/conversion-profiles", params={"status": "deprecated"})).json()
    assert listed["conversion_profiles"][0]["valid_to"] == second["valid_from"]
    assert (await client.get(sensor)).json()["active_profile_id"] == second["id"]


async def test_a_profile_for_the_future_is_scheduled_and_activated_when_due(hub: Hub) -> None:
    client = await hub.signed_in()
    sensor = await a_sensor(client)
    await publish(client, sensor, await draft(client, sensor, "1"))
    soon = datetime.now(UTC) + timedelta(hours=1)
    scheduled = await publish(client, sensor, await draft(client, sensor, "2", valid_from=soon.isoformat()))
    assert scheduled["status"] == "scheduled"
    async with transaction(hub.services.pool) as connection:
        assert await activate_scheduled(connection, soon - timedelta(seconds=1)) == []
        assert len(await activate_scheduled(connection, soon)) == 1
    assert await statuses(client, sensor) == {"1": "deprecated", "2": "active"}
    assert (await client.get(sensor)).json()["active_profile_id"] == scheduled["id"]


async def test_what_was_published_is_not_published_again(hub: Hub) -> None:
    client = await hub.signed_in()
    sensor = await a_sensor(client)
    made = await draft(client, sensor, "1")
    await publish(client, sensor, made)
    answer = await client.post(f"{sensor}/conversion-profiles/{made['id']}/publish")
    assert answer.status_code == 409
    assert (await client.post(f"{sensor}/conversion-profiles", json={"version": "1", **LINEAR})).status_code == 409


async def test_a_payload_that_does_not_fit_its_kind_is_refused(hub: Hub) -> None:
    client = await hub.signed_in()
    sensor = await a_sensor(client)
    misfits: list[tuple[str, dict[str, Any], str]] = [
        ("linear", {"a": 1}, "b"),
        ("linear", {"a": 1, "b": "x"}, "b"),
        ("polynomial", {"coefficients": []}, "coefficients"),
        ("lookup_table", {"table": [{"raw": 1, "physical": 1}]}, "table"),
        ("formula", {"expression": "__import__('os')", "constants": {}}, "formula"),
        ("spline", {}, "kind"),
    ]
    for kind, payload, said in misfits:
        body = {"version": "1", "kind": kind, "payload": payload}
        answer = await client.post(f"{sensor}/conversion-profiles", json=body)
        assert answer.status_code == 422, body
        assert said in answer.json()["error"]


async def test_editors_draft_and_owners_publish(hub: Hub) -> None:
    owner = await hub.signed_in()
    project_id = await new_project(owner)
    sensor = f"{SENSORS}/{(await new_sensor(owner, project_id))['sensor']['id']}"
    editor = await hub.member("edith")
    await join(owner, project_id, "edith", "editor")
    made = await draft(editor, sensor, "1")
    assert (await editor.post(f"{sensor}/conversion-profiles/{made['id']}/publish")).status_code == 403
    assert (await publish(owner, sensor, made))["published_by"] != made["created_by"]


async def test_a_profile_of_another_sensor_is_not_found(hub: Hub) -> None:
    client = await hub.signed_in()
    project_id = await new_project(client)
    oven, kiln = [
        f"{SENSORS}/{(await new_sensor(client, project_id, name))['sensor']['id']}" for name in ("oven", "kiln")
    ]
    made = await draft(client, oven, "1")
    assert (await client.post(f"{kiln}/conversion-profiles/{made['id']}/publish")).status_code == 404


async def test_a_deprecated_profile_holds_no_longer_and_is_never_published_again(hub: Hub) -> None:
    client = await hub.signed_in()
    sensor = await a_sensor(client)
    active = await publish(client, sensor, await draft(client, sensor, "1"))
    soon = datetime.now(UTC) + timedelta(hours=1)
    scheduled = await publish(client, sensor, await draft(client, sensor, "2", valid_from=soon.isoformat()))
    drafted = await draft(client, sensor, "3")
    for profile in (active, scheduled, drafted, drafted):
        answer = await client.post(f"{sensor}/conversion-profiles/{profile['id']}/deprecate")
        assert (answer.status_code, answer.json()["status"]) == (200, "deprecated")
    assert (await client.get(sensor)).json()["active_profile_id"] is None
    async with transaction(hub.services.pool) as connection:
        assert await activate_scheduled(connection, soon) == []
    for profile in (active, scheduled, drafted):
        assert (await client.post(f"{sensor}/conversion-profiles/{profile['id']}/publish")).status_code == 409
    listed = (await client.get(f"{sensor}/conversion-profiles")).json()["conversion_profiles"]
    ended = {one["version"]: one["valid_to"] is not None for one in listed}
    assert ended == {"1": True, "2": False, "3": False}


async def test_a_profile_may_be_posted_with_the_fields_that_it_will_have(hub: Hub) -> None:
    client = await hub.signed_in()
    sensor = await a_sensor(client)
    shown = (await client.get(sensor)).json()
    user = (await client.get("/auth/me")).json()
    own = {"status": "draft", "created_by": user["id"], "sensor_id": shown["id"], "project_id": shown["project_id"]}
    made = await draft(client, sensor, "1", **own)
    assert {name: made[name] for name in ("status", "created_by", "sensor_id")} == {
        "status": "draft", "created_by": user["id"], "sensor_id": shown["id"],
    }  # fmt: skip
    wrong = dict.fromkeys(("created_by", "sensor_id", "project_id"), "0190e2b4-0000-7000-8000-000000000000")
    for name, value in [*wrong.items(), ("status", "active"), ("status", "deprecated"), ("status", "new")]:
        body = {"version": "2", **LINEAR, **own, name: value}
        refused = await client.post(f"{sensor}/conversion-profiles", json=body)
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, name)
    assert await statuses(client, sensor) == {"1": "draft"}


async def test_the_profile_that_a_sensor_is_made_with_is_active_unless_it_is_to_be_a_draft(hub: Hub) -> None:
    client = await hub.signed_in()
    project, user = await new_project(client), (await client.get("/auth/me")).json()
    for status, becomes in ((None, "active"), ("active", "active"), ("draft", "draft")):
        profile = {"version": "1", **LINEAR, "status": status, "created_by": user["id"], "project_id": project}
        made = await new_sensor(client, project, name=f"to be {status}", conversion_profile=profile)
        assert await statuses(client, f"{SENSORS}/{made['sensor']['id']}") == {"1": becomes}
        assert (made["sensor"]["active_profile_id"] is None) == (becomes == "draft")
    other = "0190e2b4-0000-7000-8000-000000000000"
    for name, value in {"created_by": other, "sensor_id": other, "project_id": other, "status": "scheduled"}.items():
        profile = {"version": "1", **LINEAR, name: value}
        body = {"name": "refused", "project_id": project, "conversion_profile": profile}
        refused = await client.post(SENSORS, json=body)
        assert refused.json()["errors"][0]["field"] == f"conversion_profile.{name}", refused.text
    assert (await client.get(SENSORS)).json()["total"] == 3
