"""Opens the spool's file for writing: what was left there is verified first, and saved where it is damaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from agent.logging import event_log
from agent.spool import merge, salvage
from agent.spool.connection import SpoolDamaged, connect
from agent.spool.epochs import Epoch
from agent.spool.file import SpoolFile
from agent.spool.journal import Journal
from agent.spool.marks import Marks
from agent.spool.quota import Quota
from agent.spool.recode import ProfileOf, Recoder
from agent.spool.settings import SpoolSettings
from agent.spool.store import Store
from agent.spool.thin import Thinner
from agent.spool.witness import gone, heard, tell
from shared.clock import Clock
from shared.records import Gap

_log = event_log("spool")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opener:
    """Every file that is opened begins an epoch.

    Attributes:
        profile_of: see `ProfileOf`.
        version, host: of this agent, told to the hub at the start of each epoch.
        held: whether a batch is in flight.
        rewound: called when batches that had been read are pending again.
    """

    path: Path
    agent_id: UUID
    settings: SpoolSettings
    clock: Clock
    profile_of: ProfileOf
    version: str
    host: str
    held: Callable[[int], bool]
    rewound: Callable[[], None]

    def open(self) -> SpoolFile:
        """The file as an earlier process has left it. Raises: SpoolUnavailable."""
        try:
            if salvage.interrupted(self.path):
                raise SpoolDamaged("the spool's file was damaged, and saving what is readable was interrupted")
            return self._attach(doubted=merge.verify(self.path))
        except SpoolDamaged as damage:
            return self.replace(damage)

    def replace(self, damage: SpoolDamaged, before: SpoolFile | None = None) -> SpoolFile:
        """A new file with what is readable of the damaged one. Repeatable after a failure.

        Args:
            before: as which the damaged one was open in this process; closed.

        Raises: SpoolUnavailable.
        """
        salvaged = salvage.move_aside_and_save(self.path, now_us=self.clock.now_us())
        error = f"{damage.message}; moved to {salvaged.moved_to}, {salvaged.batches} batches saved"
        _log.error("spool_damaged", error=damage, moved_to=salvaged.moved_to, saved=salvaged.batches)
        return self._attach(before=before, error=error)

    def _attach(self, *, doubted: bool = False, before: SpoolFile | None = None, error: str = "") -> SpoolFile:
        store = Store(connect(self.path))
        try:
            if doubted:
                store.check()
            journal = Journal(store, agent_id=self.agent_id, clock=self.clock, version=self.version, host=self.host)
            with store.transaction():
                self._begin_epoch(store, journal, before, self._previous(store, saved=bool(error)))
                incarnation, oldest_us = store.meta("incarnation"), store.oldest_us()
            journal.take_fresh()  # whoever follows the spool begins by reading it
        except BaseException:
            store.close()
            raise
        recoder = Recoder(store, journal, self.profile_of)
        thinner = Thinner(store, journal, recoder)
        marks = Marks(store, journal, recoder, self.rewound)
        quota = Quota(self.settings, store, journal, thinner, clock=self.clock, held=self.held)
        tell(self.path, journal.epoch, journal.last_seq)
        return SpoolFile(
            self.path, store, journal, marks, quota, incarnation=incarnation, oldest_us=oldest_us, error=error
        )

    def _previous(self, store: Store, *, saved: bool) -> Epoch | None:
        """The run before this one. What was saved of a damaged file may have lost the order of its epochs."""
        said = heard(self.path) if saved else None
        named = (epoch for epoch in store.epochs.all() if said is not None and epoch.epoch == said.epoch)
        return next(named, None) or store.epochs.latest()

    def _begin_epoch(self, store: Store, journal: Journal, before: SpoolFile | None, previous: Epoch | None) -> None:
        """Say what is missing before the epoch: what the damage took, and where the process is new its downtime."""
        now_us = self.clock.now_us()
        gaps = (*salvage.take_gap(store), *gone(self.path, store, now_us))
        if previous is not None and before is None:
            through_us = previous.taken_through_us
            gaps = (*gaps, Gap("downtime", through_us, max(now_us, through_us)))
        journal.open(previous, started_us=now_us, gaps=gaps)
        if before is not None:
            journal.go_on(before.journal)
