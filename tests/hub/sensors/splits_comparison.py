"""What a hub shows of converted readings, beside what the model says."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from typing import Any, TypeAlias

from tests.hub.sensors.splits_model import Profile, Reading
from tests.hub.sensors.splits_trial import SECOND_US, SENSORS, Trial
from tests.hub.sessions.shown import us

INTERVALS = {"10s": 10, "1m": 60, "2m": 120}

Row: TypeAlias = tuple[str, int, float | None, str | None]
"""Sensor, time, physical value, and the profile that made it."""


async def require_agreement(trial: Trial) -> None:
    """Each reading has the profile that the model says, wherever the hub shows it, and so has what is made of it."""
    model = trial.model
    await _require_same(trial, model.readings, project_id=trial.lab.project)
    for session_id in model.sessions:
        await _require_same(trial, model.members(session_id), capture_session_id=session_id, include_late=True)
        await _require_certified(trial, session_id)
    for profile in trial.profiles:
        await _require_as_of(trial, profile)


async def _require_same(trial: Trial, readings: Iterable[Reading], **asked: Any) -> None:
    readings = list(readings)
    rows = sorted(_row(one) for one in readings)
    assert sorted(await _queried(trial, **asked)) == rows
    for kind in ("csv", "json"):
        assert sorted(await _exported(trial, kind, **asked)) == rows
    values = [(one.sensor, one.at_us, one.physical) for one in readings]
    for interval in INTERVALS:
        await _require_buckets(trial, values, interval, **asked)


async def _require_as_of(trial: Trial, profile: Profile) -> None:
    """With another profile, its sensor's readings are what that one makes of them."""
    asked = {"sensor_id": trial.ids[profile.sensor], "as_of_profile": profile.id}
    own = [one for one in trial.model.readings if one.sensor == profile.sensor]
    values = [(one.sensor, one.at_us, one.as_of(profile)) for one in own]
    wanted = sorted((at_us, physical) for _, at_us, physical in values)
    for rows in (await _queried(trial, **asked), await _exported(trial, "csv", **asked)):
        assert sorted((at_us, physical) for _, at_us, physical, _ in rows) == wanted
    await _require_buckets(trial, values, "1m", **asked)


def _row(one: Reading) -> Row:
    return one.sensor, one.at_us, one.physical, one.profile.id if one.profile else None


async def _get(trial: Trial, path: str, **asked: Any) -> Any:
    answer = await trial.lab.owner.get(path, params=asked)
    assert answer.status_code == 200, answer.text
    return answer


async def _queried(trial: Trial, **asked: Any) -> list[Row]:
    answer = await _get(trial, "/api/v1/telemetry/query", limit=20_000, **asked)
    return [_shown(trial, one) for one in answer.json()["points"]]


async def _exported(trial: Trial, kind: str, **asked: Any) -> list[Row]:
    answer = await _get(trial, "/api/v1/telemetry/export", format=kind, **asked)
    if kind == "json":
        return [_shown(trial, one) for one in answer.json()["points"]]
    lines = [
        {title.partition(" ")[0]: cell or None for title, cell in line.items()}
        for line in csv.DictReader(answer.text.splitlines())
    ]
    return [_shown(trial, one) for one in lines]


def _shown(trial: Trial, point: dict[str, Any]) -> Row:
    (sensor,) = [name for name in SENSORS if trial.ids[name] == point["sensor_id"]]
    physical, at_us = point["physical_value"], us(point["timestamp"])
    assert at_us is not None
    return sensor, at_us, None if physical is None else float(physical), point["conversion_profile_id"]


async def _require_buckets(
    trial: Trial, values: Iterable[tuple[str, int, float | None]], interval: str, **asked: Any
) -> None:
    length_us = INTERVALS[interval] * SECOND_US
    wanted: dict[tuple[str, int], list[float | None]] = {}
    for sensor, at_us, one in values:
        wanted.setdefault((trial.ids[sensor], at_us // length_us * length_us), []).append(one)
    answer = await _get(trial, "/api/v1/telemetry/aggregated", bucket_interval=interval, **asked)
    buckets = {(one["sensor_id"], us(one["bucket"])): one for one in answer.json()["buckets"]}
    assert len(buckets) == len(answer.json()["buckets"])
    assert set(buckets) == set(wanted)
    for key, found in wanted.items():
        physical = [one for one in found if one is not None]
        bucket = buckets[key]
        assert bucket["sample_count"] == len(found)
        if not physical:
            assert (bucket["min_physical"], bucket["max_physical"], bucket["avg_physical"]) == (None, None, None)
            continue
        assert (bucket["min_physical"], bucket["max_physical"]) == (min(physical), max(physical))
        assert math.isclose(bucket["avg_physical"], sum(physical) / len(physical), rel_tol=1e-12)


async def _require_certified(trial: Trial, session_id: str) -> None:
    answer = await _get(trial, f"{trial.lab.path(trial.rows[session_id])}/certificate")
    certified = {
        one["name"]: {used["profile_id"]: used["readings"] for used in one["profiles"]}
        for one in answer.json()["certificate"]["sensors"]
    }
    is_draft = trial.model.sessions[session_id].is_draft
    wanted = {} if is_draft else trial.model.certified(session_id)
    assert {name: uses for name, uses in certified.items() if uses} == wanted
