"""The filters that query, aggregated and export share mean the same to all three."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.hub.sessions.conftest import Lab, lab

__all__ = ["lab"]

ROOT = "/api/v1/telemetry"
NOON = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


async def asked(lab: Lab, what: str, **parameters: Any) -> dict[str, Any]:
    answer = await lab.owner.get(f"{ROOT}/{what}", params=parameters)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def exported(lab: Lab, **parameters: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await asked(lab, "export", format="json", **parameters))["points"]
    return found


async def buckets(lab: Lab, **parameters: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await asked(lab, "aggregated", **parameters))["buckets"]
    return found


async def two_sensors(lab: Lab) -> tuple[str, str]:
    """Each with a reading every 30 s, the second sensor's and the earliest of the first come last."""
    oven, scale = await lab.sensor("oven"), await lab.sensor("scale")
    await lab.post(oven, {at(30 * number): number for number in range(1, 8)})
    await lab.post(scale, {at(30 * number): 100 + number for number in range(8)})
    await lab.post(oven, {at(0): 0})
    return oven, scale


async def test_order_sorts_buckets_and_the_rows_of_each_series(lab: Lab) -> None:
    oven, scale = await two_sensors(lab)
    up, down = [await buckets(lab, order=order) for order in ("asc", "desc")]
    times = [one["bucket"] for one in up]
    assert (len(set(times)), times) == (4, sorted(times))
    assert [one["bucket"] for one in down] == sorted(times, reverse=True)
    assert sorted(map(str, up)) == sorted(map(str, down))
    assert (await buckets(lab, sensor_id=oven, order="desc", limit=2)) == [
        one for one in down if one["sensor_id"] == oven
    ][:2]
    by_second = await buckets(lab, sensor_id=scale, order="desc", limit=3, bucket_interval="1s")
    assert [one["avg_raw"] for one in by_second] == [107, 106, 105]
    rows = await exported(lab, order="desc")
    for sensor in (oven, scale):
        own = [one["timestamp"] for one in rows if one["sensor_id"] == sensor]
        assert (len(own), own) == (8, sorted(own, reverse=True))
    assert [one["raw_value"] for one in await exported(lab, sensor_id=oven)] == list(range(8))


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("by_session", [False, True])
async def test_all_begin_behind_the_same_id(lab: Lab, order: str, by_session: bool) -> None:
    await two_sensors(lab)
    more: dict[str, Any] = {"order": order}
    if by_session:
        session = await lab.started(await lab.run(), started_at=at(30).isoformat())
        await lab.owner.post(f"{lab.path(session)}/stop", json={"stopped_at": at(180).isoformat()})
        more["capture_session_id"] = session["id"]
    every = await lab.points(**more)
    assert len(every) == (10 if by_session else 16)
    for place in (0, 4, len(every) - 1):
        more["since_id"] = every[place]["id"]
        behind = every[place + 1 :]
        assert await lab.points(**more) == behind
        rows = await exported(lab, **more)
        assert sorted(one["id"] for one in rows) == sorted(one["id"] for one in behind)
        summed = await buckets(lab, **more)
        assert sum(one["sample_count"] for one in summed) == len(behind)
        of_seconds = await buckets(lab, bucket_interval="1s", **more)
        assert sorted(one["avg_raw"] for one in of_seconds) == sorted(one["raw_value"] for one in behind)


async def test_the_beginning_is_behind_no_id(lab: Lab) -> None:
    await two_sensors(lab)
    assert await buckets(lab, since_id=0) == await buckets(lab)
    assert await exported(lab, since_id=0) == await exported(lab)


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_files_of_some_rows_follow_one_another(lab: Lab, order: str) -> None:
    await two_sensors(lab)
    expected = [one["id"] for one in await lab.points(order=order)]
    seen: list[int] = []
    since: dict[str, int] = {}
    while rows := await exported(lab, order=order, limit=5, **since):
        ids = sorted((one["id"] for one in rows), reverse=order == "desc")
        seen += ids
        since = {"since_id": ids[-1]}
    assert seen == expected
    assert [len(await exported(lab, order=order, limit=limit)) for limit in (1, 15, 16, 17, 10**9)] == [
        1, 15, 16, 16, 16,
    ]  # fmt: skip


async def test_a_file_with_a_limit_is_a_table_too(lab: Lab) -> None:
    oven, _ = await two_sensors(lab)
    answer = await lab.owner.get(f"{ROOT}/export", params={"sensor_id": oven, "limit": 3, "order": "desc"})
    rows = list(csv.reader(io.StringIO(answer.text, newline="")))[1:]
    newest = await lab.points(sensor_id=oven, limit=3, order="desc")
    assert {int(row[0]) for row in rows} == {one["id"] for one in newest}


async def test_another_profile_shows_the_same_readings(lab: Lab) -> None:
    oven, _ = await two_sensors(lab)
    body = {"version": "2", "kind": "linear", "payload": {"a": 2, "b": 0}}
    made = await lab.owner.post(f"/api/v1/sensors/{oven}/conversion-profiles", json=body)
    every = await lab.points(sensor_id=oven)
    more = {"sensor_id": oven, "as_of_profile": made.json()["id"], "since_id": every[2]["id"], "order": "asc"}
    raw = sorted(one["raw_value"] for one in every[3:])
    assert sorted(one["physical_value"] for one in await exported(lab, **more)) == [2 * one for one in raw]
    of_seconds = await buckets(lab, bucket_interval="1s", **more)
    assert sorted(one["avg_physical"] for one in of_seconds) == [2 * one for one in raw]
    newest = await buckets(lab, **more | {"bucket_interval": "1s", "order": "desc", "since_id": every[-1]["id"]})
    assert [one["avg_physical"] for one in newest] == [14, 12, 10, 8, 6, 4, 2]


async def test_several_signals_may_be_named(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    rows = [{"timestamp": at(1).isoformat(), "raw_value": raw, "signal": name} for raw, name in enumerate("abc")]
    headers = {"Authorization": f"Bearer {lab.tokens[oven]}"}
    posted = await lab.owner.post("/api/v1/telemetry", json={"sensor_id": oven, "readings": rows}, headers=headers)
    assert posted.status_code == 202, posted.text
    for wanted in (["a"], ["a", "c"], ["c", "a", "c"], ["x", "b"], ["x"]):
        expected = sorted({"a", "b", "c"} & set(wanted))
        assert sorted(one["signal"] for one in await lab.points(signal=wanted)) == expected
        assert sorted(one["signal"] for one in await exported(lab, signal=wanted)) == expected
        assert sorted(one["signal"] for one in await buckets(lab, signal=wanted)) == expected
        aligned = await asked(lab, "aligned", signal=wanted, interval="1s")
        assert sorted(one["signal"] for one in aligned["columns"]) == expected


async def test_what_a_session_recorded_is_seen_with_it_wherever_its_sensor_is_now(lab: Lab) -> None:
    oven, scale = await two_sensors(lab)
    second = (await lab.owner.post("/projects", json={"name": "Second"})).json()["id"]
    assert (await lab.owner.post(f"/api/v1/sensors/{oven}/projects", json={"project_id": second})).status_code == 201
    vic = await lab.hub.member("vic")
    await lab.owner.post(f"/projects/{second}/members", json={"username": "vic", "role": "viewer"})
    made = (await lab.owner.post("/api/v1/experiments", json={"project_id": second, "name": "E"})).json()
    run = (await lab.owner.post(f"/api/v1/experiments/{made['id']}/runs", json={"name": "R"})).json()
    session = await lab.started(run["id"], started_at=at(0).isoformat())
    for is_shared in (True, False):
        if not is_shared:
            assert (await lab.owner.delete(f"/api/v1/sensors/{oven}/projects/{second}")).status_code == 204
        for named in ({}, {"sensor_id": oven}):
            seen = await vic.get(f"{ROOT}/query", params={"capture_session_id": session["id"], **named})
            assert len(seen.json()["points"]) == 8, seen.text
        other = await vic.get(f"{ROOT}/query", params={"capture_session_id": session["id"], "sensor_id": scale})
        alone = await vic.get(f"{ROOT}/query", params={"sensor_id": oven})
        assert (other.status_code, alone.status_code) == (404, 200 if is_shared else 404)
    mine = lab.hub.client(Authorization=f"Bearer {lab.tokens[scale]}")
    refused = await mine.get(f"{ROOT}/query", params={"capture_session_id": session["id"], "sensor_id": oven})
    assert refused.status_code == 404


async def test_a_time_that_ends_before_it_begins_is_refused(lab: Lab) -> None:
    for what in ("query", "aggregated", "export", "aligned"):
        grid = {"interval": "1s"} if what == "aligned" else {}
        within = {"time_from": at(1).isoformat(), "time_to": at(0).isoformat()}
        refused = await lab.owner.get(f"{ROOT}/{what}", params=within | grid)
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "time_from"), what
        moment = {"time_from": at(1).isoformat(), "time_to": at(1).isoformat()}
        assert (await lab.owner.get(f"{ROOT}/{what}", params=moment | grid)).status_code == 200, what


WRONG: list[dict[str, Any]] = [
    {"order": "sideways"},
    {"since_id": -1},
    {"since_id": 2**53},
    {"limit": 0},
    {"limit": -1},
    {"limit": 2**53},
]


async def test_what_no_filter_can_be_is_refused_by_name(lab: Lab) -> None:
    for what in ("query", "aggregated", "export"):
        for wrong in WRONG:
            refused = await lab.owner.get(f"{ROOT}/{what}", params=wrong)
            assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, next(iter(wrong))), wrong
