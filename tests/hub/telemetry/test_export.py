"""Readings as a file: what a query gives, without a limit, and visibly broken where it is not whole."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from hub.database.pool import acquire
from hub.telemetry import export
from tests.fixtures.readings import Bench, Reading
from tests.hub.export.test_download import listening
from tests.hub.sessions.conftest import Lab, lab

__all__ = ["lab"]

EXPORT, QUERY = "/api/v1/telemetry/export", "/api/v1/telemetry/query"
NOON = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


async def lines(client: httpx.AsyncClient, **parameters: Any) -> list[dict[str, str]]:
    """Lines of the CSV file, by the names of the columns without their units."""
    answer = await client.get(EXPORT, params=parameters)
    assert answer.status_code == 200, answer.text
    head, *rows = csv.reader(io.StringIO(answer.text, newline=""))
    names = [title.split(" [")[0] for title in head]
    return [dict(zip(names, row, strict=True)) for row in rows]


async def points(client: httpx.AsyncClient, **parameters: Any) -> list[dict[str, Any]]:
    answer = await client.get(EXPORT, params={"format": "json", **parameters})
    assert answer.status_code == 200, answer.text
    read = answer.json()
    assert read["total"] == len(read["points"])
    found: list[dict[str, Any]] = read["points"]
    return found


async def test_a_file_has_what_a_query_gives(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "BATCH_ROWS", 3)
    oven, scale = await lab.sensor("oven"), await lab.sensor("scale")
    await lab.post(oven, {at(number): number for number in range(10)})
    await lab.post(scale, {at(number): -number for number in range(4)})
    await lab.post(oven, {at(-5): 0.1})
    queried = await lab.points(sensor_id=[oven, scale])
    exported = await points(lab.owner, sensor_id=[oven, scale])
    plain = [{name: one[name] for name in one.keys() - {"unit", "raw_unit"}} for one in exported]
    assert sorted(plain, key=lambda one: one["id"]) == queried
    by_series = [(one["sensor_id"], one["timestamp"]) for one in exported]
    assert by_series == sorted(by_series)
    read = await lines(lab.owner, sensor_id=[oven, scale])
    assert [(one["id"], float(one["raw_value"]), one["timestamp"]) for one in read] == [
        (str(one["id"]), one["raw_value"], one["timestamp"]) for one in exported
    ]


async def test_titles_have_the_units_that_all_signals_share(lab: Lab) -> None:
    oven, scale = await lab.sensor("oven"), await lab.sensor("scale")
    for sensor, unit in ((oven, "°C"), (scale, "g")):
        changed = await lab.owner.patch(f"/api/v1/sensors/{sensor}", json={"display_unit": unit, "input_unit": "mV"})
        assert changed.status_code == 200, changed.text
        await lab.post(sensor, {at(1): 1})
    alone = (await lab.owner.get(EXPORT, params={"sensor_id": oven})).text.split("\r\n")[0]
    assert "physical_value [°C]" in alone.split(",")
    both = (await lab.owner.get(EXPORT, params={"sensor_id": [oven, scale]})).text.split("\r\n")[0].split(",")
    assert ("physical_value" in both, "raw_value [mV]" in both, "timestamp [UTC]" in both) == (True, True, True)
    assert {one["unit"] for one in await lines(lab.owner)} == {"°C", "g"}


async def test_a_session_s_file_has_what_counts_to_it(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    session = await lab.started(await lab.run(), started_at=at(0).isoformat())
    await lab.post(oven, {at(-1): 0, at(1): 1})
    await lab.owner.post(f"{lab.path(session)}/stop", json={"stopped_at": at(100).isoformat()})
    await lab.post(oven, {at(2): 2})
    asked = {"capture_session_id": session["id"]}
    assert [one["raw_value"] for one in await points(lab.owner, **asked)] == [1]
    late = await points(lab.owner, include_late=True, **asked)
    assert [(one["raw_value"], one["capture_session_id"]) for one in late] == [(1, session["id"]), (2, None)]
    assert [one["raw_value"] for one in await points(lab.owner, run_id=session["run_id"])] == [1]


async def test_viewers_get_no_raw_values_where_the_project_hides_them(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    await lab.post(oven, {at(1): 1})
    session = await lab.started(await lab.run(), started_at=at(0).isoformat())
    async with acquire(lab.hub.services.pool) as connection:
        await connection.execute(
            "insert into project_policies (project_id, viewers_see_raw) values ($1, false)", UUID(lab.project)
        )
    viewer = await lab.member("vera", "viewer")
    for asked in ({"sensor_id": oven}, {"capture_session_id": session["id"]}):
        assert [one["raw_value"] for one in await lines(viewer, **asked)] == [""]
        assert [one["raw_value"] for one in await points(viewer, **asked)] == [None]
        assert [one["raw_value"] for one in await points(lab.owner, **asked)] == [1]


async def test_no_cell_of_a_file_is_a_formula(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    await lab.owner.patch(f"/api/v1/sensors/{oven}", json={"display_unit": "=1+1"})
    row = {"timestamp": at(1).isoformat(), "raw_value": -1, "signal": "@SUM(1)"}
    await lab.owner.post(
        "/api/v1/telemetry",
        json={"sensor_id": oven, "readings": [row]},
        headers={"Authorization": f"Bearer {lab.tokens[oven]}"},
    )
    (line,) = await lines(lab.owner, sensor_id=oven)
    assert (line["signal"], line["unit"], line["raw_value"]) == ("'@SUM(1)", "'=1+1", "-1.0")


async def test_an_outsider_gets_an_error_and_no_file(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    session = await lab.started(await lab.run())
    eve = await lab.hub.member("eve")
    for asked in ({"sensor_id": oven}, {"capture_session_id": session["id"]}, {"run_id": session["run_id"]}):
        answer = await eve.get(EXPORT, params=asked)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
        assert "content-disposition" not in answer.headers
    assert await points(eve) == []
    refused = await lab.owner.get(EXPORT, params={"format": "xlsx"})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "format")


@pytest.mark.parametrize("kind", ["csv", "json"])
async def test_a_file_of_readings_that_breaks_off_is_seen_to(lab: Lab, kind: str) -> None:
    oven = await lab.sensor("oven")
    bench = Bench(lab.hub.services.storage, project_id=UUID(lab.project))
    series = await bench.series(UUID(oven))
    for first in range(0, 60_000, 10_000):
        await bench.store(series, [Reading(first + number, float(number), None, 0) for number in range(10_000)])
    received = bytearray()
    async with listening(lab.hub) as url, httpx.AsyncClient(base_url=url, timeout=30) as client:
        client.headers.update(lab.owner.headers)
        async with client.stream("GET", EXPORT, params={"format": kind, "sensor_id": oven}) as answer:
            assert answer.status_code == 200
            arriving = answer.aiter_raw()
            received += await anext(arriving)
            async with acquire(lab.hub.services.pool) as connection:
                broken = await connection.fetchval(
                    "select count(pg_terminate_backend(pid)) from pg_stat_activity "
                    "where datname = current_database() and xact_start is not null and pid <> pg_backend_pid()"
                )
            assert broken
            with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):  # noqa: PT012 - it breaks off midway
                async for part in arriving:
                    received += part
        if kind == "json":
            with pytest.raises(ValueError, match=r"line|char"):
                json.loads(received)
        assert len(await points(client, sensor_id=oven)) == 60_000
