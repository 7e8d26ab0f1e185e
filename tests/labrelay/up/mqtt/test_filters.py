"""Topic filters."""

from __future__ import annotations

import pytest

from labrelay.up.mqtt import filters


@pytest.mark.parametrize(
    ("topic_filter", "topic"),
    [("a/b", "a/b"), ("a/+", "a/b"), ("a/#", "a/b/c"), ("a/#", "a"), ("#", "a/b"), ("+/b", "a/b"), ("a/+", "a/")],
)
def test_a_filter_matches_its_topics(topic_filter: str, topic: str) -> None:
    assert filters.matches(topic_filter, topic)


@pytest.mark.parametrize(
    ("topic_filter", "topic"),
    [("a/b", "a/c"), ("a/+", "a"), ("a/+", "a/b/c"), ("a/b/#", "a"), ("#", "$SYS/x"), ("+/x", "$SYS/x"), ("a", "a/")],
)
def test_a_filter_matches_nothing_else(topic_filter: str, topic: str) -> None:
    assert not filters.matches(topic_filter, topic)


@pytest.mark.parametrize(
    ("pattern", "wanted", "within"),
    [
        ("a/#", "a/+/c", True),
        ("a/#", "a/#", True),
        ("a/+", "a/+", True),
        ("a/+", "a/#", False),
        ("a/b/#", "a/#", False),
        ("a/b/#", "a/+/c", False),
        ("a/b", "a/b/#", False),
        ("a/b/#", "#", False),
    ],
)
def test_a_subscription_stays_within_a_pattern_or_is_refused(pattern: str, wanted: str, within: bool) -> None:
    assert filters.permits(pattern, wanted) is within


@pytest.mark.parametrize("topic_filter", ["", "a/#/b", "a#", "a/b+", "$share/g/a", "/".join("a" * 33)])
def test_an_ill_formed_filter_is_recognised(topic_filter: str) -> None:
    assert not filters.valid(topic_filter)
