"""Batches on their way into the spool and out of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from shared.wire import Body, Kind


class Standing(IntEnum):
    """Where a batch in the spool stands."""

    PENDING = 0
    """Not acknowledged: to be offered to the hub."""
    ACKED = 1
    """Acknowledged, and kept for a while for a hub that forgets."""
    QUARANTINED = 2
    """Refused by the hub or unreadable: kept for a person to look at."""


@dataclass(frozen=True, slots=True)
class PendingBatch:
    """A batch to be taken: everything but its identity, which the spool gives it.

    Attributes:
        readings: how many.
        from_us, to_us: first and last timestamp; both `taken_through_us` for a batch without readings.
        taken_through_us: all samples up to then are in this batch or in earlier ones.
        clock_segment: in whose time it is.
        generation: of the configuration it was converted with.
    """

    body: Body
    readings: int
    from_us: int
    to_us: int
    taken_through_us: int
    clock_segment: int
    generation: int


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A batch as it lies in the spool; `content` is what goes over the wire.

    Attributes:
        id: its place in the spool's order.
    """

    id: int
    epoch: bytes
    seq: int
    kind: Kind
    readings: int
    from_us: int
    to_us: int
    content: bytes
