"""No value that a sensor sends keeps anything from being summed up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hub.telemetry.aggregate import fold_dirty
from tests.hub.sessions.conftest import Lab, lab

__all__ = ["lab"]

ROOT = "/api/v1/telemetry"
NOON = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
LARGE, SMALL = 1.7e308, 5e-324
VALUES: dict[str, tuple[list[float], float | None]] = {
    "large": ([LARGE, LARGE, 1.0], None),
    "negative": ([-LARGE, -LARGE], None),
    "both": ([LARGE, -LARGE, LARGE], None),
    "small": ([SMALL, 0.0], 0.0),
    "plain": ([1.0, 2.0, 6.0], 3.0),
    "summable": ([1e289, 3e289], 2e289),
}


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


async def buckets(lab: Lab, sensor: str, **more: Any) -> list[dict[str, Any]]:
    answer = await lab.owner.get(f"{ROOT}/aggregated", params={"sensor_id": sensor, **more})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["buckets"]
    return found


def require(found: list[dict[str, Any]], name: str, kind: str = "raw") -> None:
    values, average = VALUES[name]
    (bucket,) = found
    shown = [bucket[one] for one in ("sample_count", f"avg_{kind}", f"min_{kind}", f"max_{kind}")]
    assert shown == [len(values), average, min(values), max(values)], name


async def test_sums_that_no_number_can_hold_leave_all_others_alone(lab: Lab) -> None:
    sensors = {name: await lab.sensor(name) for name in VALUES}
    for name, sensor in sensors.items():
        posted = await lab.post(sensor, {at(second): raw for second, raw in enumerate(VALUES[name][0])})
        assert posted.status_code == 202, posted.text
    for is_folded in (False, True):
        if is_folded:
            assert await fold_dirty(lab.hub.services.pool, datetime.now(UTC)) > 0
            assert await fold_dirty(lab.hub.services.pool, datetime.now(UTC)) == 0
        for name, sensor in sensors.items():
            require(await buckets(lab, sensor), name)
            require(await buckets(lab, sensor, bucket_interval="1h"), name)
            require(await buckets(lab, sensor, bucket_interval="30s"), name)
    profile = {"version": "1", "kind": "linear", "payload": {"a": 1, "b": 0}}
    for name, sensor in sensors.items():
        made = await lab.owner.post(f"/api/v1/sensors/{sensor}/conversion-profiles", json=profile)
        require(await buckets(lab, sensor, as_of_profile=made.json()["id"]), name, "physical")
        grid = {"interval": "1m", "value": "raw", "sensor_id": sensor}
        aligned = (await lab.owner.get(f"{ROOT}/aligned", params=grid)).json()
        assert [one["values"] for one in aligned["columns"]] == [[VALUES[name][1]]], name
