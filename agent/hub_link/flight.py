"""Which batches are under way, when to send which again, and which to give up. Pure: no input or output, no clock.

::

    read ahead ─► waiting ─► in flight ─► acknowledged
                     ▲          │ │ └──► refused, or unanswered while others pass ─► quarantine
                     └─ parked ◄┘ └► due again after the time-out, and all of them after a reconnect

The time-out follows the acknowledgements' latency (RFC 6298, Karn's rule), doubles with every repetition of a batch (up
to four times while others pass: then it is not the hub that is slow) and is jittered, so that agents do not repeat in
step.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from agent.spool.batch import StoredBatch
from shared.wire import BATCHES_PER_MESSAGE_MAX

TIMEOUT_S_MIN = 1.0
TIMEOUT_S_MAX = 30.0
TIMEOUT_S_FIRST = 5.0
ALONE_AFTER = 3
"""Sent so often together with others, unanswered while these passed, a batch is sent alone."""
GIVEN_UP_AFTER = 5
"""Sent so often alone, unanswered while others passed, it goes to quarantine."""
PARKED_MAX = 10_000
WINDOW_MAX = 4096
"""Whatever the hub grants."""
WAITING_MAX = 256
_DOUBLINGS_MAX = 16
_DOUBLINGS_WHILE_OTHERS_PASS = 2

Key = tuple[bytes, int]


class Timeout:
    """How long an acknowledgement may take."""

    def __init__(self) -> None:
        self._mean_s = 0.0
        self._deviation_s = 0.0

    def observe(self, latency_s: float) -> None:
        """Learn from one batch that was sent once."""
        if self._mean_s == 0.0:
            self._mean_s, self._deviation_s = latency_s, latency_s / 2
            return
        self._deviation_s += (abs(latency_s - self._mean_s) - self._deviation_s) / 4
        self._mean_s += (latency_s - self._mean_s) / 8

    def seconds(self, doublings: int, jitter: float) -> float:
        """Before a batch is sent again. `jitter` lies within 0 … 1."""
        once_s = TIMEOUT_S_FIRST if self._mean_s == 0.0 else self._mean_s + 4 * self._deviation_s
        once_s = max(once_s, TIMEOUT_S_MIN)
        return float(min(once_s * 2**doublings, TIMEOUT_S_MAX) * (0.8 + 0.4 * jitter))


@dataclass(slots=True)
class Flight:
    """One batch under way.

    Attributes:
        passed: batches acknowledged in all when it was sent last.
        alone: how often it was sent alone while others passed.
    """

    batch: StoredBatch
    sent_s: float = 0.0
    due_s: float = 0.0
    attempts: int = 0
    passed: int = 0
    alone: int = 0


@dataclass(slots=True)
class Window:
    """All batches between spool and hub.

    Attributes:
        granted: unacknowledged batches that the hub lets us have in flight.
    """

    granted: int = 64
    flights: dict[Key, Flight] = field(default_factory=dict)
    waiting: deque[StoredBatch] = field(default_factory=deque)
    parked: dict[int, float] = field(default_factory=dict)
    """Batch ids, and when to offer them again."""
    timeout: Timeout = field(default_factory=Timeout)
    passed: int = 0
    random: random.Random = field(default_factory=random.Random)

    @property
    def room(self) -> int:
        """How many more to read ahead."""
        if len(self.parked) >= PARKED_MAX:
            return 0
        return max(self._ahead - len(self.waiting), 0)

    @property
    def is_hungry(self) -> bool:
        """Whether reading ahead is worth a look at the disk: half of what may wait is gone."""
        return self.room * 2 >= self._ahead

    @property
    def _ahead(self) -> int:
        return min(WAITING_MAX, 2 * self.granted)

    def grant(self, batches: int) -> None:
        """Take note of the hub's window."""
        self.granted = min(max(batches, 1), WINDOW_MAX)

    def add(self, batches: Iterable[StoredBatch], *, first: bool = False) -> list[int]:
        """Have batches wait for their turn, or be next with `first`. Returns: ids of those that were not known yet."""
        waiting = {(batch.epoch, batch.seq) for batch in self.waiting}
        new = [
            batch
            for batch in batches
            if (key := (batch.epoch, batch.seq)) not in self.flights
            and key not in waiting
            and batch.id not in self.parked
        ]
        if first:
            self.waiting.extendleft(reversed(new))
        else:
            self.waiting.extend(new)
        return [batch.id for batch in new]

    def next_message(self, now_s: float, bytes_max: int) -> list[StoredBatch]:
        """What to send now, in one message; empty if nothing is due. Counts as sent."""
        due = [flight for flight in self.flights.values() if flight.due_s <= now_s]
        for flight in due:
            if self._is_lonely(flight):
                if flight.passed < self.passed:
                    flight.alone += 1
                self._sent(flight, now_s)
                return [flight.batch]
        message: list[StoredBatch] = []
        for flight in self._until_full((flight for flight in due), message, bytes_max):
            self._sent(flight, now_s)
        for flight in self._until_full(self._fresh(), message, bytes_max):
            self.waiting.popleft()
            self.flights[flight.batch.epoch, flight.batch.seq] = flight
            self._sent(flight, now_s)
        return message

    def next_due_s(self) -> float | None:
        """When something in flight or parked is due, None if nothing is."""
        flights = min((flight.due_s for flight in self.flights.values()), default=None)
        parked = min(self.parked.values(), default=None)
        return min((due for due in (flights, parked) if due is not None), default=None)

    def acknowledge(self, epoch: bytes, first: int, last: int, now_s: float) -> list[int]:
        """The hub has stored a range. Returns: ids that are not in flight any more."""
        done = self._take(epoch, first, last)
        for flight in done:
            if flight.attempts == 1:
                self.timeout.observe(now_s - flight.sent_s)
        self.passed += len(done)
        unsent = [batch for batch in self.waiting if batch.epoch == epoch and first <= batch.seq <= last]
        for batch in unsent:
            self.waiting.remove(batch)
        return [flight.batch.id for flight in done] + [batch.id for batch in unsent]

    def refuse(self, epoch: bytes, seq: int) -> Flight | None:
        """The hub will not take a batch: it is not in flight any more."""
        return next(iter(self._take(epoch, seq, seq)), None)

    def park(self, epoch: bytes, first: int, last: int, until_s: float) -> list[int]:
        """Offer a range again later. Returns: their ids."""
        ids = [flight.batch.id for flight in self._take(epoch, first, last)]
        self.park_ids(ids, until_s)
        return ids

    def park_ids(self, ids: Iterable[int], until_s: float) -> None:
        """Offer batches again later, read anew from the spool."""
        self.parked.update(dict.fromkeys(ids, until_s))

    def unpark(self, now_s: float, limit: int) -> list[int]:
        """Ids of parked batches that are due; they are not parked any more."""
        due = [batch_id for batch_id, due_s in self.parked.items() if due_s <= now_s][:limit]
        for batch_id in due:
            del self.parked[batch_id]
        return due

    def give_up(self) -> list[StoredBatch]:
        """Batches that stayed unanswered, together and alone, while others passed; not in flight any more."""
        hopeless = [flight for flight in self.flights.values() if flight.alone >= GIVEN_UP_AFTER]
        for flight in hopeless:
            del self.flights[flight.batch.epoch, flight.batch.seq]
        return [flight.batch for flight in hopeless]

    def all_due(self) -> None:
        """After a reconnect everything in flight is sent again; what was lost with the line is nobody's fault."""
        for flight in self.flights.values():
            flight.due_s = 0.0
            flight.attempts = 0
            flight.alone = 0

    def drop_waiting(self) -> list[int]:
        """Forget what was read ahead. Returns: its ids."""
        ids = [batch.id for batch in self.waiting]
        self.waiting.clear()
        return ids

    def _take(self, epoch: bytes, first: int, last: int) -> list[Flight]:
        if first == last:
            found = self.flights.pop((epoch, first), None)
            return [] if found is None else [found]
        keys = [key for key in self.flights if key[0] == epoch and first <= key[1] <= last]
        return [self.flights.pop(key) for key in keys]

    def _fresh(self) -> Iterator[Flight]:
        """What waits, as far as the window reaches. The caller takes each from the queue before asking for the next."""
        while self.waiting and len(self.flights) < self.granted:
            yield Flight(self.waiting[0])

    @staticmethod
    def _until_full(flights: Iterable[Flight], message: list[StoredBatch], bytes_max: int) -> Iterator[Flight]:
        size = sum(len(batch.content) for batch in message)
        for flight in flights:
            size += len(flight.batch.content)
            if message and (size > bytes_max or len(message) >= BATCHES_PER_MESSAGE_MAX):
                return
            message.append(flight.batch)
            yield flight

    def _is_lonely(self, flight: Flight) -> bool:
        return flight.attempts >= ALONE_AFTER and (flight.passed < self.passed or flight.alone > 0)

    def _sent(self, flight: Flight, now_s: float) -> None:
        doublings_max = _DOUBLINGS_WHILE_OTHERS_PASS if flight.passed < self.passed else _DOUBLINGS_MAX
        doublings = min(flight.attempts, doublings_max)
        flight.attempts += 1
        flight.sent_s = now_s
        flight.passed = self.passed
        flight.due_s = now_s + self.timeout.seconds(doublings, self.random.random())
