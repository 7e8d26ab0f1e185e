"""Reading with `as_of_profile`: query, aggregated and export show what another profile would have made of readings."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.hub.recalculation.test_tasks import draft, physical, published, recalculated
from tests.hub.sessions.conftest import Lab, lab

__all__ = ["lab"]

NOON = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(hours=2)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


async def aggregated(lab: Lab, **parameters: Any) -> list[dict[str, Any]]:
    answer = await lab.owner.get("/api/v1/telemetry/aggregated", params=parameters)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["buckets"]
    return found


async def test_query_aggregated_and_export_agree_with_a_recalculation(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    await published(lab, oven, "1", 2.0)
    await lab.post(oven, {at(seconds): seconds for seconds in range(0, 300, 10)})
    second = await published(lab, oven, "2", 10.0)
    wanted: dict[str, Any] = {"sensor_id": oven, "as_of_profile": second}
    seen = await lab.points(**wanted)
    buckets = {interval: await aggregated(lab, **wanted, bucket_interval=interval) for interval in ("1m", "25s")}
    sheet = (await lab.owner.get("/api/v1/telemetry/export", params=wanted)).text
    exported = [float(row["physical_value"]) for row in csv.DictReader(sheet.splitlines())]
    assert [one["physical_value"] for one in seen] == exported == [10.0 * seconds for seconds in range(0, 300, 10)]
    assert {one["conversion_profile_id"] for one in seen} == {second}
    assert await physical(lab, oven) == [2.0 * seconds for seconds in range(0, 300, 10)]
    await recalculated(lab, oven, second)
    assert await lab.points(sensor_id=oven) == seen
    for interval, found in buckets.items():
        assert await aggregated(lab, sensor_id=oven, bucket_interval=interval) == found


async def test_a_draft_shows_its_sensor_differently_and_no_other(lab: Lab) -> None:
    oven, kiln = await lab.sensor("oven"), await lab.sensor("kiln")
    drafted = await draft(lab, oven, "1", 10.0)
    for sensor in (oven, kiln):
        await lab.post(sensor, {at(0): 1})
    wanted: dict[str, Any] = {"sensor_id": [oven, kiln], "as_of_profile": drafted}
    by_sensor = {one["sensor_id"]: one for one in await lab.points(**wanted)}
    assert by_sensor[oven]["physical_value"] == 10
    assert by_sensor[kiln]["physical_value"] is None
    assert {one["sensor_id"]: one["avg_physical"] for one in await aggregated(lab, **wanted)} == {oven: 10, kiln: None}


async def test_a_session_is_seen_with_another_profile(lab: Lab) -> None:
    oven, run = await lab.sensor("oven"), await lab.run()
    drafted = await draft(lab, oven, "1", 10.0)
    session = await lab.started(run, started_at=at(0).isoformat())
    await lab.post(oven, {at(-1): 1, at(1): 2})
    wanted = {"capture_session_id": session["id"], "as_of_profile": drafted}
    assert [one["physical_value"] for one in await lab.points(**wanted)] == [20]
    assert [one["avg_physical"] for one in await aggregated(lab, **wanted)] == [20]


async def test_a_profile_of_a_sensor_that_is_not_asked_about_is_not_found(lab: Lab) -> None:
    oven, kiln = await lab.sensor("oven"), await lab.sensor("kiln")
    drafted = await draft(lab, oven, "1", 10.0)
    stranger = await lab.hub.member("sam")
    for client, sensor in ((lab.owner, kiln), (stranger, None)):
        parameters = {"as_of_profile": drafted, **({"sensor_id": sensor} if sensor else {})}
        for what in ("query", "aggregated", "export"):
            answer = await client.get(f"/api/v1/telemetry/{what}", params=parameters)
            assert answer.status_code == 404, (what, answer.text)
