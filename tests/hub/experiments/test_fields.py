"""Tags and JSON objects: what is kept, and what is refused and why."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.experiments.fields import (
    JSON_BYTES_MAX,
    JSON_DEPTH_MAX,
    TAG_LENGTH_MAX,
    normal_tag,
    normal_tags,
    same_json,
    storable_object,
)

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)


@given(st.text(max_size=TAG_LENGTH_MAX + 20))
def test_a_tag_that_is_taken_is_taken_again_as_it_is(text: str) -> None:
    try:
        tag = normal_tag(text)
    except ValueError:
        return
    assert normal_tag(tag) == tag
    assert 1 <= len(tag) <= TAG_LENGTH_MAX
    assert "," not in tag
    assert tag.encode()


def test_tags_lose_blanks_and_doubles_and_keep_their_order_and_case() -> None:
    assert normal_tags(["  zinc ", "Zinc", "a\t b", "zinc", "u\u0308", "ü"]) == ["zinc", "Zinc", "a b", "ü"]


@pytest.mark.parametrize("tag", ["", "   ", "a,b", "x" * (TAG_LENGTH_MAX + 1), "a\0b", "a\x07b", "\ud800"])
def test_what_is_no_tag_is_refused(tag: str) -> None:
    with pytest.raises(ValueError, match=r"tag|NUL|surrogate"):
        normal_tag(tag)


@given(st.dictionaries(st.text(max_size=5), JSON_VALUES, max_size=5))
def test_an_object_that_is_taken_survives_json(value: dict[str, Any]) -> None:
    try:
        storable_object(value)
    except ValueError:
        return
    assert same_json(orjson.loads(orjson.dumps(value)), value)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"a": {"b": [1, float("nan")]}}, r"a\.b\[1\]: must be a finite number"),
        ({"a": float("inf")}, "a: must be a finite number"),
        ({"a": 2**63}, "a: must fit 64 bits"),
        ({"a": -(2**63) - 1}, "a: must fit 64 bits"),
        ({"a": "x\0"}, "a: must not contain a NUL"),
        ({"a": {"x\0": 1}}, "a key in a: must not contain a NUL"),
        ({"\ud800": 1}, "a key: must be valid Unicode"),
        ({"a": "x" * JSON_BYTES_MAX}, f"at most {JSON_BYTES_MAX} bytes"),
        ({"a": [1e300] * 300}, f"at most {JSON_BYTES_MAX} bytes"),
        ({"a": [1e-300] * 300}, f"at most {JSON_BYTES_MAX} bytes"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_its_place(value: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        storable_object(value)


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


def test_objects_nest_so_deep_and_no_deeper() -> None:
    assert storable_object(nested(JSON_DEPTH_MAX)) == nested(JSON_DEPTH_MAX)
    with pytest.raises(ValueError, match="levels deep"):
        storable_object(nested(JSON_DEPTH_MAX + 1))


@given(JSON_VALUES, JSON_VALUES)
def test_the_same_json_is_what_json_says_is_the_same(left: Any, right: Any) -> None:
    if same_json(left, right):
        assert same_json(right, left)
    texts = json.dumps(left, sort_keys=True), json.dumps(right, sort_keys=True)
    if texts[0] == texts[1] and "NaN" not in texts[0]:
        assert same_json(left, right)


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        ({"a": 1}, {"a": True}, False),
        ([1, 2], [2, 1], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        (None, 0, False),
        ("1", 1, False),
        ([], {}, False),
    ],
)
def test_true_is_not_one_but_one_is_one(left: Any, right: Any, same: bool) -> None:
    assert same_json(left, right) is same
