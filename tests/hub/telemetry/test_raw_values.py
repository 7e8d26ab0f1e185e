"""Who is shown raw values: everyone, unless a project keeps them from its viewers."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import httpx
import pytest

from hub.access.tokens import new_token, token_hash
from hub.database.ids import uuid7
from hub.telemetry.live import LiveReading
from tests.hub.conftest import Hub

READING = {"timestamp": "2026-03-02T12:00:00Z", "raw_value": 7.5, "physical_value": 75.0}


class Lab:
    """Ann owns a project that shows viewers no raw values; Vic views it. Its sensor holds one reading."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.token = new_token()
        self.sensor_id = uuid7()

    async def lay_out(self) -> None:
        self.ann, self.vic = await self.hub.member("ann"), await self.hub.member("vic")
        self.project = (await self.ann.post("/projects", json={"name": "Lab"})).json()["id"]
        await self.ann.post(f"/projects/{self.project}/members", json={"username": "vic"})
        await self.ann.put(f"/projects/{self.project}/policies", json={"viewers_see_raw": False})
        async with self.hub.services.pool.acquire() as connection, connection.transaction():
            await connection.execute(
                "insert into sensors (id, project_id, name, status, token_hash) values ($1, $2, 'T1', 'active', $3)",
                self.sensor_id,
                UUID(self.project),
                token_hash(self.token),
            )
            await connection.execute("insert into sensor_projects values ($1, $2)", self.sensor_id, UUID(self.project))
        body = {"sensor_id": str(self.sensor_id), "readings": [READING]}
        answer = await self.sensor().post("/api/v1/telemetry", json=body)
        assert answer.status_code == 202, answer.text

    def sensor(self) -> httpx.AsyncClient:
        return self.hub.client(Authorization=f"Bearer {self.token}")


@pytest.fixture
async def lab(hub: Hub) -> Lab:
    made = Lab(hub)
    await made.lay_out()
    return made


async def raw_by_query(client: httpx.AsyncClient) -> float | None:
    (point,) = (await client.get("/api/v1/telemetry/query")).json()["points"]
    assert point["physical_value"] == 75.0
    raw: float | None = point["raw_value"]
    return raw


async def raw_by_aggregate(client: httpx.AsyncClient) -> set[float | None]:
    (bucket,) = (await client.get("/api/v1/telemetry/aggregated")).json()["buckets"]
    assert bucket["avg_physical"] == 75.0
    return {bucket["avg_raw"], bucket["min_raw"], bucket["max_raw"]}


async def events(client: httpx.AsyncClient, query: str) -> list[tuple[str, dict[str, Any]]]:
    answer = await client.get(f"/api/v1/telemetry/stream?{query}")
    assert answer.status_code == 200, answer.text
    parts = [part.splitlines() for part in answer.text.split("\n\n") if "data: " in part]
    return [
        (
            next(line for line in lines if line.startswith("event: "))[7:],
            json.loads(next(line for line in lines if line.startswith("data: "))[6:]),
        )
        for lines in parts
    ]


async def test_viewers_get_null_for_raw_values_and_everyone_else_the_values(lab: Lab) -> None:
    assert await raw_by_query(lab.vic) is None
    assert await raw_by_aggregate(lab.vic) == {None}
    for client in (lab.ann, lab.sensor()):
        assert await raw_by_query(client) == 7.5
        assert await raw_by_aggregate(client) == {7.5}


async def test_a_stream_leaves_raw_values_out_for_viewers_only(lab: Lab) -> None:
    for client, raw in ((lab.vic, None), (lab.ann, 7.5), (lab.vic, None)):
        ((kind, point),) = await events(client, "since_id=0&max_events=1")
        assert (kind, point["raw_value"], point["physical_value"]) == ("telemetry", raw, 75.0)


async def test_live_values_come_without_the_raw_one_for_viewers(lab: Lab) -> None:
    lab.hub.services.live.offer([LiveReading(lab.sensor_id, "value", 1_770_000_000_000_000, 7.5, 75.0, 1)])
    for client, raw in ((lab.vic, None), (lab.ann, 7.5)):
        found = await events(client, "live=true&idle_timeout_seconds=0.3")
        assert [(kind, point["raw_value"], point["physical_value"]) for kind, point in found] == [("live", raw, 75.0)]


async def test_one_project_that_shows_them_is_enough(lab: Lab) -> None:
    other = (await lab.ann.post("/projects", json={"name": "Open"})).json()["id"]
    await lab.ann.post(f"/projects/{other}/members", json={"username": "vic"})
    async with lab.hub.services.pool.acquire() as connection:
        await connection.execute("insert into sensor_projects values ($1, $2::uuid)", lab.sensor_id, other)
    assert await raw_by_query(lab.vic) == 7.5
    await lab.ann.put(f"/projects/{other}/policies", json={"viewers_see_raw": False})
    assert await raw_by_query(lab.vic) is None


async def test_a_role_beyond_viewer_shows_them_at_once(lab: Lab) -> None:
    vic_id = (await lab.vic.get("/auth/me")).json()["id"]
    await lab.ann.put(f"/projects/{lab.project}/members/{vic_id}/role", json={"role": "editor"})
    assert await raw_by_query(lab.vic) == 7.5
