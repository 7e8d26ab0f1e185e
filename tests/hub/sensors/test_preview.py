"""Previews over HTTP: what a profile would make of values and of readings, without writing any."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.hub.recalculation.test_tasks import draft, path, physical, published
from tests.hub.sessions.conftest import Lab, lab

__all__ = ["lab"]

NOON = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(hours=2)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


async def preview(lab: Lab, sensor: str, profile: str, client: httpx.AsyncClient | None = None, **body: Any) -> Any:
    answer = await (client or lab.owner).post(f"{path(sensor)}/{profile}/preview", json=body or None)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_draft_is_tried_on_values(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    made = {"kind": "formula", "payload": {"expression": "sqrt(x)"}}
    found = await preview(lab, oven, await draft(lab, oven, "1", 1.0, **made), values=[4, 9, -1])
    assert found["raw_value"] == [4, 9, -1]
    assert found["physical_value"] == [2, 3, None]
    assert found["conversion_status"] == ["converted", "converted", "conversion_failed"]
    assert found["reason"] == [None, None, "conversion_domain"]


async def test_a_draft_is_tried_on_the_latest_readings_beside_what_they_are(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    await published(lab, oven, "1", 2.0)
    await lab.post(oven, {at(0): 1, at(1): 2, at(2): 3})
    drafted = await draft(lab, oven, "2", 10.0)
    found = await preview(lab, oven, drafted, limit=2)
    assert found["raw_value"] == [2, 3]
    assert found["physical_value"] == [20, 30]
    assert found["current_physical_value"] == [4, 6]
    assert found["signal"] == ["value", "value"]
    assert found["changed"] == 2
    assert datetime.fromisoformat(found["timestamp"][0]) == at(1)
    assert await physical(lab, oven) == [2, 4, 6]
    ranged = await preview(lab, oven, drafted, time_from=at(0).isoformat(), time_to=at(1).isoformat())
    assert ranged["raw_value"] == [1, 2]
    assert (await preview(lab, oven, drafted, signal="other"))["raw_value"] == []


async def test_what_a_client_provided_stays_in_a_preview(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    row = {"timestamp": at(0).isoformat(), "raw_value": 1.0, "physical_value": 99.0}
    headers = {"Authorization": f"Bearer {lab.tokens[oven]}"}
    await lab.owner.post("/api/v1/telemetry", json={"sensor_id": oven, "readings": [row]}, headers=headers)
    found = await preview(lab, oven, await draft(lab, oven, "1", 10.0))
    assert (found["physical_value"], found["changed"]) == ([99], 0)


async def test_raw_values_of_readings_are_hidden_from_viewers_where_the_project_says_so(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    profile = await draft(lab, oven, "1", 10.0)
    await lab.post(oven, {at(0): 1})
    viewer = await lab.member("vic", "viewer")
    assert (await preview(lab, oven, profile, viewer))["raw_value"] == [1]
    await lab.owner.put(f"/projects/{lab.project}/policies", json={"viewers_see_raw": False})
    assert (await preview(lab, oven, profile, viewer))["raw_value"] == [None]
    assert (await preview(lab, oven, profile))["raw_value"] == [1]


@pytest.mark.parametrize(
    "body",
    [
        {"values": []},
        {"values": ["x"]},
        {"values": [1], "limit": 1},
        {"limit": 0},
        {"limit": 100_001},
        {"signal": "\0"},
        {"other": 1},
        {"values": [True]},
        {"values": ["1"]},
        {"limit": True},
        {"time_from": at(2).isoformat(), "time_to": at(1).isoformat()},
        {"sensor_id": "0190e2b4-0000-7000-8000-000000000000"},
        {"project_id": "0190e2b4-0000-7000-8000-000000000000"},
    ],
)
async def test_what_does_not_fit_is_refused(lab: Lab, body: dict[str, Any]) -> None:
    oven = await lab.sensor("oven")
    profile = await draft(lab, oven, "1", 10.0)
    answer = await lab.owner.post(f"{path(oven)}/{profile}/preview", json=body)
    assert answer.status_code == 422


async def test_a_preview_may_repeat_where_it_is_and_leave_out_by_null(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    profile = await draft(lab, oven, "1", 10.0)
    places: dict[str, Any] = {"sensor_id": oven, "project_id": lab.project}
    assert (await preview(lab, oven, profile, values=[1, 2.5], limit=None, **places))["physical_value"] == [10, 25]
