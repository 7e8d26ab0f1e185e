"""Lanes: one bounded queue and one worker for each kind of message, so that none delays another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias
from uuid import UUID

from shared import messages, wire

log = logging.getLogger(__name__)

LANE_BYTES_MAX: Mapping[str, int] = {
    "data": wire.MESSAGE_BYTES_MAX,
    "state": messages.MESSAGE_BYTES_MAX,
    "live": 1024 * 1024,
    "reply": messages.MESSAGE_BYTES_MAX,
    "time": 4096,
}
"""Largest message of each lane that is read."""
WAITING_BYTES_MAX = 64 * 1024 * 1024
"""Of one lane, besides the bound on messages."""


@dataclass(frozen=True, slots=True)
class UpMessage:
    """A message of an agent."""

    agent_id: UUID
    lane: str
    payload: bytes
    retain: bool


Handler: TypeAlias = Callable[[UpMessage], Awaitable[None]]


@dataclass(slots=True)
class LaneCounts:
    """What happened to a lane's messages since the hub started."""

    received: int = 0
    dropped: int = 0
    oversized: int = 0
    failed: int = 0


@dataclass(slots=True)
class Lane:
    """The messages of one kind, and who works on them, one after the other."""

    name: str
    handler: Handler
    queue: asyncio.Queue[UpMessage]
    bytes_max: int
    counts: LaneCounts = field(default_factory=LaneCounts)
    dropping: bool = False
    waiting_bytes: int = 0

    def offer(self, message: UpMessage) -> None:
        """Queue the message, or drop and count it. Never blocks."""
        if len(message.payload) > self.bytes_max:
            self.counts.oversized += 1
            log.warning(
                "event=message_oversized lane=%s agent_id=%s bytes=%d",
                self.name,
                message.agent_id,
                len(message.payload),
            )
            return
        self.counts.received += 1
        if self.queue.full() or self.waiting_bytes + len(message.payload) > WAITING_BYTES_MAX:
            self.counts.dropped += 1
            if not self.dropping:
                log.warning("event=lane_dropping lane=%s waiting=%d", self.name, self.queue.qsize())
            self.dropping = True
            return
        self.waiting_bytes += len(message.payload)
        self.queue.put_nowait(message)

    async def work(self) -> None:
        """Hand messages to the handler until cancelled."""
        while True:
            message = await self.queue.get()
            self.waiting_bytes -= len(message.payload)
            if self.dropping and self.queue.empty():
                log.info("event=lane_recovered lane=%s dropped_total=%d", self.name, self.counts.dropped)
                self.dropping = False
            try:
                await self.handler(message)
            except Exception:  # the lane's supervisor: one bad message must not end the lane
                self.counts.failed += 1
                log.exception("event=message_failed lane=%s agent_id=%s", self.name, message.agent_id)
