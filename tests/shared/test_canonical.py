"""The one way of writing JSON, and what has none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.canonical import INTEGER_MAX, canonical_json, parse_strictly

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NAMES = st.text(st.characters(max_codepoint=127))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-INTEGER_MAX, INTEGER_MAX) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner),
)


@given(VALUES)
def test_what_is_written_is_read_again_and_written_the_same(value: Any) -> None:
    written = canonical_json(value)
    assert parse_strictly(written) == value
    assert canonical_json(json.loads(json.dumps(value, indent=3))) == written


def test_the_example_of_rfc_8785_is_written_as_there() -> None:
    value = {"string": '\u20ac$\u000f\nA\'B"\\\\"/', "literals": [None, True, False]}
    assert canonical_json(value) == '{"literals":[null,true,false],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'.encode()


@pytest.mark.parametrize("value", [1.0, float("nan"), INTEGER_MAX + 1, {"ä": 1}, {1: 2}, (1, 2), b"x"])
def test_what_has_no_one_way_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        canonical_json(value)


@pytest.mark.parametrize("text", ['{"a":1,"a":1}', "1.0", "1e3", "NaN", "[" * 100_000, "{"])
def test_what_could_be_read_in_two_ways_is_not_read(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_strictly(text)
