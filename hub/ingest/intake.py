"""What waits to be written.

Invariants
    * Everything of one agent (or one sensor's posts) is in one lane, in the order in which it came, and only one writer
      at a time works on a lane. So a dictionary is written before what refers to it, and two writers never meet in
      the same rows.
    * A batch that waits already is not queued again; its acknowledgement answers both.
    * At most `readings_max` readings and `items_max` items wait. Beyond that an agent's batches wait in the broker
      link's own bounded lane, and posts are answered with 503.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TypeAlias
from uuid import UUID

from hub.ingest.answers import Settled
from hub.ingest.arrivals import Arrival, Item, Outcome

GROUP_READINGS_MAX = 16_384
"""Readings in one transaction: what one block of ids covers."""
GROUP_ITEMS_MAX = 1024
GROUP_LANES_MAX = 256

Identity: TypeAlias = tuple[UUID, bytes, int]


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """An item on its way, and who waits for it: for the outcome of a post, or for what becomes of an imported batch.

    Nobody waits for what an agent itself sends: it gets an acknowledgement.
    """

    item: Item
    outcome: asyncio.Future[Outcome] | None = None
    settled: asyncio.Future[Settled] | None = None

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for it."""
        return self.outcome is not None or self.settled is not None

    def fail(self, error: Exception) -> None:
        """Tell whoever waits that nothing came of it."""
        for future in (self.outcome, self.settled):
            if future is not None and not future.done():
                future.set_exception(error)

    @property
    def lane(self) -> UUID:
        """What orders it: its agent or its sensor."""
        return self.item.agent_id if isinstance(self.item, Arrival) else self.item.sensor_id

    @property
    def identity(self) -> Identity | None:
        """A batch's; None for a post."""
        if not isinstance(self.item, Arrival):
            return None
        header = self.item.header
        return header.agent_id, header.epoch, header.seq


@dataclass(slots=True)
class _Lane:
    entries: deque[Entry] = field(default_factory=deque)
    busy: bool = False


class Intake:
    """The queue in front of the writers. For one event loop."""

    def __init__(self, *, readings_max: int, items_max: int) -> None:
        self._readings_max = readings_max
        self._items_max = items_max
        self._lanes: dict[UUID, _Lane] = {}
        self._ready: deque[UUID] = deque()
        self._identities: set[Identity] = set()
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self.readings = 0
        """Readings that wait or are being written."""
        self.items = 0
        """Items that wait or are being written."""
        self.repeats = 0
        """Batches that came again while they waited."""

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be added."""
        return self.readings >= self._readings_max or self.items >= self._items_max

    async def room(self) -> None:
        """Wait until there is room."""
        while self.is_full:
            self._drained.clear()
            await self._drained.wait()

    def add(self, entry: Entry) -> bool:
        """Queue an entry. The caller has looked whether there is room. Returns: whether it does not wait already."""
        identity = entry.identity
        if identity is not None:
            if identity in self._identities:
                self.repeats += 1
                return False
            self._identities.add(identity)
        self.readings += entry.item.readings
        self.items += 1
        lane = self._lanes.setdefault(entry.lane, _Lane())
        lane.entries.append(entry)
        if not lane.busy and len(lane.entries) == 1:
            self._ready.append(entry.lane)
            self._filled.set()
        return True

    async def take(self) -> list[Entry]:
        """Wait for something and take what is there, up to the bounds of a group. Its lanes are then the taker's."""
        while not self._ready:
            self._filled.clear()
            await self._filled.wait()
        group: list[Entry] = []
        readings = 0
        lanes = 0
        while self._ready and lanes < GROUP_LANES_MAX and len(group) < GROUP_ITEMS_MAX:
            lane = self._lanes[self._ready[0]]
            if group and readings + lane.entries[0].item.readings > GROUP_READINGS_MAX:
                break
            self._ready.popleft()
            lane.busy = True
            lanes += 1
            while lane.entries and len(group) < GROUP_ITEMS_MAX:
                if group and readings + lane.entries[0].item.readings > GROUP_READINGS_MAX:
                    break
                entry = lane.entries.popleft()
                readings += entry.item.readings
                group.append(entry)
        return group

    def done(self, group: list[Entry]) -> None:
        """The entries have been dealt with; give their lanes back."""
        for entry in group:
            self.readings -= entry.item.readings
            self.items -= 1
            identity = entry.identity
            if identity is not None:
                self._identities.discard(identity)
        for key in dict.fromkeys(entry.lane for entry in group):
            lane = self._lanes[key]
            lane.busy = False
            if lane.entries:
                self._ready.append(key)
                self._filled.set()
            else:
                del self._lanes[key]
        if not self.is_full:
            self._drained.set()
