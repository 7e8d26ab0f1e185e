import contextlib
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.push.message import Entry, parse_body, parse_line
from shared.errors import InvalidAnswer
from shared.readings import Reason


def parse(item: Any) -> list[Entry]:
    return parse_line(json.dumps(item).encode())


def test_a_line_names_a_point_and_its_value() -> None:
    assert parse({"point": "temp", "value": 21.5}) == [Entry("temp", None, None, 21.5, Reason.NONE, None)]
    assert parse({"point": "lid", "value": True, "signal": "open", "unit": ""}) == [
        Entry("lid", "open", "", 1.0, Reason.NONE, None)
    ]


def test_several_values_share_a_time() -> None:
    entries = parse({"values": {"a": 1, "b": 2.5}, "timestamp": 1_700_000_000_000_001})
    assert [(entry.point, entry.raw, entry.timestamp_us) for entry in entries] == [
        ("a", 1.0, 1_700_000_000_000_001),
        ("b", 2.5, 1_700_000_000_000_001),
    ]


@pytest.mark.parametrize(
    ("timestamp", "expected_us"),
    [
        ("2023-11-14T22:13:20Z", 1_700_000_000_000_000),
        ("2023-11-14T23:13:20.000001+01:00", 1_700_000_000_000_001),
        (1_700_000_000_000_000, 1_700_000_000_000_000),
        (1_700_000_000.25, 1_700_000_000_250_000),
        (None, None),
    ],
)
def test_timestamps_are_rfc_3339_or_microseconds_or_seconds(timestamp: Any, expected_us: int | None) -> None:
    assert parse({"point": "a", "value": 1, "timestamp": timestamp})[0].timestamp_us == expected_us


@pytest.mark.parametrize(
    ("timestamp", "message"),
    [
        (1_700_000_000, "2000 and 2100.*seconds"),
        (1_700_000_000_000_000_000, "2000 and 2100"),
        ("2023-11-14T22:13:20", "no zone"),
        ("yesterday", "no time"),
        (True, "expected"),
    ],
)
def test_a_time_that_is_doubtful_is_refused_with_a_hint(timestamp: Any, message: str) -> None:
    with pytest.raises(InvalidAnswer, match=f"(?i){message}"):
        parse({"point": "a", "value": 1, "timestamp": timestamp})


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (math.nan, Reason.NOT_A_NUMBER),
        (math.inf, Reason.INFINITE),
        (-math.inf, Reason.INFINITE),
        (None, Reason.INSTRUMENT),
        (2**53 + 1, Reason.NOT_REPRESENTABLE),
        (10**400, Reason.NOT_REPRESENTABLE),
    ],
)
def test_what_is_no_value_is_a_failed_reading_with_its_reason(value: Any, reason: Reason) -> None:
    entry = parse({"point": "a", "value": value})[0]
    assert math.isnan(entry.raw)
    assert entry.reason is reason


def test_a_number_too_large_for_a_float_is_infinite() -> None:
    assert parse_line(b'{"point": "a", "value": 1e999}')[0].reason is Reason.INFINITE


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"", "truncated"),
        (b"hello", "malformed"),
        (b'{"point": "a", "value": 1', "truncated"),
        (b'{"point": "a"}', "no `value`"),
        (b'{"value": 1}', "no `point`"),
        (b'{"point": "a", "value": "1"}', "expected"),
        (b'{"point": "a", "value": 1, "timestmp": 5}', "did you mean `timestamp`"),
        (b'{"point": " a", "value": 1}', "no name"),
        (b'{"point": "a\\u0000", "value": 1}', "no name"),
        (b'{"point": "", "value": 1}', "length"),
        (b'{"values": {}}', "length"),
        (b'{"values": {"a": 1}, "point": "b"}', "neither"),
        (b"[" * 60_000, "nested too deeply|truncated|expected"),
        (b"\xff\xfe", "(?i)utf-8|malformed|invalid"),
        (b"NaN", "malformed|expected"),
    ],
)
def test_a_line_that_cannot_be_understood_says_why(line: bytes, message: str) -> None:
    with pytest.raises(InvalidAnswer, match=message) as caught:
        parse_line(line)
    assert len(str(caught.value)) < 600


def test_a_body_is_lines_or_an_array_or_one_object_however_it_is_laid_out() -> None:
    one, two = {"point": "a", "value": 1}, {"point": "b", "value": math.nan}
    for body in (
        json.dumps([one, two]),
        f"{json.dumps(one)}\n\n{json.dumps(two)}\n",
        json.dumps([one, two], indent=2),
    ):
        assert [entries[0].point for entries in parse_body(body.encode())] == ["a", "b"]
    assert parse_body(json.dumps(one, indent=2).encode())[0][0].raw == 1.0


def test_the_first_wrong_object_of_a_body_is_named_by_its_number() -> None:
    with pytest.raises(InvalidAnswer, match="object 2: no `value`"):
        parse_body(b'{"point": "a", "value": 1}\n{"point": "b"}')
    with pytest.raises(InvalidAnswer, match="object 1"):
        parse_body(b"[1]")


@given(st.binary(max_size=200))
def test_no_bytes_make_it_crash(data: bytes) -> None:
    for parse_it in (parse_line, parse_body):
        with contextlib.suppress(InvalidAnswer):
            parse_it(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(st.dictionaries(st.sampled_from(["point", "value", "values", "timestamp", "signal", "unit"]), JSON))
def test_no_json_makes_it_crash(item: Any) -> None:
    with contextlib.suppress(InvalidAnswer):
        for entry in parse(item):
            assert (entry.reason is Reason.NONE) == math.isfinite(entry.raw)
