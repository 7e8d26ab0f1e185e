"""Topics: who may write where."""

from uuid import UUID

import pytest

from shared import topics

AGENT = UUID("019a0000-0000-7000-8000-000000000001")


def test_an_agents_topics_come_back() -> None:
    assert topics.parse_up(topics.up(AGENT, "data")) == topics.UpTopic(AGENT, "data")


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "labrelay/v1/agents/x/up/data",
        f"labrelay/v1/agents/{AGENT}/down/ack",
        f"labrelay/v1/agents/{AGENT}/up/else",
        f"labrelay/v1/agents/{AGENT}/up/data/more",
        f"labrelay/v1/agents/{'-' * 36}/up/data",
    ],
)
def test_other_topics_are_nobodys(topic: str) -> None:
    assert topics.parse_up(topic) is None


@pytest.mark.parametrize(("signal", "level"), [("value", "value"), ("a/b", "a_b"), ("x+y#", "x_y_"), ("\0", "_")])
def test_a_signal_is_one_topic_level(signal: str, level: str) -> None:
    assert topics.live(AGENT, AGENT, signal).rsplit("/", 1)[1] == level
