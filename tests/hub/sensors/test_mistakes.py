"""What went wrong with a sensor's readings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.hub.sessions.conftest import Lab, lab

__all__ = ["lab"]


async def test_what_was_set_aside_and_what_failed_is_listed_with_its_reason(lab: Lab) -> None:
    sensor = await lab.sensor("oven")
    profile = {"version": "1", "kind": "formula", "payload": {"expression": "sqrt(x)", "constants": {}}}
    path = f"/api/v1/sensors/{sensor}"
    made = (await lab.owner.post(f"{path}/conversion-profiles", json=profile)).json()
    assert (await lab.owner.post(f"{path}/conversion-profiles/{made['id']}/publish")).status_code == 200
    now = datetime.now(UTC)
    assert (await lab.owner.get(f"{path}/error-log")).json()["errors"] == []
    assert (await lab.post(sensor, {now - timedelta(minutes=1): -1.0, now: 4.0})).status_code == 202
    assert (await lab.post(sensor, {now: 5.0})).status_code == 202
    until = (now + timedelta(minutes=5)).isoformat()
    log = (await lab.owner.get(f"{path}/error-log", params={"time_to": until})).json()
    assert [(one["reason"], one["readings"], one["agent_id"]) for one in log["errors"]] == [
        ("conflicting_value", 1, None)
    ]
    assert [(one["signal"], one["reason"], one["readings"]) for one in log["failed_readings"]] == [
        ("value", "conversion_domain", 1)
    ]
    assert log["total"] == 1


async def test_no_more_than_a_week_is_looked_at(lab: Lab) -> None:
    sensor = await lab.sensor("oven")
    span = {"time_from": "2026-01-01T00:00:00Z", "time_to": "2026-01-09T00:00:00Z"}
    assert (await lab.owner.get(f"/api/v1/sensors/{sensor}/error-log", params=span)).status_code == 422
