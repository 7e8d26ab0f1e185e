"""What the uplink has to say of batches that are in the spool: left here, and carried along by the next commit."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path

from agent.logging import event_log
from agent.spool.file import SpoolFile
from shared.clock import Clock

ACKNOWLEDGED_MAX = 100_000
"""Acknowledgements beyond so many marks are forgotten, and their batches sent again."""

Mark = Callable[[SpoolFile], object]

_log = event_log("spool")


class MarkQueue:
    """Marks in the order in which they were left. Never blocks; from any thread."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._marks: deque[Mark] = deque()

    def __len__(self) -> int:
        return len(self._marks)

    def waiting(self) -> list[Mark]:
        """All that were left and are not done."""
        return list(self._marks)

    def done(self, count: int) -> None:
        """The first ones are on the disk."""
        for _ in range(count):
            self._marks.popleft()

    def leave(self, mark: Mark) -> None:
        """Have something done to the file that is open when the next commit begins."""
        self._marks.append(mark)

    def acknowledge(self, epoch: bytes, first: int, last: int) -> None:
        """Mark a range of seqs as stored at the hub."""
        if len(self._marks) >= ACKNOWLEDGED_MAX:
            return
        at_us = self._clock.now_us()
        self.leave(lambda file: file.marks.acknowledge(epoch, first, last, at_us))

    def quarantine(self, batch_id: int, reason: str) -> None:
        """Set a batch aside for a person to look at."""
        _log.warning("batch_quarantined", batch=batch_id, reason=reason)
        self.leave(lambda file: file.marks.quarantine(batch_id, reason))

    def quarantine_corrupt(self, batch_id: int) -> None:
        """Set a batch aside that does not verify, and record the gap."""
        _log.error("batch_corrupt", batch=batch_id, path=self._path)
        self.leave(lambda file: file.marks.set_corrupt_aside(batch_id))

    def relabel(self, batch_id: int, epoch: bytes, seq: int) -> None:
        """Give a batch an identity of the running epoch: the hub knows another one by its own."""
        self.leave(lambda file: file.marks.relabel(batch_id, epoch, seq))

    def add_physical(self, batch_id: int) -> None:
        """Put the physical column into a batch."""
        self.leave(lambda file: file.marks.add_physical(batch_id))

    def resend_quarantined(self) -> None:
        """Offer everything in quarantine again; what does not verify stays there."""
        self.leave(lambda file: file.marks.resend_quarantined())
