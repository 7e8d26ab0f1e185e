"""What ingest counts, for `/metrics` and `/health/ready`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass

from hub.ingest.answers import Answer, Settled
from hub.ingest.arrivals import Arrival
from hub.metrics import Metrics

_REFUSALS = (Answer.CONFLICT, Answer.NOT_YOURS, Answer.CORRUPT, Answer.UNSUPPORTED_VERSION)


@dataclass(frozen=True, slots=True)
class IngestState:
    """How ingest is doing.

    Attributes:
        waiting_readings, waiting_batches: not yet committed.
        last_commit_age_s: None before the first commit.
        error: why nothing can be written now; empty when it can.
    """

    waiting_readings: int
    waiting_batches: int
    last_commit_age_s: float | None
    stored: int
    repeated: int
    set_aside: int
    refused: int
    failed: int
    error: str


class Tally:
    """Readings and batches by what became of them.

    Args:
        waiting_readings, waiting_batches: how many wait now.
    """

    def __init__(
        self, metrics: Metrics, waiting_readings: Callable[[], int], waiting_batches: Callable[[], int]
    ) -> None:
        self._waiting_readings = waiting_readings
        self._waiting_batches = waiting_batches
        self._readings = metrics.counter("labrelay_ingest_readings_total", "Readings by what became of them")
        self._batches = metrics.counter("labrelay_ingest_batches_total", "Batches by the answer they got")
        self._failures = metrics.counter("labrelay_ingest_failures_total", "Groups that had to be tried again")
        self._commit_s = metrics.histogram("labrelay_ingest_commit_seconds", "How long a group takes, with its commit")
        metrics.gauge("labrelay_ingest_waiting_readings", "Readings that wait", lambda: float(waiting_readings()))
        metrics.gauge("labrelay_ingest_waiting_batches", "Batches that wait", lambda: float(waiting_batches()))

    def settled(self, settled: Collection[Settled]) -> None:
        """So much was committed or refused."""
        answers = Counter(one.answer for one in settled if isinstance(one.item, Arrival))
        for answer, count in answers.items():
            self._batches.add(count, answer=answer.value)
        self._readings.add(sum(one.outcome.new for one in settled), outcome="stored")
        self._readings.add(sum(one.outcome.repeated for one in settled), outcome="repeated")
        self._readings.add(sum(one.outcome.set_aside for one in settled), outcome="set_aside")

    def committed(self, taken_s: float) -> None:
        """A group took so long."""
        self._commit_s.observe(taken_s)

    def put_off(self) -> None:
        """A group has to be tried again."""
        self._failures.add()

    def failed(self) -> None:
        """A batch was given up."""
        self._batches.add(answer="failed")

    def state(self, last_commit_age_s: float | None, error: str) -> IngestState:
        """All of it now."""
        return IngestState(
            self._waiting_readings(),
            self._waiting_batches(),
            last_commit_age_s,
            stored=int(self._readings.value(outcome="stored")),
            repeated=int(self._readings.value(outcome="repeated")),
            set_aside=int(self._readings.value(outcome="set_aside")),
            refused=sum(int(self._batches.value(answer=one.value)) for one in _REFUSALS),
            failed=int(self._batches.value(answer="failed")),
            error=error,
        )
