"""Signals of several sensors and runs on one grid of time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from hub.database.ids import uuid7
from hub.database.pool import acquire
from hub.telemetry import aligned
from hub.telemetry.aggregate import fold_dirty
from tests.hub.sessions.conftest import Lab, lab

__all__ = ["lab"]

ALIGNED = "/api/v1/telemetry/aligned"
BEGAN = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


async def table(client: httpx.AsyncClient, **asked: Any) -> dict[str, Any]:
    answer = await client.get(ALIGNED, params={"interval": "10s", "value": "raw", **asked})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert all(len(one["values"]) == len(found["times"] or found["offsets_s"] or []) for one in found["columns"])
    return found


def values(found: dict[str, Any], sensor: str) -> list[float | None]:
    (column,) = (one for one in found["columns"] if one["sensor_id"] == sensor)
    read: list[float | None] = column["values"]
    return read


async def test_sensors_share_a_grid_with_nulls_where_one_has_nothing(lab: Lab) -> None:
    oven, scale = await lab.sensor("oven"), await lab.sensor("scale")
    await lab.post(oven, {at(0): 1, at(5): 3, at(35): 9})
    await lab.post(scale, {at(12): 7})
    found = await table(lab.owner, sensor_id=[oven, scale])
    assert found["times"][0] == at(0).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert values(found, oven) == [2, None, None, 9]
    assert values(found, scale) == [None, 7, None, None]


async def test_a_grid_reaches_as_far_as_the_readings_also_when_their_minutes_are_summed_up(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    await lab.post(oven, {at(25): 1, at(34): 2})
    before = await table(lab.owner, sensor_id=oven)
    await fold_dirty(lab.hub.services.pool, datetime.now(UTC))
    assert values(before, oven) == [1, 2]
    assert await table(lab.owner, sensor_id=oven) == before


async def test_values_between_readings(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    await lab.post(oven, {at(0): 0, at(8): 8, at(16): 16, at(50): 50})
    nearest = await table(lab.owner, sensor_id=oven, method="nearest")
    assert values(nearest, oven) == [0, 8, 16, None, 50, 50]
    linear = await table(lab.owner, sensor_id=oven, method="linear")
    assert values(linear, oven) == [0, 10, None, None, None, 50]


async def test_runs_are_laid_over_one_another_by_start_or_annotation(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    runs = []
    for number, start_s in enumerate((3, 104)):
        run = await lab.run((oven,))
        await lab.post(oven, {at(start_s + 1): number, at(start_s + 21): 10 + number})
        body = {
            "status": "succeeded",
            "started_at": at(start_s).isoformat(),
            "stopped_at": at(start_s + 30).isoformat(),
        }
        await lab.started(run, **body)
        async with acquire(lab.hub.services.pool) as connection:
            await connection.execute("update runs set started_at = $2 where id = $1", UUID(run), at(start_s))
            await connection.execute(
                "insert into annotations (id, run_id, timestamp, text, kind) values ($1, $2, $3, 'on', 'heat')",
                uuid7(),
                UUID(run),
                at(start_s + 20),
            )
        runs.append(run)
    by_start = await table(lab.owner, run_id=runs, align="started_at")
    assert by_start["offsets_s"] == [0, 10, 20]
    assert [(one["run_id"], one["values"]) for one in by_start["columns"]] == [
        (runs[0], [0, None, 10]),
        (runs[1], [1, None, 11]),
    ]
    by_heat = await table(lab.owner, run_id=runs, align="annotation:heat")
    assert by_heat["offsets_s"] == [-20, -10, 0]
    refused = await lab.owner.get(ALIGNED, params={"interval": "1s", "run_id": runs, "align": "annotation:cold"})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "align")


async def test_a_session_is_put_on_a_grid_of_its_own(lab: Lab) -> None:
    oven, run = await lab.sensor("oven"), await lab.run()
    await lab.post(oven, {at(second): second for second in (0, 10, 20, 30)})
    session = await lab.started(run, started_at=at(10).isoformat())
    await lab.owner.post(f"{lab.path(session)}/stop", json={"stopped_at": at(30).isoformat()})
    for more in ({}, {"run_id": run}, {"run_id": run, "sensor_id": oven}):
        found = await table(lab.owner, capture_session_id=session["id"], **more)
        assert values(found, oven) == [10, 20]
    elsewhere = {"interval": "10s", "capture_session_id": session["id"], "run_id": await lab.run()}
    assert (await lab.owner.get(ALIGNED, params=elsewhere)).status_code == 404


async def test_what_is_asked_for_is_bounded_and_checked(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    oven = await lab.sensor("oven")
    await lab.post(oven, {at(0): 0, at(100): 1})
    monkeypatch.setattr(aligned, "CELLS_MAX", 10)
    for asked, field in (
        ({"interval": "10s"}, "interval"),
        ({"interval": "soon"}, "interval"),
        ({}, "interval"),
        ({"interval": "1m", "align": "started_at"}, "align"),
        ({"interval": "1m", "align": "full moon"}, "align"),
        ({"interval": "1m", "method": "cubic"}, "method"),
    ):
        refused = await lab.owner.get(ALIGNED, params={"sensor_id": oven, **asked})
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, field), asked
    eve = await lab.hub.member("eve")
    assert (await eve.get(ALIGNED, params={"interval": "1m", "sensor_id": oven})).status_code == 404


async def test_hidden_raw_values_are_nulls(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    await lab.post(oven, {at(0): 5})
    async with acquire(lab.hub.services.pool) as connection:
        await connection.execute(
            "insert into project_policies (project_id, viewers_see_raw) values ($1, false)", UUID(lab.project)
        )
    viewer = await lab.member("vera", "viewer")
    for method in ("mean", "nearest", "linear"):
        assert values(await table(viewer, sensor_id=oven, method=method), oven) == [None]
        assert values(await table(lab.owner, sensor_id=oven, method=method), oven) == [5]
