"""Takes in an exported spool, through the writers and the ledger that an agent's own batches go through.

So nothing is stored twice, however often a file is sent, and each batch gets an answer that says what became of it. A
batch that is to come later (its series are being registered, its dictionary stands further on) is kept in memory and
tried again at the end.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TypeAlias
from uuid import UUID

from hub.ingest.answers import Answer, Settled
from hub.ingest.arrivals import Arrival
from hub.ingest.records import is_storable
from hub.ingest.spool_file import Found, SpoolFile
from hub.ingest.write import IngestWriter
from shared.columns import DecodedColumns
from shared.errors import StorageUnavailable

UNDER_WAY_MAX = 128
"""Batches that wait to be committed (at most 128 KiB each)."""
DEFERRED_MAX = 256
"""Batches that are kept to be tried again; what is beyond that is reported, and finds its way with the next import."""
NAMED_MAX = 1000
TURNS_MAX = 3
PAUSE_S = 0.2
FAILED = "failed"
_SETTLED = (Answer.COMMITTED, Answer.KNOWN)
_TRIED_AGAIN = (Answer.LATER, Answer.DICTIONARY)

UnderWay: TypeAlias = tuple[Arrival, "asyncio.Future[Settled]"]


@dataclass(slots=True)
class Tally:
    """What became of a file.

    Attributes:
        outcomes: batches by answer.
        unsettled: epoch, seq and answer of the first `NAMED_MAX` batches that were not taken.
    """

    bytes: int = 0
    batches: int = 0
    unreadable_bytes: int = 0
    stored: int = 0
    repeated: int = 0
    set_aside: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    unsettled: list[tuple[str, int, str]] = field(default_factory=list)

    def count(self, arrival: Arrival, answer: str) -> None:
        """A batch got this answer."""
        self.outcomes[answer] += 1
        if answer not in _SETTLED_NAMES and len(self.unsettled) < NAMED_MAX:
            self.unsettled.append((arrival.header.epoch.hex(), arrival.header.seq, answer))


_SETTLED_NAMES = frozenset(answer.value for answer in _SETTLED)


class SpoolImport:
    """One file of one agent; used once.

    Args:
        timeout_s: how long a batch may take.
    """

    def __init__(self, writer: IngestWriter, agent_id: UUID, *, timeout_s: float) -> None:
        self._writer = writer
        self._agent_id = agent_id
        self._timeout_s = timeout_s
        self._under_way: deque[UnderWay] = deque()
        self._deferred: list[Arrival] = []
        self.tally = Tally()

    async def take(self, pieces: AsyncIterator[bytes]) -> None:
        """Take in what comes. Raises: StorageUnavailable; what was committed before that stays."""
        file = SpoolFile()
        async for piece in pieces:
            self.tally.bytes += len(piece)
            for found in file.feed(piece):
                await self._add(found)
            self.tally.unreadable_bytes = file.unreadable_bytes
            await asyncio.sleep(0)
        for found in file.end():
            await self._add(found)
        self.tally.unreadable_bytes = file.unreadable_bytes

    async def finish(self) -> None:
        """Wait for all that was taken in. Raises: StorageUnavailable."""
        await self._settle(down_to=0)
        for _ in range(TURNS_MAX):
            if not self._deferred:
                return
            await asyncio.sleep(PAUSE_S)
            again, self._deferred = self._deferred, []
            for arrival in again:
                await self._bring(arrival)
            await self._settle(down_to=0)
        for arrival in self._deferred:
            self.tally.count(arrival, Answer.LATER.value)

    async def _add(self, found: Found) -> None:
        self.tally.batches += 1
        batch = found.batch
        if batch is None:
            self.tally.outcomes[Answer.UNSUPPORTED_VERSION.value] += 1
            return
        arrival = Arrival(batch.header, batch.content, 0, imported=True)
        if batch.header.agent_id != self._agent_id:
            self.tally.count(arrival, Answer.NOT_YOURS.value)
        elif not isinstance(batch.content, DecodedColumns) and not is_storable(batch.content):
            self.tally.count(arrival, Answer.CORRUPT.value)
        else:
            await self._bring(arrival)

    async def _bring(self, arrival: Arrival) -> None:
        await self._settle(down_to=UNDER_WAY_MAX - 1)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._writer.room()
        except TimeoutError:
            raise StorageUnavailable("there is no room for more", hint="send the file again") from None
        settled = self._writer.bring(arrival)
        if settled is not None:
            self._under_way.append((arrival, settled))
        else:  # the agent sends the same just now, or the file has it twice
            self._defer(arrival)

    async def _settle(self, *, down_to: int) -> None:
        """Wait until no more than so many are under way."""
        while len(self._under_way) > down_to:
            arrival, future = self._under_way.popleft()
            try:
                async with asyncio.timeout(self._timeout_s):
                    settled = await future
            except TimeoutError:
                raise StorageUnavailable("a batch was not stored in time", hint="send the file again") from None
            except StorageUnavailable:
                raise
            except Exception:  # noqa: BLE001 - whatever speaks against this batch is in the log; the others go on
                self.tally.count(arrival, FAILED)
            else:
                self._note(settled)

    def _note(self, settled: Settled) -> None:
        assert isinstance(settled.item, Arrival)
        if settled.answer in _TRIED_AGAIN:
            self._defer(settled.item)
            return
        self.tally.count(settled.item, settled.answer.value)
        self.tally.stored += settled.outcome.new
        self.tally.repeated += settled.outcome.repeated
        self.tally.set_aside += settled.outcome.set_aside

    def _defer(self, arrival: Arrival) -> None:
        """Try a batch again at the end, if there is room for it until then."""
        if len(self._deferred) < DEFERRED_MAX:
            self._deferred.append(arrival)
        else:
            self.tally.count(arrival, Answer.LATER.value)
