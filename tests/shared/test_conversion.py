"""Conversion: the contract's values, whatever the mixture, and the same bits every time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.conversion import ProfileTable, compile_profile
from shared.errors import ProfileError
from shared.profiles import COEFFICIENTS_MAX, TABLE_ROWS_MAX
from shared.readings import FAILED_INFINITE, FAILED_NOT_A_NUMBER, Reason, Status, status_byte

Payload = dict[str, Any]
CONVERTED = int(Status.CONVERTED)
OVERFLOW = status_byte(Status.CONVERSION_FAILED, Reason.CONVERSION_OVERFLOW)
DOMAIN = status_byte(Status.CONVERSION_FAILED, Reason.CONVERSION_DOMAIN)
INSTRUMENT = status_byte(Status.CONVERSION_FAILED, Reason.INSTRUMENT)

numbers = st.floats(-1e6, 1e6)
linear = st.builds(lambda a, b: ("linear", {"a": a, "b": b}), numbers, numbers)
polynomial = st.lists(numbers, min_size=1, max_size=COEFFICIENTS_MAX).map(
    lambda coefficients: ("polynomial", {"coefficients": coefficients})
)
knots = st.floats(-1e6, 1e6).map(lambda raw: round(raw, 3) + 0.0)
lookup_table = st.lists(st.tuples(knots, numbers), min_size=2, max_size=20, unique_by=lambda row: row[0]).map(
    lambda rows: ("lookup_table", {"table": [{"raw": raw, "physical": physical} for raw, physical in rows]})
)
formula = st.just(("formula", {"expression": "k * x ** 2 - 1 / x", "constants": {"k": 0.25}}))
profiles = st.lists(st.one_of(linear, polynomial, lookup_table, formula), min_size=1, max_size=6)


def in_python(kind: str, payload: Payload, x: float) -> float:
    """The contract's table of kinds, one reading at a time."""
    if kind == "linear":
        return payload["a"] * x + payload["b"]
    if kind == "polynomial":
        value = 0.0
        for coefficient in reversed(payload["coefficients"]):
            value = value * x + coefficient
        return value
    if kind == "lookup_table":
        rows = sorted((row["raw"], row["physical"]) for row in payload["table"])
        return float(np.interp(x, [raw for raw, _ in rows], [physical for _, physical in rows]))
    return payload["constants"]["k"] * x**2 - 1 / x if x else math.nan


def references(*values: int) -> np.ndarray[Any, np.dtype[np.uint32]]:
    return np.array(values, np.uint32)


def convert(table: ProfileTable, profile: list[int], raw: list[float]) -> tuple[list[float], list[int]]:
    physical, status = table.convert(references(*profile), np.array(raw), np.zeros(len(raw), np.uint8))
    return physical.tolist(), status.tolist()


@given(profiles, st.data())
def test_mixed_readings_convert_as_each_would_alone(chosen: list[tuple[str, Payload]], data: st.DataObject) -> None:
    table = ProfileTable(chosen)
    rows = data.draw(st.lists(st.tuples(st.integers(0, len(chosen)), numbers), min_size=1, max_size=40))
    profile, raw = references(*(row[0] for row in rows)), np.array([row[1] for row in rows])
    physical, status = table.convert(profile, raw, np.zeros(len(rows), np.uint8))
    for place, (reference, x) in enumerate(rows):
        if reference == 0:
            assert status[place] == Status.RAW_ONLY
            assert np.isnan(physical[place])
            continue
        kind, payload = chosen[reference - 1]
        wanted = in_python(kind, payload, x)
        if not math.isfinite(wanted):
            assert status[place] in (OVERFLOW, DOMAIN)
            assert np.isnan(physical[place])
        elif kind == "formula":
            assert physical[place] == pytest.approx(wanted, rel=1e-9)
        else:
            assert status[place] == CONVERTED
            assert physical[place] == wanted


@given(profiles, st.lists(numbers, min_size=2, max_size=60), st.integers(0, 2**32))
def test_the_same_bits_come_whatever_else_is_in_the_batch(
    chosen: list[tuple[str, Payload]], raw: list[float], seed: int
) -> None:
    chosen = [profile for profile in chosen if profile[0] != "formula"]
    table = ProfileTable(chosen)
    profile = np.random.default_rng(seed).integers(0, len(chosen) + 1, len(raw)).astype(np.uint32)
    together, _ = table.convert(profile, np.array(raw), np.zeros(len(raw), np.uint8))
    for place, x in enumerate(raw):
        alone, _ = table.convert(profile[place : place + 1], np.array([x]), np.zeros(1, np.uint8))
        if profile[place]:
            small, _ = ProfileTable([chosen[profile[place] - 1]]).convert(
                references(1), np.array([x]), np.zeros(1, np.uint8)
            )
            assert small.tobytes() == alone.tobytes()
        assert together[place : place + 1].tobytes() == alone.tobytes()


def test_a_lookup_table_hits_its_knots_and_is_clamped_beyond_them() -> None:
    table = ProfileTable([("lookup_table", {"table": [{"raw": r, "physical": r * r} for r in (3.0, 1.0, 2.0)]})])
    assert convert(table, [1] * 6, [-9.0, 1.0, 2.0, 2.5, 3.0, 99.0])[0] == [1.0, 1.0, 4.0, 6.5, 9.0, 9.0]


def test_readings_that_have_failed_are_left_as_they_are() -> None:
    table = ProfileTable([("linear", {"a": 2, "b": 0})])
    physical, status = table.convert(
        references(1, 1), np.array([np.nan, 3.0]), np.array([INSTRUMENT, INSTRUMENT], np.uint8)
    )
    assert np.isnan(physical).all()
    assert status.tolist() == [INSTRUMENT, INSTRUMENT]


def test_a_raw_value_that_is_not_finite_fails_with_its_own_reason_with_and_without_profile() -> None:
    table = ProfileTable([("lookup_table", {"table": [{"raw": 0, "physical": 0}, {"raw": 1, "physical": 1}]})])
    physical, status = convert(table, [1, 0, 1, 0], [math.nan, math.nan, math.inf, -math.inf])
    assert np.isnan(physical).all()
    assert status == [FAILED_NOT_A_NUMBER, FAILED_NOT_A_NUMBER, FAILED_INFINITE, FAILED_INFINITE]


def test_a_result_beyond_float64_is_an_overflow_and_a_formula_without_value_is_out_of_its_domain() -> None:
    table = ProfileTable(
        [
            ("linear", {"a": 1e308, "b": 0}),
            ("polynomial", {"coefficients": [0, 0, 1e300]}),
            ("formula", {"expression": "sqrt(x)"}),
            ("formula", {"expression": "exp(x)"}),
        ]
    )
    physical, status = convert(table, [1, 2, 3, 4, 3], [1e9, 1e9, -1.0, 1e9, 4.0])
    assert status == [OVERFLOW, OVERFLOW, DOMAIN, OVERFLOW, CONVERTED]
    assert np.isnan(physical[:4]).all()
    assert physical[4] == 2.0


def test_a_formula_without_value_on_the_way_fails_even_where_its_result_looks_fine() -> None:
    table = ProfileTable([("formula", {"expression": "min(1 / x, 5)"})])
    physical, status = convert(table, [1, 1], [0.0, 0.5])
    assert status == [DOMAIN, CONVERTED]
    assert np.isnan(physical[0])
    assert physical[1] == 2.0


@pytest.mark.parametrize("x", [3.0, -3.0, 0.0, -0.0])
def test_a_longer_polynomial_beside_it_does_not_change_the_sign_of_a_zero(x: float) -> None:
    short, longer = ("polynomial", {"coefficients": [-0.0]}), ("polynomial", {"coefficients": [1, 2, 3]})
    alone, _ = convert(ProfileTable([short]), [1], [x])
    beside, _ = convert(ProfileTable([short, longer]), [1], [x])
    assert math.copysign(1, alone[0]) == math.copysign(1, beside[0])


def test_a_table_grows_by_appending_and_the_old_one_stays_as_it_was() -> None:
    old = ProfileTable([("linear", {"a": 2, "b": 0})])
    new = old.with_profile(("polynomial", {"coefficients": [1, 1]}))
    assert convert(new, [1, 2], [5.0, 5.0])[0] == [10.0, 6.0]
    assert len(old) == 1
    with pytest.raises(ProfileError):
        old.convert(references(2), np.array([1.0]), np.zeros(1, np.uint8))


def test_only_formulas_and_unknown_profiles_cannot_be_derived_elsewhere() -> None:
    table = ProfileTable([("linear", {"a": 2, "b": 0}), ("formula", {"expression": "sin(x)"})])
    assert table.derivable(references(0, 1, 1))
    assert not table.derivable(references(1, 2))
    assert not table.derivable(references(3))
    assert table.derivable(references())
    grown = ProfileTable().with_profile(("formula", {"expression": "x"})).with_profile(("linear", {"a": 1, "b": 0}))
    assert not grown.derivable(references(1))
    assert grown.derivable(references(2))


def test_no_readings_give_no_readings() -> None:
    physical, status = ProfileTable().convert(references(), np.empty(0), np.empty(0, np.uint8))
    assert len(physical) == len(status) == 0


ROW = {"raw": 1, "physical": 1}


@pytest.mark.parametrize(
    ("kind", "payload", "says"),
    [
        ("cubic", {}, "unknown kind"),
        ("lookup", {}, "did you mean `lookup_table`"),
        ("linear", {"a": 1}, "lacks `b`"),
        ("linear", {"a": 1, "b": 2, "c": 3}, "unknown key `c`"),
        ("linear", {"a": "1", "b": 2}, "a must be a number"),
        ("linear", {"a": True, "b": 2}, "a must be a number"),
        ("linear", {"a": math.nan, "b": 2}, "finite"),
        ("linear", {"a": 10**400, "b": 2}, "finite"),
        ("linear", [1, 2], "must be an object"),
        ("polynomial", {"coefficients": []}, "0 entries"),
        ("polynomial", {"coefficients": [1.0] * (COEFFICIENTS_MAX + 1)}, "17 entries"),
        ("polynomial", {"coefficients": "12"}, "must be a list"),
        ("polynomial", {"coefficients": [1, None]}, r"coefficients\[1\]"),
        ("polynomial", {"coefficient": [1]}, "did you mean `coefficients`"),
        ("lookup_table", {"table": [ROW]}, "1 entries"),
        ("lookup_table", {"table": [ROW, {"raw": 1.0, "physical": 3}]}, "more than once"),
        ("lookup_table", {"table": [{"raw": 0.0, "physical": 1}, {"raw": -0.0, "physical": 3}]}, "more than once"),
        ("lookup_table", {"table": [ROW, {"raw": 2}]}, r"table\[1\] lacks `physical`"),
        ("lookup_table", {"table": [ROW, 7]}, r"table\[1\] must be an object"),
        ("lookup_table", {"table": [ROW, {"raw": 2, "physical": math.inf}]}, "finite"),
        ("lookup_table", {"table": [{"raw": 0, "physical": -1e308}, {"raw": 1, "physical": 1e308}]}, "too steep"),
        ("lookup_table", {"table": [ROW] * (TABLE_ROWS_MAX + 1)}, "10001 entries"),
        ("formula", {}, "lacks `expression`"),
        ("formula", {"expression": 5}, "must be a text"),
        ("formula", {"expression": "x", "constants": [1]}, "constants must be"),
        ("formula", {"expression": "x", "constants": {"k": None}}, "constants.k must be a number"),
        ("formula", {"expression": "x.y"}, "may not contain"),
    ],
)
def test_a_payload_that_does_not_fit_its_kind_is_refused_with_a_reason(kind: str, payload: Any, says: str) -> None:
    with pytest.raises(ProfileError, match=says):
        compile_profile(kind, payload)
