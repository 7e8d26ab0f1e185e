"""What befalls batches that are in the spool already: refused, unreadable, in conflict, asked for again.

All of it happens inside the writer's transactions.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.logging import event_log
from agent.spool.batch import Standing
from agent.spool.gaps import UNREADABLE, unreadable
from agent.spool.journal import Journal
from agent.spool.recode import Recoder
from agent.spool.store import Store
from shared.wire import Kind

RESENT_AT_ONCE = 10_000

_log = event_log("spool")


class Marks:
    """Changes to batches of one file.

    Args:
        rewound: called when batches that had been read are pending again.
    """

    def __init__(self, store: Store, journal: Journal, recoder: Recoder, rewound: Callable[[], None]) -> None:
        self._store = store
        self._journal = journal
        self._recoder = recoder
        self._rewound = rewound

    def acknowledge(self, epoch: bytes, first: int, last: int, at_us: int) -> None:
        """The hub has stored these."""
        self._store.acknowledge(epoch, first, last, at_us)

    def quarantine(self, batch_id: int, reason: str) -> None:
        """Set a batch aside for a person to look at."""
        self._store.stand((batch_id,), Standing.QUARANTINED, reason)

    def reoffer(self) -> None:
        """The hub's database is another one: all that is held is pending."""
        self._store.reoffer()
        self._rewound()

    def set_incarnation(self, incarnation: str) -> None:
        """Remember which database that is."""
        self._store.set_meta("incarnation", incarnation)

    def set_corrupt_aside(self, batch_id: int) -> None:
        """Set a batch aside that does not verify, and record what is lost with it."""
        found = self._store.row(batch_id)
        if found is None or found[1] is Standing.QUARANTINED:
            return
        row, standing = found
        self._store.stand((batch_id,), Standing.QUARANTINED, UNREADABLE)
        if standing is Standing.PENDING and row.kind is Kind.DATA:
            self._journal.record(unreadable(row, self._store.epochs.of_ref(row.epoch_ref)))

    def relabel(self, batch_id: int, epoch: bytes, seq: int) -> None:
        """Give a batch another identity than this one."""
        found = self._store.row(batch_id)
        if found is None or found[1] is Standing.ACKED:
            return
        if (self._store.epochs.of_ref(found[0].epoch_ref), found[0].seq) != (epoch, seq):
            return  # it has got another one already
        if found[0].epoch_ref == self._journal.ref:
            _log.error("epoch_in_use_elsewhere", epoch=epoch.hex())
            self._journal.reopen()
        if not self._recoder.relabel(found[0]):
            self._store.stand((batch_id,), Standing.QUARANTINED, "conflict")

    def add_physical(self, batch_id: int) -> None:
        """Put the physical column into a batch."""
        found = self._store.row(batch_id)
        if found is None or found[1] is Standing.ACKED:
            return
        content = self._recoder.with_physical(found[0])
        if content is None:
            self._store.stand((batch_id,), Standing.QUARANTINED, "physical asked for, profile unknown")
        else:
            self._store.replace(batch_id, content)

    def resend_quarantined(self) -> None:
        """Offer what is in quarantine again, but for what cannot be read: its loss is recorded."""
        rows = self._store.oldest(Standing.QUARANTINED, RESENT_AT_ONCE)
        self._store.stand([row.id for row in rows if self._store.reason(row.id) != UNREADABLE], Standing.PENDING)
        self._rewound()

    def serve_requests(self) -> None:
        """Do what an operator has asked for on the command line."""
        for verb, batch_id in self._store.take_requests():
            found = self._store.row(batch_id)
            if found is None or found[1] is not Standing.QUARANTINED:
                continue
            _log.info("operator_request", verb=verb, batch=batch_id)
            if verb == "resend" and self._store.reason(batch_id) == UNREADABLE:
                _log.warning("unreadable_batch_not_sent", batch=batch_id, hint="its loss is recorded; discard it")
            elif verb == "resend":
                self._store.stand((batch_id,), Standing.PENDING)
                self._rewound()
            elif verb == "discard":
                self._store.delete((batch_id,))
