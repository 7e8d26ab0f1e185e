"""The hub's clock against ours: a few exchanges over MQTT, the quickest of which counts, as in NTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from shared.clock import Clock
from shared.messages import TimeAnswer, TimeRequest, encode
from shared.records import ClockRecord

EXCHANGES = 8
EXCHANGE_TIMEOUT_S = 2.0
MISSED_MAX = 2
"""Unanswered in a row, the measurement is given up: the hub is away."""
PAUSE_S = 0.02

Publish = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Offset:
    """Hub minus agent, ± half the round trip."""

    segment: int
    offset_us: int
    uncertainty_us: int
    measured_us: int


@dataclass(frozen=True, slots=True)
class _Opened:
    segment: int
    opened_us: int
    step_us: int


class OffsetMeter:
    """Measures, segment by segment.

    Args:
        started_us: when the first segment opened.
    """

    def __init__(self, clock: Clock, *, started_us: int) -> None:
        self._clock = clock
        self._opened = _Opened(clock.segment, started_us, 0)
        self._asked: dict[int, asyncio.Future[tuple[TimeAnswer, int]]] = {}
        self.latest: Offset | None = None

    def stepped(self, step_us: int) -> None:
        """The system's clock was set, and the clock has just opened a new segment."""
        self._opened = _Opened(self._clock.segment, self._clock.now_us(), step_us)

    @property
    def is_due(self) -> bool:
        """Whether the running segment has not been measured yet."""
        return self.latest is None or self.latest.segment != self._clock.segment

    def answered(self, answer: TimeAnswer) -> None:
        """Take note of an answer; one that nobody waits for any more is ignored."""
        arrived_us = self._clock.now_us()
        asked = self._asked.get(answer.sent_us)
        if asked is not None and not asked.done():
            asked.set_result((answer, arrived_us))

    async def measure(self, publish: Publish) -> ClockRecord | None:
        """Ask the hub for its time. Returns: the record for the spool; None if the hub does not answer."""
        best: Offset | None = None
        missed = 0
        for _ in range(EXCHANGES):
            found = await self._exchange(publish)
            missed = missed + 1 if found is None else 0
            if missed >= MISSED_MAX:
                break
            if found is not None and (best is None or found.uncertainty_us < best.uncertainty_us):
                best = found
            await asyncio.sleep(PAUSE_S)
        if best is None or best.segment != self._clock.segment:
            return None
        self.latest = best
        opened = self._opened
        if opened.segment != best.segment:  # stepped, and nobody has said so
            self._opened = opened = _Opened(best.segment, best.measured_us, 0)
        return ClockRecord(
            segment=best.segment,
            opened_us=opened.opened_us,
            offset_us=best.offset_us,
            uncertainty_us=best.uncertainty_us,
            measured_us=best.measured_us,
            step_us=opened.step_us,
        )

    async def _exchange(self, publish: Publish) -> Offset | None:
        segment, sent_us = self._clock.segment, self._clock.now_us()
        waiter = self._asked[sent_us] = asyncio.get_running_loop().create_future()
        try:
            await publish(encode(TimeRequest(segment, sent_us)))
            async with asyncio.timeout(EXCHANGE_TIMEOUT_S):
                answer, arrived_us = await waiter
        except TimeoutError:
            return None
        finally:
            del self._asked[sent_us]
        if segment != self._clock.segment:
            return None
        there_us, back_us = answer.received_us - sent_us, answer.answered_us - arrived_us
        round_trip_us = max(arrived_us - sent_us - (answer.answered_us - answer.received_us), 0)
        return Offset(segment, (there_us + back_us) // 2, (round_trip_us + 1) // 2, arrived_us)
