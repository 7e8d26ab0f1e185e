"""Stream, query and aggregated over HTTP."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import orjson
import pytest

from hub.database.pool import acquire
from hub.telemetry import stream as streams
from hub.telemetry.live import LiveReading
from hub.telemetry.scope import Scope
from hub.telemetry.windows import Windows
from shared.readings import Reason, Status, status_byte
from tests.fixtures.readings import Bench, Reading
from tests.hub.conftest import Hub

QUERY, AGGREGATED, STREAM = "/api/v1/telemetry/query", "/api/v1/telemetry/aggregated", "/api/v1/telemetry/stream"


@dataclass
class Lab:
    """A hub with a sensor that has readings."""

    hub: Hub
    client: httpx.AsyncClient
    bench: Bench
    sensor: dict[str, Any]
    token: str
    series: int
    ids: list[int]

    @property
    def sensor_id(self) -> str:
        return str(self.sensor["id"])

    async def events(self, client: httpx.AsyncClient | None = None, **parameters: Any) -> list[dict[str, Any]]:
        """All events of a stream that ends by itself."""
        answer = await (client or self.client).get(STREAM, params=parameters, timeout=20)
        assert answer.status_code == 200, answer.text
        return parse_events(answer.text)

    async def opened(self) -> None:
        """Return as soon as a stream listens."""
        async with asyncio.timeout(30):
            while not self.hub.services.tail.subscribers:
                await asyncio.sleep(0.01)


def parse_events(text: str) -> list[dict[str, Any]]:
    events = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and not line.startswith(":"))
        if "data" in fields:
            events.append({**fields, "data": orjson.loads(fields["data"])})
    return events


@pytest.fixture
async def lab(hub: Hub) -> Lab:
    client = await hub.signed_in()
    project = (await client.post("/projects", json={"name": "Lab"})).json()["id"]
    profile = {"version": "1", "kind": "linear", "payload": {"a": 2, "b": 0}}
    body = {"project_id": project, "name": "oven", "conversion_profile": profile}
    created = (await client.post("/api/v1/sensors", json=body)).json()
    bench = Bench(hub.services.storage, project_id=UUID(project))
    series = await bench.series(UUID(created["sensor"]["id"]))
    async with acquire(hub.services.pool) as connection:
        ref = await connection.fetchval("select ref from conversion_profiles")
    converted, failed = int(Status.CONVERTED), status_byte(Status.CONVERSION_FAILED, Reason.OUT_OF_RANGE)
    good = [Reading(0, 1.0, 2.0, converted, ref), Reading(1, 2.0, 4.0, converted, ref)]
    ids = await bench.store(series, [*good, Reading(2, 9.0, None, failed)])
    ids += await bench.store(series, [Reading(-60, 0.5, 1.0, converted, ref)])
    return Lab(hub, client, bench, created["sensor"], created["token"], series, ids)


async def test_a_query_answers_the_readings_with_the_contracts_fields(lab: Lab) -> None:
    answer = (await lab.client.get(QUERY, params={"sensor_id": lab.sensor_id})).json()
    assert answer["next_since_id"] is None
    first, _, failed, late = answer["points"]
    ingested = datetime.fromisoformat(first.pop("ingested_at"))
    assert abs((datetime.now(UTC) - ingested).total_seconds()) < 120
    assert first == {
        "id": lab.ids[0],
        "project_id": lab.sensor["project_id"],
        "sensor_id": lab.sensor_id,
        "signal": "value",
        "timestamp": "2026-03-02T12:00:00.000000Z",
        "raw_value": 1.0,
        "physical_value": 2.0,
        "conversion_status": "converted",
        "conversion_profile_id": lab.sensor["active_profile_id"],
        "run_id": None,
        "capture_session_id": None,
        "meta": {},
    }
    assert (failed["physical_value"], failed["meta"]) == (None, {"__system": {"reason": "out_of_range"}})
    assert late["timestamp"] == "2026-03-02T11:59:00.000000Z"


async def test_pages_follow_one_another_up_and_down(lab: Lab) -> None:
    for order, expected in (("asc", lab.ids), ("desc", lab.ids[::-1])):
        seen: list[int] = []
        since: int | None = None
        while True:
            parameters = {"limit": 3, "order": order} | ({} if since is None else {"since_id": since})
            page = (await lab.client.get(QUERY, params=parameters)).json()
            seen += [point["id"] for point in page["points"]]
            since = page["next_since_id"]
            if since is None:
                break
        assert seen == expected


async def test_filters_by_time_signal_and_project(lab: Lab) -> None:
    async def ids(**parameters: Any) -> list[int]:
        return [point["id"] for point in (await lab.client.get(QUERY, params=parameters)).json()["points"]]

    assert await ids(time_from="2026-03-02T12:00:01Z") == lab.ids[1:3]
    assert await ids(time_to="2026-03-02T12:00:01Z") == [*lab.ids[:2], lab.ids[3]]
    assert await ids(time_from="2026-03-02T13:00:01 01:00", time_to="2026-03-02T12:00:01") == lab.ids[1:2]
    assert await ids(signal="humidity") == []
    assert await ids(project_id=lab.sensor["project_id"]) == lab.ids


async def test_queries_that_make_no_sense_are_refused(lab: Lab) -> None:
    refused: list[tuple[dict[str, Any], int]] = [
        ({"sensor_id": str(uuid4())}, 404),
        ({"project_id": str(uuid4())}, 404),
        ({"run_id": str(uuid4())}, 404),
        ({"capture_session_id": str(uuid4())}, 404),
        ({"limit": 20_001}, 422),
        ({"order": "sideways"}, 422),
        ({"time_from": "yesterday"}, 422),
        ({"since_id": -1}, 422),
        ({"sensor_id": [str(uuid4())] * 51}, 422),
    ]
    for parameters, status in refused:
        answer = await lab.client.get(QUERY, params=parameters)
        assert answer.status_code == status, parameters
        assert answer.json()["error"]


async def test_outsiders_see_nothing(lab: Lab) -> None:
    outsider = await lab.hub.member("otto")
    assert (await outsider.get(QUERY)).json() == {"points": [], "next_since_id": None}
    for path in (QUERY, AGGREGATED, STREAM):
        assert (await outsider.get(path, params={"sensor_id": lab.sensor_id})).status_code == 404
        assert (await lab.hub.client().get(path)).status_code == 401


async def test_aggregates_of_minutes_leave_out_what_failed_but_count_it(lab: Lab) -> None:
    answer = (await lab.client.get(AGGREGATED, params={"sensor_id": lab.sensor_id})).json()
    assert answer["bucket_interval"] == "1m"
    assert answer["buckets"][1] == {
        "bucket": "2026-03-02T12:00:00Z",
        "sensor_id": lab.sensor_id,
        "signal": "value",
        "capture_session_id": None,
        "sample_count": 3,
        "avg_raw": 4.0,
        "min_raw": 1.0,
        "max_raw": 9.0,
        "avg_physical": 3.0,
        "min_physical": 2.0,
        "max_physical": 4.0,
    }


async def test_the_interval_can_be_chosen_within_reason(lab: Lab) -> None:
    async def interval(**parameters: Any) -> httpx.Response:
        return await lab.client.get(AGGREGATED, params=parameters)

    seconds = (await interval(bucket_interval="1s")).json()
    assert (seconds["bucket_interval"], len(seconds["buckets"])) == ("1s", 4)
    assert (await interval(bucket="5 minutes")).json()["bucket_interval"] == "5m"
    assert len((await interval(bucket="1s", limit=2)).json()["buckets"]) == 2
    assert (await interval(bucket="1s", bucket_interval="1s")).json()["bucket_interval"] == "1s"
    for wrong in ({"bucket": "soon"}, {"bucket_interval": ""}, {"bucket": "1s", "bucket_interval": "1m"}):
        assert (await interval(**wrong)).status_code == 422
    assert (await interval(time_from="2030-01-01T00:00:00Z")).json()["buckets"] == []


async def test_a_stream_resumes_behind_the_last_event(lab: Lab) -> None:
    first = await lab.events(since_id=0, max_events=2)
    assert [int(event["id"]) for event in first] == lab.ids[:2]
    assert all(event["event"] == "telemetry" for event in first)
    lab.client.headers["Last-Event-ID"] = first[-1]["id"]
    rest = await lab.events(since_id=0, idle_timeout_seconds=0.5)
    assert [event["data"]["id"] for event in rest] == lab.ids[2:]


async def test_a_stream_without_a_cursor_begins_now(lab: Lab) -> None:
    streaming = asyncio.create_task(lab.events(max_events=1))
    await lab.opened()
    (stored,) = await lab.bench.store(lab.series, [Reading(-3600)])
    (event,) = await streaming
    assert event["data"]["id"] == stored


async def test_a_stream_since_a_moment_breaks_ties_by_id(lab: Lab) -> None:
    at = Reading(1).time.isoformat()
    inclusive = await lab.events(since_ts=at, idle_timeout_seconds=0.5)
    assert [int(event["id"]) for event in inclusive] == lab.ids[1:3]
    behind = await lab.events(since_ts=at, since_id=lab.ids[1], idle_timeout_seconds=0.5)
    assert [int(event["id"]) for event in behind] == lab.ids[2:3]


async def test_a_sensors_token_streams_that_sensor_in_header_or_query(lab: Lab) -> None:
    sensor = lab.hub.client(Authorization=f"Bearer {lab.token}")
    assert len(await lab.events(sensor, since_id=0, max_events=4)) == 4
    assert len(await lab.events(lab.hub.client(), since_id=0, max_events=1, access_token=lab.token)) == 1
    assert (await sensor.get(STREAM, params={"sensor_id": str(uuid4())})).status_code == 404


async def test_a_stream_that_would_never_end_as_asked_is_refused_by_name(lab: Lab) -> None:
    wrong = [("idle_timeout_seconds", value) for value in ("inf", "nan", "0", "-1", "soon")]
    wrong += [("max_events", value) for value in ("0", "-1", "1.5", str(1 << 63))]
    wrong += [("since_id", value) for value in ("-1", str(1 << 53))]
    async with asyncio.timeout(60):
        for path in (STREAM, "/api/v1/events/stream"):
            for name, value in wrong:
                answer = await lab.client.get(path, params={name: value})
                assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, name), (path, value)


async def test_live_values_come_as_events_without_id(lab: Lab) -> None:
    lab.hub.services.live.offer([LiveReading(UUID(lab.sensor_id), "value", 1_772_452_800_000_000, 1.5, 3.0, 1, "K")])
    events = await lab.events(live=True, idle_timeout_seconds=0.5)
    assert [(event["event"], event.get("id")) for event in events] == [("live", None)]
    assert events[0]["data"] == {
        "sensor_id": lab.sensor_id,
        "signal": "value",
        "timestamp": "2026-03-02T12:00:00.000000Z",
        "raw_value": 1.5,
        "physical_value": 3.0,
        "conversion_status": "converted",
        "unit": "K",
        "meta": {},
    }


async def test_live_values_do_not_wait_for_the_database(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stuck(*_: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(streams, "RECHECK_S", 0.1)
    monkeypatch.setattr(Windows, "read", stuck)
    monkeypatch.setattr(Scope, "check_credentials", stuck)
    streaming = asyncio.create_task(lab.events(live=True, since_id=0, idle_timeout_seconds=2))
    await asyncio.sleep(0.5)
    live = lab.hub.services.live
    live.offer([LiveReading(UUID(lab.sensor_id), "value", 1_772_452_800_000_000, 1.5, 3.0, 1, "K")])
    assert [event["event"] for event in await streaming] == ["live"]


async def test_a_stream_says_what_proxies_must_know_and_keeps_talking(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.sse.HEARTBEAT_S", 0.1)
    answer = await lab.client.get(STREAM, params={"idle_timeout_seconds": 0.6})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.text.count(": heartbeat") >= 2


async def test_a_revoked_token_ends_the_stream_with_an_error(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "RECHECK_S", 0.1)
    sensor = lab.hub.client(Authorization=f"Bearer {lab.token}")
    streaming = asyncio.create_task(lab.events(sensor))
    await lab.opened()
    assert not streaming.done()
    await lab.client.post(f"/api/v1/sensors/{lab.sensor_id}/rotate-token")
    (event,) = await streaming
    assert (event["event"], event["data"]["status"]) == ("error", 401)


async def test_a_new_sensor_of_the_project_joins_the_stream(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "RECHECK_S", 0.1)
    streaming = asyncio.create_task(lab.events(project_id=lab.sensor["project_id"], max_events=1))
    await lab.opened()
    body = {"project_id": lab.sensor["project_id"], "name": "kiln"}
    kiln = (await lab.client.post("/api/v1/sensors", json=body)).json()
    series = await lab.bench.series(UUID(kiln["sensor"]["id"]))
    stored: list[int] = []
    while not streaming.done():  # it joins soon; what was stored before that is passed by
        stored += await lab.bench.store(series, [Reading(len(stored))])
        await asyncio.sleep(0.1)
    assert (await streaming)[0]["data"]["id"] in stored


async def test_a_cursor_from_before_a_restore_begins_now_instead_of_never(lab: Lab) -> None:
    streaming = asyncio.create_task(lab.events(since_id=1 << 50, max_events=1))
    await lab.opened()
    (stored,) = await lab.bench.store(lab.series, [Reading(77)])
    assert (await streaming)[0]["data"]["id"] == stored


async def test_streams_end_when_the_hub_stops(lab: Lab) -> None:
    streaming = asyncio.create_task(lab.events())
    await lab.opened()
    lab.hub.services.tail.stop()
    async with asyncio.timeout(30):
        assert await streaming == []
    assert (await lab.client.get(STREAM)).status_code == 503
