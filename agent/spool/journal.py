"""The running epoch: gives batches their identity and keeps its dictionary. Works inside the writer's transactions."""

from __future__ import annotations

import secrets
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar
from uuid import UUID

import msgspec

from agent.spool.batch import PendingBatch, StoredBatch
from agent.spool.epochs import Epoch
from agent.spool.names import NameBook, Names
from agent.spool.store import Row, Store
from shared import wire
from shared.clock import Clock
from shared.records import (
    ADOPTED_FROM,
    ENTRIES_MAX,
    ClockRecord,
    Dictionary,
    Gap,
    Opening,
    ProfileEntry,
    Record,
    SeriesEntry,
)

DICTIONARY_BYTES_MAX = 60_000
"""A dictionary batch fits a message even where names do not compress."""

T = TypeVar("T", bound=Hashable)
E = TypeVar("E", SeriesEntry, ProfileEntry)


@dataclass(frozen=True, slots=True)
class Place:
    """How far the epoch has come, to return to when a transaction fails.

    Attributes:
        segment: the clock segment in whose time `taken_through_us` is; 0 while that is another epoch's.
    """

    ref: int
    epoch: bytes
    seq: int
    taken_through_us: int
    adopted: int
    segment: int = 0


class Journal:
    """The batches of one run of the agent.

    Args:
        store: where they go; every method that writes is called inside one of its transactions.
    """

    def __init__(self, store: Store, *, agent_id: UUID, clock: Clock, version: str, host: str) -> None:
        self.names = NameBook(store)
        self._store = store
        self._agent_id = agent_id
        self._clock = clock
        self._version = version
        self._host = host
        self._at = Place(0, b"", 0, 0, 0)
        self._own = Names()
        self._adopted: dict[Hashable, int] = {}
        self._generation = 0
        self._fresh: list[StoredBatch] = []
        self.clock_record: ClockRecord | None = None
        """What was said last of the running clock segment; another epoch of this process has to say it again."""

    @property
    def epoch(self) -> bytes:
        """16 bytes, drawn when it was opened."""
        return self._at.epoch

    @property
    def ref(self) -> int:
        """The epoch's row in the store."""
        return self._at.ref

    @property
    def last_seq(self) -> int:
        """Given out last."""
        return self._at.seq

    @property
    def place(self) -> Place:
        """To be handed to `return_to` if the transaction fails."""
        return self._at

    def return_to(self, place: Place) -> None:
        """Forget what was written since."""
        self._adopted = {key: ref for key, ref in self._adopted.items() if ref < ADOPTED_FROM + place.adopted}
        self._at = place
        self._fresh = []
        self.names.forget(place.ref)

    def open(self, previous: Epoch | None, *, started_us: int, gaps: Sequence[Gap] = ()) -> None:
        """Draw an epoch, and write its OPENING and the gaps that precede it."""
        epoch = secrets.token_bytes(16)
        through_us = started_us if previous is None else previous.taken_through_us
        self._at = Place(self._store.epochs.add(epoch, started_us), epoch, 0, through_us, 0)
        self._adopted = {}
        opening = Opening(
            started_us=started_us,
            previous_epoch="" if previous is None else previous.epoch.hex(),
            previous_last_seq=0 if previous is None else previous.last_seq,
            version=self._version,
            host=self._host,
        )
        self.record(opening)
        for gap in gaps:
            self.record(gap)
        self.save()

    def reopen(self) -> None:
        """Go on under a new epoch: somebody else writes under this one's identity. References keep their meaning."""
        now_us = self._clock.now_us()
        before = self._at
        self.save()
        self.open(Epoch(before.ref, before.epoch, now_us, before.seq, before.taken_through_us), started_us=now_us)
        self._say_again()

    def go_on(self, before: Journal) -> None:
        """References and the clock segment keep the meaning that they had in an epoch of this process, whose file was
        damaged."""
        self._own, self.clock_record = before._own, before.clock_record
        self._say_again()
        self.save()

    def _say_again(self) -> None:
        self._write_dictionary(
            [SeriesEntry(ref, *name) for ref, name in self._own.series.items()],
            [ProfileEntry(ref, profile_id) for ref, profile_id in self._own.profiles.items()],
        )
        if self.clock_record is not None:
            self.record(self.clock_record)

    def declare(self, series: Sequence[SeriesEntry], profiles: Sequence[ProfileEntry]) -> None:
        """Write dictionary entries, before their first use."""
        self._write_dictionary(series, profiles)

    def learn(self, series: Sequence[SeriesEntry], profiles: Sequence[ProfileEntry]) -> None:
        """Keep declared entries in mind once they are on the disk."""
        self._own.add(Dictionary(list(series), list(profiles)))

    def append(self, batch: PendingBatch, *, at_id: int = 0, thinned: int = 0) -> int:
        """Give a batch its identity and write it. Returns: its id."""
        through_us, at = self._through_us(batch), self._at
        seq = at.seq + 1
        self._generation = max(self._generation, batch.generation)
        content = wire.seal(
            batch.body,
            agent_id=self._agent_id,
            epoch=at.epoch,
            seq=seq,
            created_us=self._clock.now_us(),
            taken_through_us=through_us,
            clock_segment=batch.clock_segment,
            generation=batch.generation,
        )
        row = Row(at_id, at.ref, seq, batch.body.kind, batch.readings, batch.from_us, batch.to_us, 0, thinned)
        batch_id = self._store.insert(row, content)
        if not at_id:
            body = batch.body
            self._fresh.append(
                StoredBatch(batch_id, at.epoch, seq, body.kind, batch.readings, batch.from_us, batch.to_us, content)
            )
        if through_us:
            self._at = Place(at.ref, at.epoch, seq, through_us, at.adopted, batch.clock_segment)
        else:
            self._at = replace(at, seq=seq)
        return batch_id

    def take_fresh(self) -> list[StoredBatch]:
        """What was written behind all others since the last call; for whoever has committed it."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def _through_us(self, batch: PendingBatch) -> int:
        """What the batch may claim by its own segment's clock, 0 for nothing: times of two segments do not compare."""
        if batch.clock_segment >= ADOPTED_FROM:
            return 0
        if batch.clock_segment == self._at.segment:
            return max(batch.taken_through_us, self._at.taken_through_us)
        return batch.taken_through_us

    def withdraw(self, batch_id: int) -> None:
        """It was deleted again."""
        self._fresh = [batch for batch in self._fresh if batch.id != batch_id]

    def record(self, record: Record, *, at_id: int = 0) -> int:
        """Write a record as a batch. Returns: its id."""
        if isinstance(record, ClockRecord) and record.segment < ADOPTED_FROM:
            self.clock_record = record
        at_us = self._at.taken_through_us
        from_us, to_us = (record.from_us, record.to_us) if isinstance(record, Gap) else (at_us, at_us)
        body = wire.record_body(record)
        pending = PendingBatch(body, 0, from_us, to_us, 0, self._clock.segment, self._generation)
        return self.append(pending, at_id=at_id)

    def save(self) -> None:
        """Remember how far the epoch has come; the last step of every transaction that appended."""
        self._store.epochs.save(self._at.ref, self._at.seq, self._at.taken_through_us)

    def adopt_series(self, epoch_ref: int, refs: Iterable[int]) -> dict[int, int]:
        """References of this epoch for those of another one; nameless ones are left out."""
        if epoch_ref == self._at.ref:
            return {ref: ref for ref in refs}
        names = self.names.of(epoch_ref).series
        own, new = self._adopt({ref: names[ref] for ref in refs if ref in names})
        self._write_dictionary([SeriesEntry(ref, *name) for ref, name in new], ())
        return own

    def adopt_profiles(self, epoch_ref: int, refs: Iterable[int]) -> dict[int, int]:
        """The same for profiles; 0, no profile, stays 0."""
        if epoch_ref == self._at.ref:
            return {ref: ref for ref in refs}
        names = self.names.of(epoch_ref).profiles
        own, new = self._adopt({ref: names[ref] for ref in refs if ref in names})
        self._write_dictionary((), [ProfileEntry(ref, profile_id) for ref, profile_id in new])
        return {0: 0} | own

    def adopt_segment(self, epoch_ref: int, segment: int, measured: ClockRecord | None) -> int:
        """A clock segment of this epoch that stands for another epoch's, with what was measured of it."""
        own, new = self._adopt({segment: (epoch_ref, segment)})
        if new and measured is not None:
            self.record(msgspec.structs.replace(measured, segment=own[segment]))
        return own[segment]

    def _adopt(self, wanted: Mapping[int, T]) -> tuple[dict[int, int], list[tuple[int, T]]]:
        own: dict[int, int] = {}
        new: list[tuple[int, T]] = []
        for ref, name in wanted.items():
            key: Hashable = name
            if key not in self._adopted:
                at = self._at
                self._adopted[key] = ADOPTED_FROM + at.adopted
                self._at = replace(at, adopted=at.adopted + 1)
                new.append((self._adopted[key], name))
            own[ref] = self._adopted[key]
        return own, new

    def _write_dictionary(self, series: Sequence[SeriesEntry], profiles: Sequence[ProfileEntry]) -> None:
        self.names.forget(self._at.ref)
        for some in _chunks(series):
            self.record(Dictionary(series=some))
        for others in _chunks(profiles):
            self.record(Dictionary(profiles=others))


def _chunks(entries: Sequence[E]) -> Iterator[list[E]]:
    """Parts of at most `ENTRIES_MAX` entries and `DICTIONARY_BYTES_MAX`."""
    chunk: list[E] = []
    size = 0
    for entry in entries:
        length = len(msgspec.json.encode(entry))
        if chunk and (len(chunk) == ENTRIES_MAX or size + length > DICTIONARY_BYTES_MAX):
            yield chunk
            chunk, size = [], 0
        chunk.append(entry)
        size += length
    if chunk:
        yield chunk
