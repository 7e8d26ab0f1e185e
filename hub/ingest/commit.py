"""One group, one transaction: ledger, dictionary, readings, what is set aside, dirty minutes.

Either all of it is committed or nothing, so whoever dies in between leaves the group as it was: unacknowledged, and to
be offered again. What was committed and not acknowledged is found in the ledger when it is offered again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

import numpy as np

from hub.database.pool import Connection
from hub.ingest import beside, ledger, posts, records, store, streams
from hub.ingest.answers import NOTHING, Answer, Settled
from hub.ingest.arrivals import Arrival, Item, Outcome, Submission
from hub.ingest.asides import Source, asides_of
from hub.ingest.catalogue import Catalogue, EpochKey, Known
from hub.ingest.copy import Rows
from hub.ingest.dictionary import Verdict
from hub.ingest.judgement import Judgement, rows_of
from hub.ingest.ledger import LedgerEntry
from hub.ingest.store import NO_LOSERS, Losers
from hub.ingest.streams import StreamKey, StreamPlace, Turn
from hub.ingest.verdict import Ask, Bounds, Naming, Part, judge
from shared.columns import DecodedColumns
from shared.errors import StorageUnavailable
from shared.readings import Int64
from shared.records import Dictionary, Record
from shared.wire import Header

_ANSWERS = {Ask.DICTIONARY: Answer.DICTIONARY, Ask.LATER: Answer.LATER, Ask.PHYSICAL: Answer.PHYSICAL}


Checkpoint = Callable[[str], Awaitable[None]]
"""Called at the places where a crash matters; tests die there."""


async def no_checkpoint(place: str) -> None:
    """Go on."""


class GroupCommit:
    """The transaction of one group; used once.

    Args:
        items: batches and posts, at most `GROUP_READINGS_MAX` readings in all.
        catalogue: its epochs are those of the group, opened beforehand.
        window_us: earliest and latest time of readings that are stored; partitions are there for it.
        careful: whether to expect readings that are stored already.
    """

    def __init__(
        self, items: Sequence[Item], catalogue: Catalogue, *, window_us: tuple[int, int], careful: bool
    ) -> None:
        self._items = items
        self._catalogue = catalogue
        self._window_us = window_us
        self._careful = careful
        self._settled: dict[int, Settled] = {}
        self._series_stored: Int64 = np.empty(0, np.int64)

    @property
    def settled(self) -> list[Settled]:
        """The outcome of each item, in order; after `run`."""
        return [self._settled[place] for place in range(len(self._items))]

    @property
    def series_stored(self) -> Int64:
        """int64, ids of the series that got readings; after `run`."""
        return self._series_stored

    async def run(self, connection: Connection) -> None:
        """Do it, in the connection's transaction. Nothing counts before that is committed.

        Raises: UniqueViolationError where `careful` would have been right; whatever the database raises.
        """
        epoch_of = self._epoch_of()
        await self._catalogue.enter(connection, sorted({epoch_of[key] for key in self._keys() if key in epoch_of}))
        await self._refuse_strangers(connection, epoch_of)
        await self._settle_known(connection, epoch_of)
        await self._take_released(connection)
        streamed = await self._open_streams(connection)
        notes = await self._add_dictionaries(connection, epoch_of)
        entries = [
            LedgerEntry(epoch_of[self._key(place)], self._header(place), taken_through_us=self._through_us(place))
            for place, _ in notes
        ]
        entries += await self._store(connection, await self._judge(connection, epoch_of))
        if entries:
            await ledger.enter(connection, entries)
        await self._advance_streams(connection, streamed)
        await records.add_records(
            connection, [(epoch_of[self._key(place)], self._header(place), record) for place, record in notes]
        )

    def _epoch_of(self) -> dict[EpochKey, int]:
        return {key: self._catalogue.epochs[key] for key in self._keys() if key in self._catalogue.epochs}

    def _keys(self) -> list[EpochKey]:
        return [(item.header.agent_id, item.header.epoch) for item in self._items if isinstance(item, Arrival)]

    def _open(self) -> list[tuple[int, Item]]:
        return [(place, item) for place, item in enumerate(self._items) if place not in self._settled]

    def _key(self, place: int) -> EpochKey:
        header = self._header(place)
        return header.agent_id, header.epoch

    def _header(self, place: int) -> Header:
        item = self._items[place]
        assert isinstance(item, Arrival)
        return item.header

    def _through_us(self, place: int) -> int:
        item = self._items[place]
        return item.taken_through_us if isinstance(item, Arrival) else 0

    def _settle(self, place: int, answer: Answer, outcome: Outcome = NOTHING) -> None:
        self._settled[place] = Settled(self._items[place], answer, outcome)

    async def _refuse_strangers(self, connection: Connection, epoch_of: dict[EpochKey, int]) -> None:
        agents = await self._catalogue.load_agents(connection, {agent_id for agent_id, _ in self._keys()})
        for place, item in self._open():
            if not isinstance(item, Arrival):
                continue
            agent = agents.get(item.agent_id)
            welcome = agent is not None and (agent.is_welcome or item.imported)
            if self._key(place) not in epoch_of or not welcome:
                silent = agent is not None and not agent.is_answered
                self._settle(place, Answer.UNANSWERED if silent else Answer.NOT_YOURS)

    async def _settle_known(self, connection: Connection, epoch_of: dict[EpochKey, int]) -> None:
        wanted = {
            place: (epoch_of[self._key(place)], item.header.seq)
            for place, item in self._open()
            if isinstance(item, Arrival)
        }
        known = await ledger.look_up(connection, list(wanted.values())) if wanted else {}
        for place, identity in wanted.items():
            checksum = self._header(place).checksum
            if identity in known:
                self._settle(place, Answer.KNOWN if known[identity] in (checksum, None) else Answer.CONFLICT)

    async def _take_released(self, connection: Connection) -> None:
        """Take back what had been set aside; what is not there any more has been dealt with already."""
        submissions = [(place, item) for place, item in self._open() if isinstance(item, Submission)]
        wanted = {place: item.released_id for place, item in submissions if item.released_id is not None}
        there = await store.let_go(connection, list(wanted.values())) if wanted else set()
        for place, released_id in wanted.items():
            if released_id not in there:
                self._settle(place, Answer.COMMITTED)

    async def _open_streams(self, connection: Connection) -> list[tuple[int, StreamKey, StreamPlace]]:
        """Settle the messages of streams that are known, or come too early. Returns: places of those that go in."""
        found = [
            (place, item.stream, item.place)
            for place, item in self._open()
            if isinstance(item, Submission) and item.stream is not None and item.place is not None
        ]
        reached = await streams.reached(connection, {key for _, key, _ in found})
        going_in = []
        for (at, key, place), turn in zip(found, streams.turns(found, reached), strict=True):
            if turn is Turn.NEXT:
                going_in.append((at, key, place))
            else:
                answer = Answer.COMMITTED if turn is Turn.KNOWN else Answer.LATER
                self._settle(at, answer, Outcome(0, self._items[at].readings))
        return going_in

    async def _advance_streams(
        self, connection: Connection, streamed: Sequence[tuple[int, StreamKey, StreamPlace]]
    ) -> None:
        """Raises: StorageUnavailable where one of the messages cannot go in yet: none behind it may."""
        if any(self._settled[at].answer is not Answer.COMMITTED for at, _, _ in streamed):
            raise StorageUnavailable("a sensor's signals are not registered yet")
        await streams.advance(connection, {key: place.seq for _, key, place in streamed})

    async def _add_dictionaries(
        self, connection: Connection, epoch_of: dict[EpochKey, int]
    ) -> list[tuple[int, Record]]:
        """Add to the dictionaries, and settle all batches that are not readings; those to be noted."""
        notes: list[tuple[int, Record]] = []
        for place, item in self._open():
            if isinstance(item, Submission) or isinstance(item.content, DecodedColumns):
                continue
            record = item.content
            epoch_id = epoch_of[self._key(place)]
            if isinstance(record, Dictionary):
                if await records.contradicts(connection, epoch_id, record):
                    self._settle(place, Answer.CORRUPT)
                    continue
                await records.add_dictionary(connection, epoch_id, record)
                self._catalogue.outdate(epoch_id)
            notes.append((place, record))
            self._settle(place, Answer.COMMITTED)
        return notes

    async def _judge(self, connection: Connection, epoch_of: dict[EpochKey, int]) -> Judgement:
        """Decide over all that is still open; settle what is to come again."""
        still = self._open()
        epochs = {epoch_of[self._key(place)] for place, item in still if isinstance(item, Arrival)}
        submissions = [item for _, item in still if isinstance(item, Submission)]
        known = await self._catalogue.load(connection, epochs, [(one.sensor_id, one.signals) for one in submissions])
        named = {one.session_id for one in submissions if one.session_id is not None}
        takers = await posts.open_sessions(connection, named)
        sources = [self._source(item, known, epoch_of, takers) for _, item in still]
        judged = judge(
            [source.part for source in sources], known.profiles.table, Bounds(*self._window_us, known.dropped_us)
        )
        places = [place for place, _ in still]
        for part, ask in judged.asks.items():
            self._settle(places[part], _ANSWERS[ask])
        return Judgement(places, [item for _, item in still], sources, judged, known.profiles)

    def _source(self, item: Item, known: Known, epoch_of: dict[EpochKey, int], takers: set[UUID]) -> Source:
        if isinstance(item, Submission):
            content = DecodedColumns(item.columns, None)
            dictionary, naming = known.posts[item.sensor_id, item.signals], _naming(item, takers)
            return Source.of_post(Part(content, dictionary, naming=naming, session_id=item.session_id), item.origin)
        assert isinstance(item.content, DecodedColumns)
        epoch_id = epoch_of[item.header.agent_id, item.header.epoch]
        part = Part(item.content, known.dictionaries[epoch_id], item.placing)
        segment = item.header.clock_segment
        return Source(part, item.agent_id, epoch_id, item.header.seq, segment, item.correction_us)

    async def _store(self, connection: Connection, judgement: Judgement) -> list[LedgerEntry]:
        """Store and set aside; settle the items. Returns: what is to be entered into the ledger."""
        judged = judgement.judged
        keep = np.flatnonzero(judged.verdict == Verdict.STORE)
        first_id = await store.draw_ids(connection) if len(keep) else 0
        rows = rows_of(judged, keep, first_id, judgement.profiles)
        losers = await self._write(connection, rows) if len(keep) else NO_LOSERS
        judged.verdict[keep[losers.conflicting]] = Verdict.CONFLICTING_VALUE
        if len(losers.repeated):
            await beside.note_repeats(connection, judgement, keep[losers.repeated])
        stored = np.ones(len(keep), np.bool_)
        stored[losers.repeated] = False
        stored[losers.conflicting] = False
        rows, keep = rows.chosen(stored), keep[stored]
        if len(keep):
            await store.mark_dirty(connection, rows, judged.part[keep])
            self._series_stored = store.distinct(rows.series_id).astype(np.int64)
            await beside.note_stored(connection, judgement, keep, rows)
        asides = asides_of(judged, judgement.sources, judgement.profiles.ids)
        if asides:
            await store.set_aside(connection, asides)
        return self._count(judgement, keep, rows)

    async def _write(self, connection: Connection, rows: Rows) -> Losers:
        if self._careful:
            return await store.stage_in(connection, rows)
        await store.copy_in(connection, rows)
        return NO_LOSERS

    def _count(self, judgement: Judgement, keep: Int64, rows: Rows) -> list[LedgerEntry]:
        judged, size = judgement.judged, len(judgement.places)
        total = np.bincount(judged.part, minlength=size)
        stored = np.bincount(judged.part[keep], minlength=size)
        aside = np.bincount(judged.part[judged.verdict != Verdict.STORE], minlength=size)
        first = np.searchsorted(judged.part[keep], np.arange(size))
        last = np.searchsorted(judged.part[keep], np.arange(size), side="right") - 1
        entries = []
        for part, item in judgement.going_in():
            new, kept_aside = int(stored[part]), int(aside[part])
            repeated = int(total[part]) - new - kept_aside
            self._settle(judgement.places[part], Answer.COMMITTED, Outcome(new, repeated, kept_aside))
            epoch_id = judgement.sources[part].epoch_id
            if isinstance(item, Arrival) and epoch_id is not None:
                entries.append(
                    LedgerEntry(
                        epoch_id,
                        item.header,
                        int(total[part]),
                        new,
                        repeated,
                        kept_aside,
                        int(rows.id[first[part]]) if new else None,
                        int(rows.id[last[part]]) if new else None,
                        item.taken_through_us,
                    )
                )
        return entries


def _naming(item: Submission, takers: set[UUID]) -> Naming:
    if item.session_id is None:
        return Naming.NONE
    return Naming.OPEN if item.session_id in takers else Naming.ARCHIVED
