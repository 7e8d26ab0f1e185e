"""The time lane: agents ask for the hub's clock and are answered at once, ahead of data."""

from __future__ import annotations

from typing import Protocol

from hub.broker.lanes import UpMessage
from shared import messages, topics
from shared.clock import Clock
from shared.errors import LinkUnavailable, WireError
from shared.messages import TimeAnswer, TimeRequest


class Publisher(Protocol):
    """The broker link, as far as it is needed here."""

    async def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        """Raises: LinkUnavailable."""
        ...


class TimeLane:
    """Answers questions for the time. A lost answer is asked for again."""

    def __init__(self, publisher: Publisher, clock: Clock) -> None:
        self._publisher = publisher
        self._clock = clock
        self.garbage = 0
        """Messages that could not be read."""

    async def receive(self, message: UpMessage) -> None:
        """Answer one question."""
        received_us = self._clock.now_us()
        try:
            asked = messages.decode(message.payload, TimeRequest)
        except WireError:
            self.garbage += 1
            return
        answer = TimeAnswer(asked.segment, asked.sent_us, received_us, self._clock.now_us())
        try:
            await self._publisher.publish(topics.down(message.agent_id, "time"), messages.encode(answer))
        except LinkUnavailable:
            return
