"""The contract's JSON of readings."""

from __future__ import annotations

from uuid import UUID

import numpy as np
import orjson

from hub.telemetry.catalogue import Catalogue, Series
from hub.telemetry.extras import Extras
from hub.telemetry.points import encode_points
from hub.telemetry.scan import Rows
from shared.readings import Reason, Status, status_byte

PROJECT, SENSOR, PROFILE = UUID(int=1), UUID(int=2), UUID(int=3)


def rows(**columns: list[float]) -> Rows:
    size = len(next(iter(columns.values())))
    return Rows(
        np.array(columns.get("id", range(1, size + 1)), np.int64),
        np.array(columns.get("series", [7] * size), np.int32),
        np.array(columns.get("time_us", [0] * size), np.int64),
        np.array(columns.get("raw", [0.0] * size), np.float64),
        np.array(columns.get("physical", [np.nan] * size), np.float64),
        np.array(columns.get("status", [0] * size), np.uint8),
        np.array(columns.get("profile", [0] * size), np.int32),
        np.array(columns.get("has_meta", [0] * size), np.bool_),
    )


def catalogue() -> Catalogue:
    known = Catalogue()
    known.series[7] = Series(7, SENSOR, PROJECT, 'temp "°C"')
    known.profiles[4] = PROFILE
    return known


def test_a_converted_reading_has_all_fields_of_the_contract() -> None:
    converted = int(Status.CONVERTED)
    given = rows(time_us=[1_772_452_800_000_001], raw=[0.1], physical=[1e300], status=[converted], profile=[4])
    came = Extras(ingested_us={0: 1_772_452_801_000_000})
    (point,) = encode_points(given, catalogue(), came)
    assert orjson.loads(point) == {
        "id": 1,
        "project_id": str(PROJECT),
        "sensor_id": str(SENSOR),
        "signal": 'temp "°C"',
        "timestamp": "2026-03-02T12:00:00.000001Z",
        "raw_value": 0.1,
        "physical_value": 1e300,
        "ingested_at": "2026-03-02T12:00:01.000000Z",
        "conversion_status": "converted",
        "conversion_profile_id": str(PROFILE),
        "run_id": None,
        "capture_session_id": None,
        "meta": {},
    }


def test_a_failed_reading_says_why_and_keeps_its_own_meta() -> None:
    failed = status_byte(Status.CONVERSION_FAILED, Reason.NOT_A_NUMBER)
    given = rows(raw=[np.nan, 2.0], status=[failed, 0], has_meta=[1, 1])
    metas = {(7, 0): {"operator": "ada", "__system": {"forged": True}}}
    points = [orjson.loads(point) for point in encode_points(given, catalogue(), Extras(metas))]
    assert points[0]["raw_value"] is None
    assert points[0]["conversion_status"] == "conversion_failed"
    assert points[0]["meta"] == {"operator": "ada", "__system": {"reason": "not_a_number"}}
    assert points[1]["conversion_status"] == "raw_only"


def test_floats_keep_their_bits() -> None:
    values = [0.1, 1 / 3, -0.0, 5e-324, 1.7976931348623157e308, 123456789.123456789]
    points = encode_points(rows(raw=values), catalogue(), Extras())
    back = np.array([float(orjson.loads(point)["raw_value"]) for point in points])
    assert back.view(np.int64).tolist() == np.array(values).view(np.int64).tolist()


def test_readings_of_a_deleted_series_give_nothing() -> None:
    assert encode_points(rows(series=[8, 7]), catalogue(), Extras())[0] == b""
    assert encode_points(rows(id=[]), catalogue(), Extras()) == []
