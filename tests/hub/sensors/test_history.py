"""What is done to sensors and profiles is on record, and the repeat of a post that creates changes nothing."""

from __future__ import annotations

from typing import Any

import httpx

from hub.database.pool import acquire, transaction
from tests.hub.conftest import Hub
from tests.hub.sensors.test_sensors import SENSORS, new_project

LINEAR = {"kind": "linear", "payload": {"a": 2, "b": 1}}


async def told(hub: Hub, project_id: str) -> list[str]:
    """The project's events by type, oldest first."""
    async with acquire(hub.services.pool) as connection:
        rows = await connection.fetch("select event_type from events where project_id = $1 order by id", project_id)
    return [row["event_type"] for row in rows if row["event_type"] != "project.created"]


async def test_a_sensors_life_is_on_record(hub: Hub) -> None:
    client = await hub.signed_in()
    project_id, other = await new_project(client), await new_project(client, "Other")
    made = (await client.post(SENSORS, json={"project_id": project_id, "name": "oven"})).json()
    sensor = f"{SENSORS}/{made['sensor']['id']}"
    await client.patch(sensor, json={"name": "oven 2"})
    rotated = (await client.post(f"{sensor}/rotate-token")).json()
    for version in ("1", "2"):
        draft = (await client.post(f"{sensor}/conversion-profiles", json={"version": version, **LINEAR})).json()
        await client.post(f"{sensor}/conversion-profiles/{draft['id']}/publish")
    await client.post(f"{sensor}/projects", json={"project_id": other})
    await client.delete(f"{sensor}/projects/{other}")
    assert (await client.delete(sensor)).status_code == 204
    assert await told(hub, project_id) == [
        "sensor.registered",
        "sensor.updated",
        "sensor.token_rotated",
        "conversion_profile.created",
        "conversion_profile.published",
        "conversion_profile.created",
        "conversion_profile.deprecated",
        "conversion_profile.published",
        "sensor.shared",
        "sensor.unshared",
        "sensor.deleted",
    ]
    async with acquire(hub.services.pool) as connection:
        everything = str(await connection.fetch("select payload from events"))
    assert made["token"] not in everything
    assert rotated["token"] not in everything


async def test_a_change_that_is_refused_leaves_no_trace(hub: Hub) -> None:
    client = await hub.signed_in()
    project_id = await new_project(client)
    await client.post(SENSORS, json={"project_id": project_id, "name": "oven"})
    assert (await client.post(SENSORS, json={"project_id": project_id, "name": "OVEN"})).status_code == 409
    assert await told(hub, project_id) == ["sensor.registered"]


async def _post(client: httpx.AsyncClient, path: str, body: Any = None, key: str = "k") -> httpx.Response:
    return await client.post(path, json=body, headers={"Idempotency-Key": key})


async def test_a_repeat_shows_the_same_token_which_is_stored_nowhere(hub: Hub) -> None:
    client = await hub.signed_in()
    body = {"project_id": await new_project(client), "name": "oven"}
    first, again = await _post(client, SENSORS, body), await _post(client, SENSORS, body)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    sensor = first.json()["sensor"]
    rotate = f"{SENSORS}/{sensor['id']}/rotate-token"
    rotated, rotated_again = await _post(client, rotate, key="r"), await _post(client, rotate, key="r")
    assert rotated.json() == rotated_again.json()
    tokens = {first.json()["token"], rotated.json()["token"]}
    assert len(tokens) == 2
    stream = await hub.client(Authorization=f"Bearer {rotated.json()['token']}").get(
        "/api/v1/telemetry/stream", params={"idle_timeout_seconds": 0.1}
    )
    assert stream.status_code == 200
    async with acquire(hub.services.pool) as connection:
        stored = str(await connection.fetch("select caller, key, convert_from(body, 'UTF8') from idempotency_keys"))
    assert sensor["name"] in stored
    assert not any(token in stored for token in tokens)


async def test_a_token_of_another_secret_key_is_not_made_up(hub: Hub) -> None:
    client = await hub.signed_in()
    body = {"project_id": await new_project(client), "name": "oven"}
    made = (await _post(client, SENSORS, body)).json()
    async with transaction(hub.services.pool) as connection:  # as if it had been kept under another secret key
        await connection.execute(
            "update idempotency_keys set body = convert_to(replace(convert_from(body, 'UTF8'), $1, '????'), 'UTF8')",
            made["sensor"]["token_preview"],
        )
    answer = await _post(client, SENSORS, body)
    assert (answer.status_code, answer.json()["code"]) == (409, "token_lost")


async def test_a_repeated_request_for_an_enrolment_code_gets_the_same_one(hub: Hub) -> None:
    client = await hub.signed_in()
    project_id = await new_project(client)
    path, body = "/api/v1/agents/enrolment-codes", {"project_id": project_id, "name": "rig"}
    first, again = await _post(client, path, body), await _post(client, path, body)
    assert first.json() == again.json()
    assert (await _post(client, path, body, key="other")).json()["code"] != first.json()["code"]
    async with acquire(hub.services.pool) as connection:
        stored = str(await connection.fetch("select convert_from(body, 'UTF8') from idempotency_keys"))
        assert await connection.fetchval("select count(*) from enrolment_codes") == 2
    assert first.json()["code"] not in stored
