"""What must be there before a group is written: epochs, clocks, sensors, partitions. In transactions of their own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

import numpy as np

from hub.database.partitions import NEW_PER_CALL_MAX, Partitions
from hub.database.pool import Pool
from hub.events.change import begin_change
from hub.events.event import Actor, ActorType
from hub.ingest.arrivals import Arrival, Item, Submission
from hub.ingest.catalogue import Catalogue
from hub.ingest.clocks import Clocks, SegmentKey
from hub.ingest.connection import OwnConnection
from hub.ingest.correction import Placing
from hub.ingest.register import complete_series, open_epochs, open_signals, register
from shared.columns import DecodedColumns
from shared.errors import StorageUnavailable
from shared.readings import Int64
from shared.records import Dictionary, SeriesEntry

log = logging.getLogger(__name__)

DAY_US = 86_400_000_000


class Database(Protocol):
    """What is known of the database (`hub.database.storage.Storage`)."""

    @property
    def pool(self) -> Pool: ...

    @property
    def connects(self) -> int: ...

    @property
    def incarnation(self) -> UUID: ...

    @property
    def partitions(self) -> Partitions: ...


class Preparation:
    """Makes what a group needs; all of it is idempotent.

    Args:
        sensors_max: sensors that one agent may have registered for it.
    """

    def __init__(self, database: Database, catalogue: Catalogue, clocks: Clocks, *, sensors_max: int) -> None:
        self._database = database
        self._catalogue = catalogue
        self._clocks = clocks
        self._sensors_max = sensors_max

    async def prepare(self, items: Sequence[Item], window_us: tuple[int, int], own: OwnConnection) -> Sequence[Item]:
        """What must be there before the transaction.

        Returns: the items with their times corrected.
        Raises: StorageUnavailable.
        """
        arrivals = [item for item in items if isinstance(item, Arrival)]
        keys = dict.fromkeys((one.header.agent_id, one.header.epoch) for one in arrivals)
        new = [key for key in keys if key not in self._catalogue.epochs]
        if new:
            async with own.transaction() as connection:
                imported = {(one.header.agent_id, one.header.epoch) for one in arrivals if one.imported}
                self._catalogue.epochs.update(await open_epochs(connection, new, imported))
        items = await self._placed(items, own)
        await self._prepare_partitions(items, window_us)
        for arrival in arrivals:
            if isinstance(arrival.content, Dictionary) and arrival.content.series:
                await self._register(arrival, arrival.content.series)
        for item in items:
            if isinstance(item, Submission) and not self._catalogue.has_post((item.sensor_id, item.signals)):
                async with own.transaction() as connection:
                    await open_signals(connection, item.sensor_id, item.signals)
        return items

    async def _register(self, arrival: Arrival, entries: Sequence[SeriesEntry]) -> None:
        agent_id, imported = arrival.agent_id, arrival.imported
        actor, now = Actor(ActorType.AGENT, agent_id), datetime.now(UTC)
        async with begin_change(self._database.pool, actor, now) as change:
            for event in await register(
                change.connection, agent_id, entries, sensors_max=self._sensors_max, imported=imported
            ):
                change.record(event)

    async def _placed(self, items: Sequence[Item], own: OwnConnection) -> Sequence[Item]:
        """Correct the times, deciding over clock segments where need be."""
        found: dict[SegmentKey, int | Placing] = {}
        for key, arrivals in self._clocks.undecided(items).items():
            epoch_id = self._catalogue.epochs.get(key[:2])
            if epoch_id is None:  # of an agent that is not enrolled: it will be refused
                continue
            async with own.transaction() as connection:
                found[key] = await self._clocks.decide(connection, epoch_id, arrivals)
        self._clocks.remember(found)
        return self._clocks.placed(items, found)

    async def _prepare_partitions(self, items: Sequence[Item], window_us: tuple[int, int]) -> None:
        times_us = [_timestamps(item) for item in items if item.readings]
        if not times_us:
            return
        together_us = np.concatenate(times_us) if len(times_us) > 1 else times_us[0]
        first_us, last_us = max(int(together_us.min()), window_us[0]), min(int(together_us.max()), window_us[1])
        if first_us > last_us or self._database.partitions.has(first_us, last_us):
            return
        days = np.array(sorted(_days(together_us)), np.int64)
        days = days[(days >= window_us[0] // DAY_US) & (days <= window_us[1] // DAY_US)]
        for start in range(0, len(days), NEW_PER_CALL_MAX):
            some = days[start : start + NEW_PER_CALL_MAX] * DAY_US
            await self._database.partitions.ensure(np.clip(some, *window_us))

    async def complete(self, later: Sequence[Arrival], own: OwnConnection) -> None:
        """Make the series that these batches, which are to come again, were waiting for."""
        keys = {(item.header.agent_id, item.header.epoch) for item in later}
        epoch_ids = sorted(self._catalogue.epochs[key] for key in keys if key in self._catalogue.epochs)
        if not epoch_ids:
            return
        try:
            async with own.transaction() as connection:
                await complete_series(connection, epoch_ids)
        except StorageUnavailable as error:
            log.info("event=series_not_completed reason=%r", error.message)
        for epoch_id in epoch_ids:
            self._catalogue.outdate(epoch_id)


def _days(times_us: Int64) -> set[int]:
    """The days since 1970 that times, at least one, fall into."""
    first, last = int(times_us.min()) // DAY_US, int(times_us.max()) // DAY_US
    return {first, last} if last - first < 2 else set(np.unique(times_us // DAY_US).tolist())


def _timestamps(item: Item) -> Int64:
    if isinstance(item, Submission):
        return item.columns.timestamp_us
    assert isinstance(item.content, DecodedColumns)
    return item.content.columns.timestamp_us
