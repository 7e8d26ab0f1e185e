"""What was set aside, over HTTP: owners see it, release it into the readings once, or discard it with a reason."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from hub.database.pool import acquire, transaction
from shared.readings import Status
from tests.hub.conftest import Hub

TIME_US = 1_767_000_000_000_000
_ASIDE = """
insert into set_aside (project_id, agent_id, epoch_id, seq, sensor_id, sensor_name, signal, reason, readings, time_from,
                       time_to, timestamps_us, raw, physical, status, clock_segment)
values ($1, $2, $3, 7, $4, 'oven', 'value', $5, 2, to_timestamp($6::bigint / 1e6), to_timestamp($6::bigint / 1e6),
        array[$6::bigint, $6::bigint + 1], array[1.5, null], array[3.0, null], array[$7, 19]::smallint[], 1)
returning id
"""


@dataclass
class Bench:
    """A project with a sensor, and its owner."""

    hub: Hub
    client: httpx.AsyncClient
    project_id: str
    sensor_id: str

    async def aside(self, reason: str, *, sensor_id: str | None = None, epoch_id: int | None = None) -> int:
        """Two readings that were set aside, one of them failed."""
        status = int(Status.CONVERTED)
        async with transaction(self.hub.services.pool) as connection:
            found: int = await connection.fetchval(
                _ASIDE, UUID(self.project_id), None, epoch_id, sensor_id, reason, TIME_US, status
            )
        return found

    async def epoch(self) -> int:
        """An epoch of an agent of the project."""
        async with transaction(self.hub.services.pool) as connection:
            agent_id = uuid4()
            await connection.execute(
                "insert into agents (id, project_id, name, mqtt_username) values ($1, $2, 'bench', '')",
                agent_id,
                UUID(self.project_id),
            )
            found: int = await connection.fetchval(
                "insert into epochs (agent_id, epoch) values ($1, $2) returning id", agent_id, uuid4().bytes
            )
        return found

    async def post(self, path: str, **body: Any) -> httpx.Response:
        return await self.client.post(f"/api/v1/set-aside/{path}", json=body or None)

    async def rows(self, query: str) -> list[dict[str, Any]]:
        async with acquire(self.hub.services.pool) as connection:
            return [dict(row) for row in await connection.fetch(query)]


@pytest.fixture
async def bench(hub: Hub) -> AsyncIterator[Bench]:
    async with aclosing(await hub.signed_in()) as client:
        project_id = (await client.post("/projects", json={"name": "lab"})).json()["id"]
        sensor = await client.post("/api/v1/sensors", json={"project_id": project_id, "name": "oven"})
        assert sensor.status_code == 201, sensor.text
        yield Bench(hub, client, project_id, sensor.json()["sensor"]["id"])


async def test_it_is_listed_by_reason_and_sensor_for_owners_alone(bench: Bench) -> None:
    await bench.aside("future", sensor_id=bench.sensor_id)
    await bench.aside("sensor_refused")
    query = {"project_id": bench.project_id}
    listed = (await bench.client.get("/api/v1/set-aside", params=query)).json()
    assert (listed["total"], [one["reason"] for one in listed["set_aside"]]) == (2, ["sensor_refused", "future"])
    by_reason = (await bench.client.get("/api/v1/set-aside", params={**query, "reason": "future"})).json()
    by_sensor = (await bench.client.get("/api/v1/set-aside", params={**query, "sensor_id": bench.sensor_id})).json()
    assert by_reason["set_aside"] == by_sensor["set_aside"] == [listed["set_aside"][1]]
    async with aclosing(await bench.hub.member("stranger")) as stranger:
        assert (await stranger.get("/api/v1/set-aside", params=query)).status_code == 404
        row = listed["set_aside"][0]["id"]
        assert (await stranger.post(f"/api/v1/set-aside/{row}/release")).status_code == 404


async def test_released_readings_are_stored_once_with_the_sensors_present_profile(bench: Bench) -> None:
    profile = {"version": "2", "kind": "linear", "payload": {"a": 10.0, "b": 0.0}}
    profiles = f"/api/v1/sensors/{bench.sensor_id}/conversion-profiles"
    profile_id = (await bench.client.post(profiles, json=profile)).json()["id"]
    assert (await bench.client.post(f"{profiles}/{profile_id}/publish")).status_code == 200
    row = await bench.aside("sensor_refused")  # refused for its number; the name has come to a sensor since
    answers = await asyncio.gather(bench.post(f"{row}/release"), bench.post(f"{row}/release"))
    first = next(answer for answer in answers if answer.status_code == 200 and answer.json()["stored"])
    assert first.json() == {"readings": 2, "stored": 2, "repeated": 0, "set_aside": 0}
    assert (await bench.post(f"{row}/release")).status_code == 404
    stored = await bench.rows("select raw, physical, status from readings order by time")
    assert stored == [
        {"raw": 1.5, "physical": 15.0, "status": int(Status.CONVERTED)},
        {"raw": None, "physical": None, "status": 19},
    ]
    assert await bench.rows("select id from set_aside") == []
    decisions = await bench.rows("select action, was, stored from set_aside_decisions where stored > 0")
    assert decisions == [{"action": "released", "was": "sensor_refused", "stored": 2}]


async def test_what_cannot_be_a_reading_today_either_is_not_released(bench: Bench) -> None:
    conflicting = await bench.aside("conflicting_value", sensor_id=bench.sensor_id)
    refused = await bench.post(f"{conflicting}/release")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflicting_value")
    await bench.client.patch(f"/api/v1/sensors/{bench.sensor_id}", json={"status": "decommissioned"})
    gone = await bench.post(f"{await bench.aside('sensor_decommissioned', sensor_id=bench.sensor_id)}/release")
    assert (gone.status_code, gone.json()["code"]) == (409, "decommissioned")
    assert len(await bench.rows("select id from set_aside")) == 2


async def test_an_owner_places_a_clock_segment_once_for_all_of_its_readings(bench: Bench) -> None:
    epoch_id = await bench.epoch()
    row = await bench.aside("clock_unsynchronised", sensor_id=bench.sensor_id, epoch_id=epoch_id)
    other = await bench.aside("clock_unsynchronised", sensor_id=bench.sensor_id, epoch_id=epoch_id)
    assert (await bench.post(f"{row}/release")).status_code == 422
    placed = await bench.post(f"{row}/release", offset_us=5_000_000)
    assert placed.json()["stored"] == 2, placed.text
    moved = "select (extract(epoch from min(time)) * 1000000)::bigint as us from readings"
    assert await bench.rows(moved) == [{"us": TIME_US + 5_000_000}]
    assert (await bench.post(f"{other}/release", offset_us=1)).status_code == 409
    assert (await bench.post(f"{other}/release")).json()["repeated"] == 2
    assert [one["basis"] for one in await bench.rows("select basis from clock_corrections")] == ["owner"]


async def test_discarding_needs_a_reason_and_stays_on_record(bench: Bench) -> None:
    row = await bench.aside("future", sensor_id=bench.sensor_id)
    assert (await bench.client.post(f"/api/v1/set-aside/{row}/discard", json={})).status_code == 422
    assert (await bench.post(f"{row}/discard", reason="the clock was set to 2099")).json() == {"readings": 2}
    assert (await bench.post(f"{row}/discard", reason="again")).status_code == 404
    (decision,) = await bench.rows("select action, was, readings, reason from set_aside_decisions")
    assert decision == {
        "action": "discarded",
        "was": "future",
        "readings": 2,
        "reason": "the clock was set to 2099",
    }
