import contextlib
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.line.extract import Extraction, Value
from shared.errors import InvalidAnswer
from shared.readings import Reason


def by_pattern(pattern: str, **more: object) -> Extraction:
    return Extraction(pattern=re.compile(pattern), **more)  # type: ignore[arg-type]


def test_a_pattern_gives_its_group_its_named_group_or_the_whole_match() -> None:
    assert by_pattern(r"([-+]?[0-9.]+) *g").extract("S S    -12.345 g") == Value(-12.345, Reason.NONE)
    assert by_pattern(r"(S|D) +(?P<value>[0-9.]+)").extract("S D  7.5 g") == Value(7.5, Reason.NONE)
    assert by_pattern(r"[0-9]+").extract("T=21C") == Value(21.0, Reason.NONE)


def test_fields_count_from_one_and_backwards_from_minus_one() -> None:
    line = "$WIMWV, 214.8 ,R,0.1"
    assert Extraction(field=2).extract(line) == Value(214.8, Reason.NONE)
    assert Extraction(field=-1).extract(line) == Value(0.1, Reason.NONE)
    assert Extraction(field=2, separator=" ").extract("T   21.5  C") == Value(21.5, Reason.NONE)
    with pytest.raises(InvalidAnswer, match="no field 5 among 4"):
        Extraction(field=5).extract(line)


def test_a_line_of_someone_else_is_none_and_no_error() -> None:
    assert Extraction(prefix="$GPGGA", field=2).extract("$GPGLL,1") is None
    assert by_pattern("mass=(.*)").extract("temp=1") is None


def test_a_value_is_scaled_and_judged() -> None:
    extraction = Extraction(field=1, scale=0.1, offset=-4, valid_min=0, valid_max=16)
    assert extraction.extract("120") == Value(8.0, Reason.NONE)
    assert extraction.extract("30") == Value(-1.0, Reason.OUT_OF_RANGE)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("nan", Reason.NOT_A_NUMBER), ("-NaN", Reason.NOT_A_NUMBER), ("inf", Reason.INFINITE), ("1e999", Reason.INFINITE)],
)
def test_nan_and_infinity_are_failed_readings_with_their_reason(text: str, reason: Reason) -> None:
    value = Extraction(field=1).extract(text)
    assert value is not None
    assert math.isnan(value.raw)
    assert value.reason == reason


@pytest.mark.parametrize("text", ["", "OL", "1_000", "١٢", "0x1F", "1.2.3", "--5", "12 34", "1,5"])
def test_what_is_no_number_is_never_made_one(text: str) -> None:
    with pytest.raises(InvalidAnswer, match="not a number"):
        Extraction(field=1, separator=";").extract(text)


def test_a_decimal_comma_is_read_where_it_is_configured() -> None:
    assert Extraction(field=1, separator=";", decimal=",").extract("12,5;1") == Value(12.5, Reason.NONE)
    with pytest.raises(InvalidAnswer):
        Extraction(field=1, separator=";", decimal=",").extract("1.200,5;1")


def test_the_sign_may_stand_apart_as_balances_print_it() -> None:
    assert by_pattern(r"([-+] *[0-9.]+) g").extract("N   -    12.5 g") == Value(-12.5, Reason.NONE)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_comes_back_bit_for_bit(number: float) -> None:
    assert Extraction(field=1).extract(repr(number)) == Value(number, Reason.NONE)


@given(st.text(max_size=60))
def test_no_text_makes_it_crash(text: str) -> None:
    with contextlib.suppress(InvalidAnswer):
        assert Extraction(field=1).extract(text) is not None
