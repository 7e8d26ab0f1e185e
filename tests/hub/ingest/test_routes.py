"""`POST /api/v1/telemetry`: what the contract says, and what bad input gets."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
import pytest

from hub.database.pool import acquire, transaction
from tests.hub.conftest import Hub

NOW = "2026-03-02T12:00:00Z"


class Sensor:
    """A sensor with its token."""

    def __init__(self, hub: Hub, id_: str, token: str) -> None:
        self.hub = hub
        self.id = id_
        self.headers = {"Authorization": f"Bearer {token}"}

    async def post(self, readings: Any, **more: Any) -> httpx.Response:
        async with self.hub.client(**self.headers) as client:
            return await client.post("/api/v1/telemetry", json={"sensor_id": self.id, "readings": readings, **more})

    async def post_text(self, text: str) -> httpx.Response:
        async with self.hub.client(**self.headers) as client:
            return await client.post("/api/v1/telemetry", content=text.replace("SENSOR", self.id))


@pytest.fixture
async def sensor(hub: Hub) -> Sensor:
    client = await hub.signed_in()
    project = (await client.post("/projects", json={"name": "lab"})).json()
    made = await client.post("/api/v1/sensors", json={"project_id": project["id"], "name": "oven"})
    assert made.status_code == 201, made.text
    await client.aclose()
    return Sensor(hub, made.json()["sensor"]["id"], made.json()["token"])


async def _rows(hub: Hub) -> list[dict[str, Any]]:
    async with acquire(hub.services.pool) as connection:
        rows = await connection.fetch(
            """
            select x.signal, r.time, r.raw, r.physical, r.status & 15 as status, m.meta
            from readings r join series x on x.id = r.series_id
            left join reading_meta m on m.series_id = r.series_id and m.time = r.time
            order by x.signal, r.time
            """
        )
    return [dict(row) for row in rows]


async def test_readings_are_accepted_and_counted_once(hub: Hub, sensor: Sensor) -> None:
    readings = [
        {"timestamp": NOW, "raw_value": 1.5},
        {"timestamp": "2026-03-02T14:00:01.000002+02:00", "raw_value": 2, "physical_value": 20.5},
    ]
    first = await sensor.post(readings)
    assert (first.status_code, first.json()) == (202, {"status": "accepted", "accepted": 2})
    again = await sensor.post([*readings, {"timestamp": "2026-03-02T12:00:02Z", "raw_value": 3}])
    assert again.json()["accepted"] == 1
    rows = await _rows(hub)
    assert [(row["time"].second, row["time"].microsecond) for row in rows] == [(0, 0), (1, 2), (2, 0)]
    values = [(row["raw"], row["physical"], row["status"]) for row in rows]
    assert values == [(1.5, None, 0), (2.0, 20.5, 2), (3.0, None, 0)]


async def test_meta_names_the_signal_and_belongs_to_the_reading_without_what_is_the_hubs(
    hub: Hub, sensor: Sensor
) -> None:
    readings = [
        {"timestamp": NOW, "raw_value": 1, "meta": {"signal": "b", "run": 7}},
        {"timestamp": NOW, "raw_value": 2, "signal": "a"},
    ]
    answer = await sensor.post(readings, meta={"signal": "z", "lot": "x", "__system": {"late": True}})
    assert answer.json()["accepted"] == 2, answer.text
    rows = await _rows(hub)
    assert [(row["signal"], row["raw"]) for row in rows] == [("a", 2.0), ("b", 1.0)]
    by_signal = {row["signal"]: row["meta"] for row in rows}
    assert by_signal["b"] == {"signal": "b", "run": 7, "lot": "x"}
    assert by_signal["a"] == {"signal": "z", "lot": "x"}


INVALID = [
    '{"timestamp": "2026-03-02T12:00:00Z", "raw_value": "1"}',
    '{"timestamp": "2026-03-02T12:00:00", "raw_value": 1}',
    '{"timestamp": "yesterday", "raw_value": 1}',
    '{"timestamp": "2026-03-02T12:00:00Z"}',
    '{"timestamp": "2026-03-02T12:00:00Z", "raw_value": 1, "x": 1}',
    "",
    '{"timestamp": "2026-03-02T12:00:00Z", "raw_value": null}',
    '{"timestamp": "2026-03-02T12:00:00Z", "raw_value": 1, "signal": "a\\u0000"}',
    '{"timestamp": "2026-03-02T12:00:00Z", "raw_value": 1, "meta": {"a": "\\u0000"}}',
]


async def test_invalid_fields_are_named(sensor: Sensor) -> None:
    for reading in INVALID:
        answer = await sensor.post_text(f'{{"sensor_id": "SENSOR", "readings": [{reading}]}}')
        assert answer.status_code == 422, (reading, answer.text)
        assert answer.headers["content-type"].startswith("application/problem+json")


async def test_what_is_not_json_is_unreadable(sensor: Sensor) -> None:
    for text in ("", "{", "\xff"):
        assert (await sensor.post_text(text)).status_code == 400


async def test_too_many_readings_are_refused(sensor: Sensor) -> None:
    readings = [{"timestamp": NOW, "raw_value": 1}] * 10_001
    assert (await sensor.post(readings)).status_code == 422


async def test_ten_thousand_readings_fit(sensor: Sensor) -> None:
    readings = [
        {"timestamp": f"2026-03-02T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}Z", "raw_value": n / 7, "meta": {"n": n}}
        for n in range(10_000)
    ]
    answer = await sensor.post(readings)
    assert answer.json() == {"status": "accepted", "accepted": 10_000}


async def test_other_sensors_runs_and_sessions_are_refused(sensor: Sensor) -> None:
    reading = [{"timestamp": NOW, "raw_value": 1}]
    assert (await sensor.post(reading, sensor_id=str(uuid4()))).status_code == 403
    assert (await sensor.post(reading, run_id=str(uuid4()))).status_code == 404
    assert (await sensor.post(reading, capture_session_id=str(uuid4()))).status_code == 404
    assert (await sensor.post(reading, project_id=str(uuid4()))).status_code == 404


async def test_without_a_token_nothing_is_taken(hub: Hub, sensor: Sensor) -> None:
    async with hub.client() as client:
        answer = await client.post("/api/v1/telemetry", json={"sensor_id": sensor.id, "readings": []})
    assert answer.status_code == 401


async def test_a_decommissioned_sensor_is_refused(hub: Hub, sensor: Sensor) -> None:
    async with transaction(hub.services.pool) as connection:
        await connection.execute("update sensors set status = 'decommissioned'")
    assert (await sensor.post([{"timestamp": NOW, "raw_value": 1}])).status_code == 409


async def test_the_hub_converts_what_comes_raw(hub: Hub, sensor: Sensor) -> None:
    client = await hub.signed_in()
    path = f"/api/v1/sensors/{sensor.id}/conversion-profiles"
    made = await client.post(path, json={"version": "1", "kind": "linear", "payload": {"a": 2.0, "b": 1.0}})
    assert (await client.post(f"{path}/{made.json()['id']}/publish", json={})).status_code == 200
    await client.aclose()
    await sensor.post([{"timestamp": NOW, "raw_value": 3}])
    (row,) = await _rows(hub)
    assert (row["physical"], row["status"]) == (7.0, 1)
