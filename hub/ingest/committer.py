"""One group on its way into the database: prepared, committed, acknowledged, in this order."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from uuid import UUID

import numpy as np

from hub.ingest.acknowledge import Acknowledger, BatchAnswer
from hub.ingest.announce import Announcer
from hub.ingest.answers import Answer, Settled
from hub.ingest.arrivals import Arrival, Item
from hub.ingest.catalogue import Catalogue
from hub.ingest.clocks import Clocks
from hub.ingest.commit import Checkpoint, GroupCommit
from hub.ingest.connection import OwnConnection
from hub.ingest.lookup import Reach
from hub.ingest.prepare import Database, Preparation
from hub.ingest.quick import QuickGroup, plan
from hub.ingest.store import distinct
from hub.ingest.tally import Tally
from hub.settings import HubSettings
from shared.clock import Clock
from shared.errors import StorageUnavailable

_DAY_US = 86_400_000_000


class Committer:
    """Commits groups. What is usual goes the quick way, on what the catalogue in memory says; the rest under locks.

    Args:
        acknowledger: told what was committed, and what was refused.
        announcer: told what was stored.
        checkpoint: awaited before and after each commit; tests die there.
    """

    def __init__(
        self,
        settings: HubSettings,
        database: Database,
        clock: Clock,
        *,
        acknowledger: Acknowledger,
        announcer: Announcer,
        tally: Tally,
        checkpoint: Checkpoint,
    ) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self._acknowledger = acknowledger
        self._announcer = announcer
        self._tally = tally
        self._checkpoint = checkpoint
        self._catalogue = Catalogue(Reach(settings.future_skew_s, settings.past_limit_days))
        self._clocks = Clocks(clock)
        self._preparation = Preparation(
            database, self._catalogue, self._clocks, sensors_max=settings.sensors_per_agent_max
        )
        self._last_commit_s: float | None = None

    @property
    def last_commit_age_s(self) -> float | None:
        """None before the first commit."""
        return None if self._last_commit_s is None else self._clock.monotonic_s() - self._last_commit_s

    def forget(self) -> None:
        """What is known of the catalogue may be wrong: read it anew."""
        self._catalogue.doubt()

    def run_length(self, items: Sequence[Item]) -> int:
        """How many of the first items may go together: what decides over a clock segment goes ahead of its readings."""
        return self._clocks.run_length(items)

    async def commit(self, items: Sequence[Item], own: OwnConnection, *, careful: bool) -> list[Settled]:
        """Commit a group, and acknowledge what was committed of it.

        Args:
            careful: readings go through staging, as some may be there already.

        Raises: StorageUnavailable, or whatever speaks against the group. What was committed before that stays so.
        """
        started_s = self._clock.monotonic_s()
        incarnation = self._database.incarnation
        self._catalogue.meet(incarnation, self._database.connects)
        self._clocks.meet(incarnation, self._database.connects)
        window_us = self._window_us()
        settled: dict[int, Settled] = {}
        try:
            items = await self._preparation.prepare(items, window_us, own)
            quick = None if careful else plan(items, self._catalogue, window_us)
            if quick is not None:
                settled = await self._commit_quickly(quick, items, own)
            rest = [place for place in range(len(items)) if place not in settled]
            if rest:
                left = [items[place] for place in rest]
                commit = await self._commit_slowly(left, own, window_us, careful=careful)
                settled |= dict(zip(rest, commit.settled, strict=True))
                await self._preparation.complete(_later(commit.settled), own)  # first: they come again at once
        except StorageUnavailable:
            self._catalogue.doubt()
            raise
        finally:
            if settled:  # also when only a part was committed: what was, is acknowledged
                self._acknowledge(incarnation, settled.values())
        self._last_commit_s = self._clock.monotonic_s()
        self._tally.committed(self._last_commit_s - started_s)
        return [settled[place] for place in range(len(items))]

    async def _commit_quickly(self, quick: QuickGroup, items: Sequence[Item], own: OwnConnection) -> dict[int, Settled]:
        outcomes = await quick.run(own, partial(self._checkpoint, "before commit"))
        await self._checkpoint("after commit")
        if outcomes:
            self._announcer.stored(distinct(quick.rows.series_id).astype(np.int64))
        return {place: Settled(items[place], Answer.COMMITTED, outcome) for place, outcome in outcomes.items()}

    async def _commit_slowly(
        self, items: Sequence[Item], own: OwnConnection, window_us: tuple[int, int], *, careful: bool
    ) -> GroupCommit:
        commit = GroupCommit(items, self._catalogue, window_us=window_us, careful=careful)
        async with own.transaction() as connection:
            await commit.run(connection)
            await self._checkpoint("before commit")
        await self._checkpoint("after commit")
        self._announcer.stored(commit.series_stored)
        return commit

    def _window_us(self) -> tuple[int, int]:
        now_us = self._clock.now_us()
        past_us = max(now_us - self._settings.past_limit_days * _DAY_US, 0)
        return past_us, now_us + self._settings.future_skew_s * 1_000_000

    def _acknowledge(self, incarnation: UUID, settled: Collection[Settled]) -> None:
        batches = [(one.item, one.answer) for one in settled if isinstance(one.item, Arrival)]
        told = [(item.header, answer) for item, answer in batches if not item.imported]
        self._acknowledger.tell(
            incarnation,
            [
                BatchAnswer(header.agent_id, header.epoch, header.seq, answer)
                for header, answer in told
                if answer is not Answer.UNANSWERED
            ],
        )
        self._tally.settled(settled)


def _later(settled: Collection[Settled]) -> list[Arrival]:
    return [one.item for one in settled if one.answer is Answer.LATER and isinstance(one.item, Arrival)]
