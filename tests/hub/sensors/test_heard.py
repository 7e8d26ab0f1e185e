"""When sensors were heard."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from hub.database.pool import acquire
from hub.ingest import heartbeat
from hub.sensors import heard
from tests.hub.sessions.conftest import Lab, lab

__all__ = ["lab"]

START = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=2)
"""Upkeep runs beside the tests, and forgets what is older than `heard.KEPT`."""


async def test_what_is_stored_is_heard_in_its_minute(lab: Lab) -> None:
    sensor = await lab.sensor("oven")
    path = f"/api/v1/sensors/{sensor}/heartbeat-history"
    assert (await lab.owner.get(path)).json()["buckets"] == []
    now = datetime.now(UTC)
    assert (await lab.post(sensor, {now - timedelta(days=3): 1.0})).status_code == 202
    async with acquire(lab.hub.services.pool) as connection:
        series = await connection.fetchval("select id from series where sensor_id = $1", UUID(sensor))
    for _ in range(2):
        await heartbeat.write(lab.hub.services.pool, [series])
    answer = (await lab.owner.get(path)).json()
    assert sum(one["minutes"] for one in answer["buckets"]) in (1, 2)  # a minute may have ended in between
    assert abs(datetime.fromisoformat(answer["buckets"][0]["first"]) - now) < timedelta(minutes=3)
    assert answer["last_heartbeat"] is not None


async def test_a_sensor_is_online_as_soon_as_its_post_is_accepted(lab: Lab) -> None:
    sensors = [await lab.sensor(name) for name in ("oven", "kiln", "scale")]
    now = datetime.now(UTC)

    async def shown() -> dict[str, str]:
        listed = (await lab.owner.get("/api/v1/sensors")).json()["sensors"]
        for one in listed:
            alone = (await lab.owner.get(f"/api/v1/sensors/{one['id']}")).json()
            assert alone["connection_status"] == one["connection_status"]
            assert (one["last_heartbeat"] is None) == (one["connection_status"] == "offline")
        summary = (await lab.owner.get("/api/v1/sensors/status-summary")).json()
        statuses = {one["name"]: one["connection_status"] for one in listed}
        assert summary["online"] == list(statuses.values()).count("online")
        return statuses

    assert await shown() == {"kiln": "offline", "oven": "offline", "scale": "offline"}
    assert (await lab.post(sensors[0], {now - timedelta(days=3): 1.0})).status_code == 202
    assert await shown() == {"kiln": "offline", "oven": "online", "scale": "offline"}
    assert (await lab.post(sensors[1], {now: 1.0})).status_code == 202
    assert (await shown())["kiln"] == "online"
    history = (await lab.owner.get(f"/api/v1/sensors/{sensors[1]}/heartbeat-history")).json()
    assert history["last_heartbeat"] is not None


async def test_minutes_are_counted_into_buckets_and_forgotten_in_time(lab: Lab) -> None:
    sensor = await lab.sensor("oven")
    minutes = [START + timedelta(minutes=n) for n in (0, 1, 59, 61, 600)]
    async with acquire(lab.hub.services.pool) as connection:
        await connection.executemany("insert into sensor_minutes values ($1, $2)", [(UUID(sensor), m) for m in minutes])
    span = {"time_from": START.isoformat(), "time_to": (START + timedelta(hours=5)).isoformat()}
    path = f"/api/v1/sensors/{sensor}/heartbeat-history"
    answer = (await lab.owner.get(path, params={**span, "bucket_interval": "1h"})).json()
    assert [(one["bucket"][11:16], one["minutes"]) for one in answer["buckets"]] == [("12:00", 3), ("13:00", 1)]
    await heard.forget(lab.hub.services.pool, START + heard.KEPT + timedelta(minutes=30))
    answer = (await lab.owner.get(path, params={**span, "bucket_interval": "1h"})).json()
    assert [one["minutes"] for one in answer["buckets"]] == [1, 1]


@pytest.mark.parametrize(
    "query",
    [
        {"bucket_interval": "1s"},
        {"bucket_interval": "soon"},
        {"bucket_interval": "1m", "time_from": "2020-01-01T00:00:00Z"},
        {"time_from": "2026-03-02T12:00:00Z", "time_to": "2026-03-02T11:00:00Z"},
        {"time_to": "0001-01-01T00:00:00Z"},
    ],
)
async def test_spans_that_make_no_sense_are_refused(lab: Lab, query: dict[str, str]) -> None:
    sensor = await lab.sensor("oven")
    assert (await lab.owner.get(f"/api/v1/sensors/{sensor}/heartbeat-history", params=query)).status_code == 422
