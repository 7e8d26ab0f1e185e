"""Acknowledgements: one message an agent, sent only after the commit, merged while the broker is slow.

A lost acknowledgement costs a repeat and nothing else: the agent offers the batch again, finds it in the ledger, and is
told again. So they go out once, with QoS 0.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from hub.ingest.answers import Answer
from hub.ingest.window import Window
from shared import messages, topics
from shared.clock import Clock
from shared.errors import LinkUnavailable
from shared.messages import Ack, EpochRange, Refusal

AGENTS_MAX = 10_000
ANSWERS_PER_AGENT_MAX = 4096
"""Unsent answers that are kept; what is dropped is offered again."""

log = logging.getLogger(__name__)


class Publisher(Protocol):
    """The broker link, as far as it is needed here."""

    async def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        """Raises: LinkUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """What an agent is to be told about one batch."""

    agent_id: UUID
    epoch: bytes
    seq: int
    answer: Answer


@dataclass(slots=True)
class _Pending:
    incarnation: UUID
    answers: list[BatchAnswer] = field(default_factory=list)


class Acknowledger:
    """Collects answers and sends them.

    Args:
        window_batches: that all agents together may have on their way.
    """

    def __init__(self, publisher: Publisher, clock: Clock, *, window_batches: int) -> None:
        self._publisher = publisher
        self._window = Window(clock, batches=window_batches)
        self._pending: dict[UUID, _Pending] = {}
        self._filled = asyncio.Event()
        self.sent = 0
        """Messages sent."""
        self.dropped = 0
        """Answers not sent because the broker was away, or too many waited."""

    def tell(self, incarnation: UUID, answers: Iterable[BatchAnswer]) -> None:
        """Queue answers that hold for this incarnation of the database."""
        for answer in answers:
            pending = self._pending_of(answer.agent_id, incarnation)
            if pending is None or len(pending.answers) >= ANSWERS_PER_AGENT_MAX:
                self.dropped += 1
                continue
            pending.answers.append(answer)

    def tell_incarnation(self, agent_id: UUID, incarnation: UUID) -> None:
        """Queue word of the incarnation in force, with no answer to any batch."""
        self._pending_of(agent_id, incarnation)

    def _pending_of(self, agent_id: UUID, incarnation: UUID) -> _Pending | None:
        """What waits for the agent in this incarnation; None where too many agents wait."""
        pending = self._pending.get(agent_id)
        if pending is None or pending.incarnation != incarnation:
            if pending is None and len(self._pending) >= AGENTS_MAX:
                return None
            pending = self._pending[agent_id] = _Pending(incarnation)
        self._filled.set()
        return pending

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            pending, self._pending = self._pending, {}
            self._window.note({agent_id: len(own.answers) for agent_id, own in pending.items()})
            grants = self._window.grants()
            for agent_id, own in pending.items():
                try:
                    payload = messages.encode(ack_of(own.incarnation, own.answers, grants.of(agent_id)))
                    await self._publisher.publish(topics.down(agent_id, "ack"), payload)
                    self.sent += 1
                except LinkUnavailable:
                    self.dropped += len(own.answers)


def ack_of(incarnation: UUID, answers: Iterable[BatchAnswer], window_batches: int) -> Ack:
    """One message from the answers to one agent."""
    by_answer: dict[Answer, set[tuple[str, int]]] = {}
    for one in answers:
        by_answer.setdefault(one.answer, set()).add((one.epoch.hex(), one.seq))
    acked = by_answer.get(Answer.COMMITTED, set()) | by_answer.get(Answer.KNOWN, set())
    lacking = by_answer.get(Answer.DICTIONARY, set())
    return Ack(
        incarnation=str(incarnation),
        acked=ranges(acked),
        refused=[
            Refusal(epoch, seq, answer.value)
            for answer in (Answer.CONFLICT, Answer.NOT_YOURS, Answer.CORRUPT, Answer.UNSUPPORTED_VERSION)
            for epoch, seq in sorted(by_answer.get(answer, ()))
        ],
        later=ranges(by_answer.get(Answer.LATER, set()) | lacking),
        dictionary=sorted({epoch for epoch, _ in lacking}),
        physical=ranges(by_answer.get(Answer.PHYSICAL, set())),
        window_batches=window_batches,
    )


def ranges(batches: Iterable[tuple[str, int]]) -> list[EpochRange]:
    """Batches (epoch, seq) as the fewest ranges."""
    found: list[EpochRange] = []
    for epoch, seq in sorted(batches):
        if found and found[-1].epoch == epoch and found[-1].last + 1 == seq:
            found[-1] = EpochRange(epoch, found[-1].first, seq)
        else:
            found.append(EpochRange(epoch, seq, seq))
    return found
