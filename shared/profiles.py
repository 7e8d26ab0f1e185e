"""Conversion profiles: a payload as the contract has it, validated once and made ready for `shared.conversion`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from shared.errors import ProfileError
from shared.formula import Formula, parse_formula
from shared.readings import Float64
from shared.tables import nearest_hint

COEFFICIENTS_MAX = 16
TABLE_ROWS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Linear:
    """``a * raw + b``"""

    a: float
    b: float


@dataclass(frozen=True, slots=True)
class Polynomial:
    """``c0 + c1*raw + …``; without trailing or negative zeros, of which no value depends but the sign of a zero."""

    coefficients: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LookupTable:
    """Piecewise linear between knots and constant beyond them.

    Attributes:
        raw, physical: float64 (n_knots,), raw strictly rising.
        slope: float64 (n_knots,), from each knot to the next; 0 at the last.
    """

    raw: Float64
    physical: Float64
    slope: Float64


Compiled: TypeAlias = Linear | Polynomial | LookupTable | Formula


def compile_profile(kind: str, payload: Mapping[str, Any]) -> Compiled:
    """A profile's payload, validated and made ready.

    Args:
        kind: `linear`, `polynomial`, `lookup_table` or `formula`.
        payload: ``{"a", "b"}``, ``{"coefficients": […]}``, ``{"table": [{"raw", "physical"}, …]}`` or ``{"expression",
            "constants"}``, as the contract has them.

    Raises: ProfileError saying what does not fit.
    """
    compilers: dict[str, Callable[[Mapping[str, Any]], Compiled]] = {
        "linear": _compile_linear,
        "polynomial": _compile_polynomial,
        "lookup_table": _compile_lookup_table,
        "formula": _compile_formula,
    }
    if kind not in compilers:
        raise ProfileError(f"unknown kind of profile `{kind}`", hint=nearest_hint(str(kind), list(compilers)))
    return compilers[kind](payload)


def _compile_linear(payload: Mapping[str, Any]) -> Linear:
    _check_keys(payload, "a linear profile", required=("a", "b"))
    return Linear(_number(payload["a"], "a"), _number(payload["b"], "b"))


def _compile_polynomial(payload: Mapping[str, Any]) -> Polynomial:
    _check_keys(payload, "a polynomial profile", required=("coefficients",))
    listed = _list(payload["coefficients"], "coefficients", least=1, most=COEFFICIENTS_MAX)
    # Adding 0.0 turns -0.0 into 0.0, so that padding with zeros in front of Horner's rule changes no bit.
    coefficients = [_number(value, f"coefficients[{place}]") + 0.0 for place, value in enumerate(listed)]
    while len(coefficients) > 1 and coefficients[-1] == 0.0:
        coefficients.pop()
    return Polynomial(tuple(coefficients))


def _compile_lookup_table(payload: Mapping[str, Any]) -> LookupTable:
    _check_keys(payload, "a lookup_table profile", required=("table",))
    rows = _list(payload["table"], "table", least=2, most=TABLE_ROWS_MAX)
    knots: list[tuple[float, float]] = []
    for place, row in enumerate(rows):
        name = f"table[{place}]"
        _check_keys(row, name, required=("raw", "physical"))
        knots.append((_number(row["raw"], f"{name}.raw") + 0.0, _number(row["physical"], f"{name}.physical") + 0.0))
    knots.sort()
    raw, physical = (np.array(column, np.float64) for column in zip(*knots, strict=True))
    repeated = np.flatnonzero(raw[1:] == raw[:-1])
    if len(repeated):
        raise ProfileError(f"table has the raw value {float(raw[repeated[0]])!r} more than once")
    with np.errstate(all="ignore"):
        width = np.diff(raw)
        slope = np.append(np.diff(physical) / width, 0.0)
    steep = np.flatnonzero(~np.isfinite(slope[:-1]) | ~np.isfinite(width))
    if len(steep):
        raise ProfileError(f"table is too wide or too steep to interpolate after raw {float(raw[steep[0]])!r}")
    return LookupTable(raw, physical, slope)


def _compile_formula(payload: Mapping[str, Any]) -> Formula:
    _check_keys(payload, "a formula profile", required=("expression",), optional=("constants",))
    expression, constants = payload["expression"], payload.get("constants", {})
    if not isinstance(expression, str):
        raise ProfileError("expression must be a text")
    if not isinstance(constants, Mapping):
        raise ProfileError("constants must be names with numbers")
    return parse_formula(expression, {name: _number(value, f"constants.{name}") for name, value in constants.items()})


def _check_keys(table: object, where: str, *, required: Sequence[str], optional: Sequence[str] = ()) -> None:
    if not isinstance(table, Mapping):
        raise ProfileError(f"{where} must be an object with {', '.join(required)}")
    for key in table:
        if key not in (*required, *optional):
            raise ProfileError(f"unknown key `{key}` in {where}", hint=nearest_hint(str(key), (*required, *optional)))
    for key in required:
        if key not in table:
            raise ProfileError(f"{where} lacks `{key}`")


def _list(value: object, name: str, *, least: int, most: int) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise ProfileError(f"{name} must be a list")
    if not least <= len(value) <= most:
        raise ProfileError(f"{name} has {len(value)} entries, there must be {least} to {most}")
    return value


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ProfileError(f"{name} must be a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ProfileError(f"{name} must be a finite number")
    return number
