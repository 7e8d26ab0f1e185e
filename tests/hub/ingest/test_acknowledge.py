"""What agents are told: answers to batches, and which incarnation of the database is in force."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from uuid import UUID

from hub.database.ids import uuid7
from hub.ingest.acknowledge import AGENTS_MAX, Acknowledger, BatchAnswer
from hub.ingest.answers import Answer
from shared import messages, topics
from shared.clock import ManualClock
from shared.messages import Ack, EpochRange

EPOCH = bytes(range(16))


class Published:
    """A broker that keeps what it is given."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, Ack]] = []

    async def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        """Keep it."""
        self.messages.append((topic, messages.decode(payload, Ack)))


async def said(acknowledger: Acknowledger, broker: Published, wanted: int) -> list[tuple[str, Ack]]:
    """What it sends until so many messages are out."""
    task = asyncio.create_task(acknowledger.run())
    async with asyncio.timeout(20):
        while len(broker.messages) < wanted:
            await asyncio.sleep(0.01)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return broker.messages


def new(broker: Published) -> Acknowledger:
    return Acknowledger(broker, ManualClock(), window_batches=100)


def answer(agent_id: UUID, seq: int) -> BatchAnswer:
    return BatchAnswer(agent_id, EPOCH, seq, Answer.COMMITTED)


async def test_an_agent_that_sends_nothing_can_be_told_of_the_incarnation() -> None:
    broker, agent_id, incarnation = Published(), uuid7(), uuid7()
    acknowledger = new(broker)
    acknowledger.tell_incarnation(agent_id, incarnation)
    (topic, ack), *others = await said(acknowledger, broker, 1)
    assert not others
    assert topic == topics.down(agent_id, "ack")
    assert (ack.incarnation, ack.acked, ack.refused) == (str(incarnation), [], [])
    assert ack.window_batches > 0


async def test_word_of_the_incarnation_goes_with_answers_that_wait() -> None:
    broker, agent_id, incarnation = Published(), uuid7(), uuid7()
    acknowledger = new(broker)
    acknowledger.tell(incarnation, [answer(agent_id, 1), answer(agent_id, 2)])
    acknowledger.tell_incarnation(agent_id, incarnation)
    ((_, ack),) = await said(acknowledger, broker, 1)
    assert ack.acked == [EpochRange(EPOCH.hex(), 1, 2)]


async def test_answers_of_another_incarnation_are_worth_nothing() -> None:
    broker, agent_id, after = Published(), uuid7(), uuid7()
    acknowledger = new(broker)
    acknowledger.tell(uuid7(), [answer(agent_id, 1)])
    acknowledger.tell_incarnation(agent_id, after)
    ((_, ack),) = await said(acknowledger, broker, 1)
    assert (ack.incarnation, ack.acked) == (str(after), [])


async def test_no_more_agents_wait_than_there_is_room_for() -> None:
    broker, incarnation = Published(), uuid7()
    acknowledger = new(broker)
    for _ in range(AGENTS_MAX):
        acknowledger.tell_incarnation(uuid7(), incarnation)
    acknowledger.tell_incarnation(uuid7(), incarnation)
    acknowledger.tell(incarnation, [answer(uuid7(), 1)])
    assert acknowledger.dropped == 1
    assert len(await said(acknowledger, broker, AGENTS_MAX)) == AGENTS_MAX
