"""Sensors over HTTP: who may do what, tokens, lists, deletion."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import httpx

from hub.database.pool import acquire
from hub.telemetry.live import LiveReading
from tests.hub.conftest import Hub

SENSORS = "/api/v1/sensors"


async def new_project(client: httpx.AsyncClient, name: str = "Lab") -> str:
    answer = await client.post("/projects", json={"name": name})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def new_sensor(client: httpx.AsyncClient, project_id: str, name: str = "oven", **fields: Any) -> dict[str, Any]:
    answer = await client.post(SENSORS, json={"project_id": project_id, "name": name, **fields})
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    return created


async def join(owner: httpx.AsyncClient, project_id: str, username: str, role: str) -> None:
    answer = await owner.post(f"/projects/{project_id}/members", json={"username": username, "role": role})
    assert answer.status_code == 201, answer.text


async def test_a_new_sensor_shows_its_token_once(hub: Hub) -> None:
    client = await hub.signed_in()
    project_id = await new_project(client)
    created = await new_sensor(client, project_id, type="thermocouple", input_unit="mV", display_unit="°C")
    sensor, token = created["sensor"], created["token"]
    assert sensor["token_preview"] == token[-4:]
    assert len(token) >= 43
    shown = (await client.get(f"{SENSORS}/{sensor['id']}")).json()
    assert shown == sensor
    assert token not in str(shown)
    assert (sensor["status"], sensor["connection_status"]) == ("registering", "offline")
    assert (await client.get(f"{SENSORS}/{sensor['id']}/projects")).json() == {"project_ids": [project_id]}


async def test_a_sensor_may_bring_its_first_profile(hub: Hub) -> None:
    client = await hub.signed_in()
    profile = {"version": "1", "kind": "linear", "payload": {"a": 2, "b": 1}}
    sensor = (await new_sensor(client, await new_project(client), conversion_profile=profile))["sensor"]
    listed = (await client.get(f"{SENSORS}/{sensor['id']}/conversion-profiles")).json()["conversion_profiles"]
    assert [(one["status"], one["valid_from"]) for one in listed] == [("active", None)]
    assert sensor["active_profile_id"] == listed[0]["id"]


async def test_names_are_unique_in_a_project_whatever_the_case(hub: Hub) -> None:
    client = await hub.signed_in()
    project_id = await new_project(client)
    await new_sensor(client, project_id, "Oven")
    answer = await client.post(SENSORS, json={"project_id": project_id, "name": "oven"})
    assert answer.status_code == 409
    kiln = (await new_sensor(client, project_id, "kiln"))["sensor"]
    answer = await client.patch(f"{SENSORS}/{kiln['id']}", json={"name": "OVEN"})
    assert answer.status_code == 409
    assert "name" in answer.json()["error"]


async def test_invalid_sensors_are_refused_with_the_field(hub: Hub) -> None:
    client = await hub.signed_in()
    project_id = await new_project(client)
    bodies: list[dict[str, Any]] = [
        {},
        {"name": ""},
        {"name": "x", "status": "broken"},
        {"name": "x", "colour": "red"},
        {"name": "x", "conversion_profile": {"version": "1", "kind": "linear", "payload": {"a": 1}}},
        {"name": "x\u0000"},
    ]
    for body in bodies:
        answer = await client.post(SENSORS, params={"project_id": project_id}, json=body)
        assert answer.status_code == 422, body
        assert answer.json()["errors"]


async def test_lists_filter_and_page_and_clamp(hub: Hub) -> None:
    client = await hub.signed_in()
    project_id, other_id = await new_project(client), await new_project(client, "Other")
    for number in range(5):
        await new_sensor(client, project_id, f"oven {number}", type="oven" if number % 2 else "kiln", status="active")
    await new_sensor(client, other_id, "elsewhere")
    everything = (await client.get(SENSORS, params={"page_size": 5000})).json()
    assert (everything["total"], everything["page"], everything["page_size"]) == (6, 1, 100)
    second = (await client.get(SENSORS, params={"project_id": project_id, "page": 2, "page_size": 2})).json()
    assert [one["name"] for one in second["sensors"]] == ["oven 2", "oven 3"]
    offset = (await client.get(SENSORS, params={"project_id": project_id, "limit": 2, "offset": 4})).json()
    assert ([one["name"] for one in offset["sensors"]], offset["page"]) == (["oven 4"], 3)
    kilns = (await client.get(SENSORS, params={"type": "kiln", "status": "active"})).json()
    assert kilns["total"] == 3
    future = (await client.get(SENSORS, params={"created_after": "2999-01-01T00:00:00Z"})).json()
    assert future["sensors"] == []


async def test_outsiders_see_nothing_and_viewers_only_read(hub: Hub) -> None:
    owner = await hub.signed_in()
    project_id = await new_project(owner)
    sensor_id = (await new_sensor(owner, project_id))["sensor"]["id"]
    viewer = await hub.member("victor")
    path = f"{SENSORS}/{sensor_id}"
    assert (await viewer.get(path)).status_code == 404
    assert (await viewer.get(SENSORS)).json()["total"] == 0
    assert (await viewer.get(SENSORS, params={"project_id": project_id})).status_code == 404
    assert (await viewer.post(SENSORS, json={"project_id": project_id, "name": "x"})).status_code == 404
    await join(owner, project_id, "victor", "viewer")
    assert (await viewer.get(path)).status_code == 200
    assert (await viewer.patch(path, json={"name": "x"})).status_code == 403
    assert (await viewer.delete(path)).status_code == 403
    assert (await viewer.post(f"{path}/rotate-token")).status_code == 403
    assert (await viewer.post(SENSORS, json={"project_id": project_id, "name": "x"})).status_code == 403
    assert (await hub.client().get(path)).status_code == 401


async def test_a_rotated_token_replaces_the_old_one(hub: Hub) -> None:
    client = await hub.signed_in()
    created = await new_sensor(client, await new_project(client))
    path = f"{SENSORS}/{created['sensor']['id']}"
    rotated = (await client.post(f"{path}/rotate-token")).json()
    assert rotated["token"] != created["token"]
    assert rotated["sensor"]["token_preview"] == rotated["token"][-4:]
    query = "/api/v1/telemetry/query"
    assert (await hub.client(Authorization=f"Bearer {rotated['token']}").get(query)).status_code == 200
    assert (await hub.client(Authorization=f"Bearer {created['token']}").get(query)).status_code == 401


async def test_a_sensor_in_two_projects_is_seen_in_both_and_stays_in_its_primary_one(hub: Hub) -> None:
    owner = await hub.signed_in()
    primary, second = await new_project(owner), await new_project(owner, "Second")
    sensor_id = (await new_sensor(owner, primary))["sensor"]["id"]
    guest = await hub.member("grace")
    await join(owner, second, "grace", "owner")
    path = f"{SENSORS}/{sensor_id}"
    assert (await guest.get(path)).status_code == 404
    added = await owner.post(f"{path}/projects", json={"project_id": second})
    assert added.json() == {"project_ids": [primary, second]}
    assert (await guest.get(path)).status_code == 200
    assert (await guest.patch(path, json={"name": "mine"})).status_code == 403
    assert (await owner.delete(f"{path}/projects/{primary}")).status_code == 409
    assert (await owner.delete(f"{path}/projects/{second}")).status_code == 204
    assert (await owner.delete(f"{path}/projects/{second}")).status_code == 404
    assert (await guest.get(path)).status_code == 404


async def test_what_was_heard_makes_a_sensor_online(hub: Hub) -> None:
    client = await hub.signed_in()
    project_id = await new_project(client)
    sensor = (await new_sensor(client, project_id))["sensor"]
    kiln = (await new_sensor(client, project_id, "kiln"))["sensor"]
    async with acquire(hub.services.pool) as connection:
        await connection.execute(
            "update sensors set last_heartbeat = now() - interval '2 minutes' where id = $1", kiln["id"]
        )
    hub.services.live.offer([LiveReading(UUID(sensor["id"]), "value", 1, 1.0, None, 0)])
    assert (await client.get(f"{SENSORS}/{sensor['id']}")).json()["connection_status"] == "online"
    summary = (await client.get(f"{SENSORS}/status-summary", params={"project_id": project_id})).json()
    assert (summary["total"], summary["online"], summary["delayed"], summary["offline"]) == (2, 1, 1, 0)
    assert summary["by_status"]["registering"] == 2


async def test_a_deleted_sensor_frees_its_name_and_stays_deleted_for_agents(hub: Hub) -> None:
    client = await hub.signed_in()
    project_id = await new_project(client)
    profile = {"version": "1", "kind": "linear", "payload": {"a": 2, "b": 1}}
    sensor = (await new_sensor(client, project_id, conversion_profile=profile))["sensor"]
    async with acquire(hub.services.pool) as connection:
        await connection.execute("insert into series (sensor_id, signal) values ($1, 'value')", sensor["id"])
        agent_id = await connection.fetchval(
            "insert into agents (id, project_id, name, mqtt_username) values (gen_random_uuid(), $1, 'bench', '') "
            "returning id",
            project_id,
        )
        await connection.execute("insert into agent_bindings values ($1, 'oven', $2)", agent_id, sensor["id"])
    assert (await client.delete(f"{SENSORS}/{sensor['id']}")).status_code == 204
    assert (await client.get(f"{SENSORS}/{sensor['id']}")).status_code == 404
    async with acquire(hub.services.pool) as connection:
        binding = await connection.fetchrow("select state, sensor_id from agent_bindings")
    assert dict(binding) == {"state": "deleted", "sensor_id": None}
    await new_sensor(client, project_id)


async def test_a_sensor_is_changed_field_by_field(hub: Hub) -> None:
    client = await hub.signed_in()
    sensor = (await new_sensor(client, await new_project(client), display_unit="°C"))["sensor"]
    path = f"{SENSORS}/{sensor['id']}"
    changed = (await client.patch(path, json={"status": "decommissioned", "calibration_notes": "1.2 K high"})).json()
    assert (changed["status"], changed["calibration_notes"], changed["display_unit"]) == (
        "decommissioned",
        "1.2 K high",
        "°C",
    )
    assert (await client.patch(path, json={"project_id": str(uuid4())})).status_code == 422


async def test_a_sensor_may_be_made_with_its_rate_and_changed_with_its_own_id(hub: Hub) -> None:
    client = await hub.signed_in()
    project = await new_project(client)
    for rate, shown in ((5, 5), (0, None), (None, None)):
        made = await new_sensor(client, project, f"at {rate}", readings_per_s_max=rate)
        assert made["sensor"]["readings_per_s_max"] == shown
    sensor = made["sensor"]
    path = f"{SENSORS}/{sensor['id']}"
    changed = await client.patch(path, json={"type": "x", "sensor_id": sensor["id"], "project_id": project})
    assert (changed.status_code, changed.json()["type"]) == (200, "x")
    before = (await client.get(path)).json()["updated_at"]
    for nothing in ({"name": None}, {"sensor_id": sensor["id"]}, {"project_id": project}, {"readings_per_s_max": None}):
        assert (await client.patch(path, json=nothing)).status_code == 422
    for other in ("sensor_id", "project_id"):
        refused = await client.patch(path, json={"type": "y", other: "0190e2b4-0000-7000-8000-000000000000"})
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, other)
    assert (await client.get(path)).json()["updated_at"] == before
