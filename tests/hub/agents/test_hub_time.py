"""The hub's clock for agents."""

from __future__ import annotations

from hub.agents.hub_time import TimeLane
from hub.broker.lanes import UpMessage
from hub.database.ids import uuid7
from shared import messages, topics
from shared.clock import ManualClock
from shared.errors import LinkUnavailable
from shared.messages import TimeAnswer, TimeRequest


class Publisher:
    """Keeps what is published, or is away."""

    def __init__(self, *, away: bool = False) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.away = away

    async def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        if self.away:
            raise LinkUnavailable("away")
        self.sent.append((topic, payload))


async def test_a_question_is_answered_with_both_moments() -> None:
    publisher, clock, agent_id = Publisher(), ManualClock(5_000), uuid7()
    lane = TimeLane(publisher, clock)
    await lane.receive(UpMessage(agent_id, "time", messages.encode(TimeRequest(3, 17)), False))
    ((topic, payload),) = publisher.sent
    assert topic == topics.down(agent_id, "time")
    assert messages.decode(payload, TimeAnswer) == TimeAnswer(3, 17, 5_000, 5_000)


async def test_garbage_and_a_lost_link_do_no_harm() -> None:
    lane = TimeLane(Publisher(away=True), ManualClock())
    await lane.receive(UpMessage(uuid7(), "time", b"?", False))
    await lane.receive(UpMessage(uuid7(), "time", messages.encode(TimeRequest(1, 1)), False))
    assert lane.garbage == 1
