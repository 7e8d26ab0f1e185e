"""Values that are no numbers, or none that float64 has, become failed readings; elsewhere they are refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.fixtures.websocket import connected
from tests.hub.sessions.conftest import Lab, lab

__all__ = ["lab"]

NOON = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)


def at(seconds: float) -> str:
    return (NOON + timedelta(seconds=seconds)).isoformat()


async def post(lab: Lab, sensor: str, text: str) -> httpx.Response:
    """A post of readings, or of what else stands in the body, as it is written here."""
    content = text if "readings" in text else f'{{"sensor_id": "{sensor}", "readings": [{text}]}}'
    headers = {"Authorization": f"Bearer {lab.tokens[sensor]}"}
    return await lab.owner.post("/api/v1/telemetry", content=content.replace("SENSOR", sensor), headers=headers)


def shown(point: dict[str, Any]) -> tuple[Any, ...]:
    """What a point says of its value."""
    reason = point["meta"].get("__system", {}).get("reason")
    return point["raw_value"], point["physical_value"], point["conversion_status"], reason


NUMBERS = [
    ("NaN", "not_a_number"),
    ("Infinity", "infinite"),
    ("-Infinity", "infinite"),
    ("1e999", "infinite"),
    ("-1E+400", "infinite"),
    ("1" + "0" * 400, "infinite"),
    ("-1" + "0" * 5000, "infinite"),
]


@pytest.mark.parametrize("has_profile", [False, True])
async def test_a_value_that_is_no_number_is_a_failed_reading_with_its_reason(lab: Lab, has_profile: bool) -> None:
    profile = {"conversion_profile": {"version": "1", "kind": "linear", "payload": {"a": 2, "b": 0}}}
    for number, reason in NUMBERS:
        sensor = await lab.sensor(f"oven {number[:10]}", **(profile if has_profile else {}))
        rows = [
            f'{{"timestamp": "{at(1)}", "raw_value": 1.5, "meta": {{"by": "hand"}}}}',
            f'{{"timestamp": "{at(2)}", "raw_value": {number}, "signal": "value"}}',
            f'{{"timestamp": "{at(3)}", "raw_value": 2, "physical_value": {number}}}',
            f'{{"timestamp": "{at(4)}", "raw_value": {number}, "physical_value": 3}}',
        ]
        for accepted in (4, 0):
            answer = await post(lab, sensor, ", ".join(rows))
            assert (answer.status_code, answer.json()) == (202, {"status": "accepted", "accepted": accepted})
        first, *others = await lab.points(sensor_id=sensor)
        assert first["meta"] == {"by": "hand"}
        assert [shown(one) for one in (first, *others)] == [
            (1.5, 3.0, "converted", None) if has_profile else (1.5, None, "raw_only", None),
            (None, None, "conversion_failed", reason),
            (2.0, None, "conversion_failed", reason),
            (None, 3.0, "client_provided", None),
        ]
        log = (await lab.owner.get(f"/api/v1/sensors/{sensor}/error-log")).json()
        assert [(one["reason"], one["readings"]) for one in log["failed_readings"]] == [(reason, 2)]
    aggregated = await lab.owner.get("/api/v1/telemetry/aggregated", params={"sensor_id": sensor})
    (bucket,) = aggregated.json()["buckets"]
    assert (bucket["sample_count"], bucket["min_raw"], bucket["max_raw"]) == (4, 1.5, 2.0)


async def test_another_value_in_the_place_of_none_is_set_aside(lab: Lab) -> None:
    sensor = await lab.sensor("oven")
    for raw in ("NaN", "1", "NaN"):
        answer = await post(lab, sensor, f'{{"timestamp": "{at(1)}", "raw_value": {raw}}}')
        assert answer.status_code == 202, answer.text
    assert [shown(one) for one in await lab.points()] == [(None, None, "conversion_failed", "not_a_number")]
    listed = (await lab.owner.get("/api/v1/set-aside", params={"project_id": lab.project})).json()["set_aside"]
    assert [(one["reason"], one["readings"]) for one in listed] == [("conflicting_value", 1)]


READING = f'{{"timestamp": "{at(1)}", "raw_value": NaN'


REFUSED: list[tuple[str, int, str | None]] = [
    (READING + ', "meta": {"a": [{"b": NaN}]}}', 422, "readings[0].meta"),
    (READING + ', "meta": {"a": 1e999}}', 422, "readings[0].meta"),
    (f'{{"timestamp": "{at(1)}", "raw_value": 1, "meta": {{"a": -Infinity}}}}', 422, "readings[0].meta"),
    ('{"sensor_id": "SENSOR", "meta": {"a": NaN}, "readings": [' + READING + "}]}", 422, "meta"),
    ('{"sensor_id": NaN, "readings": [' + READING + "}]}", 422, "sensor_id"),
    ('{"timestamp": NaN, "raw_value": 1}', 422, "readings[0].timestamp"),
    ('{"timestamp": 1e999, "raw_value": 1}', 422, "readings[0].timestamp"),
    (READING + ', "signal": NaN}', 422, "readings[0].signal"),
    (READING + ', "signal": ""}', 422, "readings[0].signal"),
    (READING + ', "colour": 1}', 422, "readings[0]"),
    (READING + ', "raw_value": 1}', 422, "raw_value"),
    (READING + ', "meta": {"a": 1, "a": 2}}', 422, "a"),
    (f'{{"timestamp": "{at(1)}", "raw_value": "NaN"}}', 422, "readings[0].raw_value"),
    (f'{{"timestamp": "{at(1)}", "raw_value": nan}}', 400, None),
    (f'{{"timestamp": "{at(1)}", "raw_value": +Infinity}}', 400, None),
    (READING + ', "signal": "\\ud800"}', 400, None),
    (READING + ", ", 400, None),
    (READING + ', "meta": ' + "[" * 100_000 + "}", 400, None),
]


async def test_elsewhere_such_numbers_are_refused_and_all_else_is_as_strict(lab: Lab) -> None:
    sensor = await lab.sensor("oven")
    for text, status, field in REFUSED:
        answer = await post(lab, sensor, text)
        assert answer.status_code == status, (text[:100], answer.text)
        if field is not None:
            assert answer.json()["errors"][0]["field"] == field, text[:100]
    assert await lab.points() == []


async def test_numbers_in_meta_stay_what_they_are(lab: Lab) -> None:
    sensor = await lab.sensor("oven")
    meta = {"small": -(1 << 63), "large": 1 << 62, "beyond": 1e300, "text": "NaN: \u00e9"}
    text = READING + f', "meta": {json.dumps(meta)}}}'
    assert (await post(lab, sensor, text)).status_code == 202
    (point,) = await lab.points()
    assert {name: value for name, value in point["meta"].items() if name != "__system"} == meta


async def test_so_do_those_over_websocket_in_both_forms(lab: Lab) -> None:
    sensor = await lab.sensor("oven")
    now_us = int(NOON.timestamp()) * 1_000_000
    times = [now_us + second * 1_000_000 for second in range(10, 14)]
    said = [
        {"type": "open", "stream": "s"},
        {
            "type": "readings",
            "seq": 1,
            "body": {"sensor_id": sensor, "readings": [{"timestamp": at(1), "raw_value": float("nan")}]},
        },
        {
            "type": "readings",
            "seq": 2,
            "columns": {
                "timestamp_us": times,
                "raw_value": [1.0, float("inf"), 2.0, 3.0],
                "physical_value": [None, None, float("nan"), 4.0],
            },
        },
        {"type": "readings", "seq": 3, "columns": {"timestamp_us": [1], "raw_value": [1], "meta": {"a": float("nan")}}},
    ]
    path = "/api/v1/telemetry/ws"
    async with connected(lab.hub.app, path, token=lab.tokens[sensor]) as client:
        heard = []
        for message in said:
            await client.say(json.dumps(message))
            heard.append(await client.hear())
        await client.say(
            f'{{"type": "readings", "seq": 4, "columns": {{"timestamp_us": [{now_us}], "raw_value": [1e999]}}}}'
        )
        heard.append(await client.hear())
        await client.say('{"type": "readings", "seq": NaN, "columns": {}}')
        heard.append(await client.hear())
    assert [one["type"] for one in heard] == ["ready", "ack", "ack", "refused", "ack", "error"]
    assert [one["stored"] for one in heard if one["type"] == "ack"] == [1, 4, 1]
    assert heard[3]["problem"]["errors"][0]["field"] == "meta"
    by_time = sorted(await lab.points(), key=lambda one: str(one["timestamp"]))
    assert [shown(one) for one in by_time] == [
        (None, None, "conversion_failed", "infinite"),
        (None, None, "conversion_failed", "not_a_number"),
        (1.0, None, "raw_only", None),
        (None, None, "conversion_failed", "infinite"),
        (2.0, None, "conversion_failed", "not_a_number"),
        (3.0, 4.0, "client_provided", None),
    ]
