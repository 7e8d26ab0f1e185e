"""An agent whose batches arrive when a test says so: it takes samples, steps its clock, dies, and loses what it kept.

It is honest, as the real one is: what it says was taken is in batches up to that one, and its clock's offset is
measured exactly. What says how its clocks go, and which records there are, arrives at once.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from hub.database.ids import uuid7
from hub.database.pool import acquire
from hub.ingest.arrivals import Arrival
from shared import wire
from shared.records import ClockRecord, Dictionary, Gap, Opening, Record, SeriesEntry
from tests.hub.ingest.conftest import columns
from tests.hub.sessions.conftest import Lab
from tests.hub.sessions.model import Stretch

UNCERTAINTY_US = 500_000
BLIND_US = 40 * 365 * 86_400_000_000
"""How far behind a clock is that starts without a battery."""

_IS_KNOWN = """
select exists (select from epochs e left join ledger l on l.epoch_id = e.id and l.seq = $2 and l.checksum = $3
               where e.epoch = $1 and (l.seq = $2 or e.folded_through >= $2))
"""


@dataclass
class Batch:
    """Samples by sensor: (time, value), the time by the clock of its segment."""

    arrival: Arrival
    stretch: Stretch
    samples: Mapping[str, Sequence[tuple[int, float]]]
    epoch: int


@dataclass
class Courier:
    """The agent.

    Attributes:
        now_us: the right time.
        kept: batches that have not arrived.
        sent: batches that have.
        epochs: identities, the running process's last.
    """

    lab: Lab
    sensors: tuple[str, ...]
    now_us: int
    id: UUID = field(default_factory=uuid7)
    kept: list[Batch] = field(default_factory=list)
    sent: list[Batch] = field(default_factory=list)
    epochs: list[bytes] = field(default_factory=list)
    seq: int = 0
    stretch: Stretch = field(default_factory=lambda: Stretch(0, 0, 0))
    is_measured: bool = False
    through_us: int = 0
    """By the clock of its segment, all up to then was taken."""

    @property
    def is_blind(self) -> bool:
        """Whether nobody knows what its clock is worth."""
        return self.stretch.correction_us is None

    @property
    def clock_us(self) -> int:
        """What its clock says."""
        return self.now_us - self.stretch.offset_us

    async def enrol(self) -> None:
        """Known to the project, and running."""
        async with acquire(self.lab.hub.services.pool) as connection:
            await connection.execute(
                "insert into agents (id, project_id, name, mqtt_username) values ($1, $2, $3, $3)",
                self.id,
                UUID(self.lab.project),
                str(self.id),
            )
        await self.start("measured", 0)

    async def start(self, kind: str, offset_us: int) -> None:
        """A new process, which says what the one before it had written last, and since when nobody sampled."""
        previous, last = (self.epochs[-1].hex(), self.seq) if self.epochs else ("", 0)
        self.epochs.append(os.urandom(16))
        self.seq, self.is_measured = 0, False
        offset_us = BLIND_US if kind == "blind" else offset_us
        self.stretch = Stretch(1, offset_us, 0)
        await self.tell(Opening(self.clock_us, previous, last, "1", "host"))
        if previous:
            await self.tell(Gap("downtime", self.through_us, max(self.clock_us, self.through_us)))
        await self.tell(Dictionary([SeriesEntry(ref, name) for ref, name in enumerate(self.sensors, start=1)]))
        await self._open(kind)

    async def step_clock(self, kind: str, offset_us: int) -> None:
        """The clock is set while the process runs."""
        step_us = self.stretch.offset_us - offset_us
        self.stretch = Stretch(self.stretch.number + 1, offset_us, 0, step_us)
        await self._open(kind)

    async def _open(self, kind: str) -> None:
        """Say what is known of the segment: `measured`, `vouched` by the system, `derived` from the one before."""
        own = self.stretch
        exact = 0 if abs(own.offset_us) <= UNCERTAINTY_US else own.offset_us
        if kind == "vouched" and abs(own.offset_us) <= UNCERTAINTY_US and not self.is_measured:
            await self.tell(self._clock_record("system"))
        elif kind in ("measured", "vouched") or (kind == "derived" and not self.is_measured):
            await self.tell(self._clock_record("none"), self._clock_record("hub"))
            self.is_measured, own.correction_us = True, exact
        else:
            await self.tell(self._clock_record("none"))
            own.correction_us = exact if kind == "derived" else None
        begun = self.take({})
        if kind != "blind":
            await self.deliver(begun)

    def _clock_record(self, source: str) -> ClockRecord:
        offset_us = self.stretch.offset_us if source == "hub" else 0
        uncertainty_us = -1 if source == "none" else UNCERTAINTY_US
        at_us, step_us = self.clock_us, self.stretch.step_us
        if source == "hub":
            return ClockRecord(self.stretch.number, at_us, offset_us, uncertainty_us, at_us, step_us, "hub")
        vouched = source == "system"
        return ClockRecord(
            self.stretch.number, at_us, 0, uncertainty_us, at_us, step_us, "system" if vouched else "none"
        )

    def take(self, samples: Mapping[str, Sequence[tuple[int, float]]]) -> Batch:
        """Write a batch, which says that all up to now was taken, and keep it."""
        refs = {name: ref for ref, name in enumerate(self.sensors, start=1)}
        rows = sorted((refs[name], at_us, value) for name, some in samples.items() for at_us, value in some)
        body = wire.data_body(
            columns([ref for ref, _, _ in rows], [at_us for _, at_us, _ in rows], [value for _, _, value in rows]),
            derivable=False,
        )
        batch = Batch(self._sealed(body, self.clock_us), self.stretch, samples, len(self.epochs) - 1)
        self.kept.append(batch)
        self.through_us = self.clock_us
        return batch

    def can_arrive(self, batch: Batch) -> bool:
        """The hub leaves what may still be measured on the disk."""
        return batch.stretch.correction_us is not None or batch.epoch < len(self.epochs) - 1

    async def deliver(self, batch: Batch) -> None:
        """One batch arrives; a second time, it is known already."""
        if batch in self.kept:
            self.kept.remove(batch)
            self.sent.append(batch)
        await self._arrive(batch.arrival)

    async def drop(self, batch: Batch, cause: str) -> Gap:
        """There is no room for a batch that is kept; a gap record says so."""
        self.kept.remove(batch)
        counts = [(ref, len(batch.samples.get(name, ()))) for ref, name in enumerate(self.sensors, start=1)]
        header, epoch = batch.arrival.header, self.epochs[batch.epoch].hex()
        times = [at_us for some in batch.samples.values() for at_us, _ in some] or [header.taken_through_us]
        gap = Gap(
            "quota_thin" if cause == "quota_thin" else "quota_oldest",
            min(times),
            max(times),
            sum(count for _, count in counts),
            [(ref, count) for ref, count in counts if count],
            [(epoch, header.seq, header.seq)],
            (epoch, header.clock_segment),
        )
        await self.tell(gap)
        return gap

    async def tell(self, *records: Record) -> None:
        """Batches that are not readings arrive."""
        for one in records:
            await self._arrive(self._sealed(wire.record_body(one), 0))

    async def _arrive(self, arrival: Arrival) -> None:
        self.lab.hub.services.ingest.offer(arrival)
        header = arrival.header
        async with asyncio.timeout(20), acquire(self.lab.hub.services.pool) as connection:
            while not await connection.fetchval(_IS_KNOWN, header.epoch, header.seq, header.checksum):
                await asyncio.sleep(0.005)

    def _sealed(self, body: wire.Body, through_us: int) -> Arrival:
        self.seq += 1
        sealed = wire.seal(
            body,
            agent_id=self.id,
            epoch=self.epochs[-1],
            seq=self.seq,
            created_us=max(self.clock_us, 0),
            taken_through_us=through_us,
            clock_segment=self.stretch.number,
            generation=1,
        )
        batch = wire.decode(sealed)
        return Arrival(batch.header, batch.content, len(sealed))
