"""What the hub has acknowledged, told back to it, so that it notices when its database no longer knows.

A database that is put back from a copy of its files looks the same as before and lacks the latest commits. Only those
who were told of them can say so. Claims hold for one incarnation of the database: another one has everything offered
again anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from shared.messages import EpochRange

RANGES_MAX = 32
BATCHES_MAX = 100_000
"""The latest ones; beyond either bound the oldest epoch's first range goes."""


class Claims:
    """Acknowledged batches as few ranges, the latest of them. Changed by one thread, read by any."""

    def __init__(self) -> None:
        self._held: dict[str, list[tuple[int, int]]] = {}
        """Replaced, never changed: the status is told by a thread of its own."""

    def add(self, some: EpochRange) -> None:
        """The hub has acknowledged a range."""
        held = {epoch: [*ranges] for epoch, ranges in self._held.items()}
        before = held.pop(some.epoch, [])
        held[some.epoch] = _joined([*before, (some.first, some.last)])
        while _is_too_much(held):
            epoch, ranges = next(iter(held.items()))
            if len(ranges) > 1 or len(held) > 1:
                ranges.pop(0)
            else:
                ranges[0] = (ranges[0][1] - BATCHES_MAX + 1, ranges[0][1])
            if not ranges:
                del held[epoch]
        self._held = held

    def clear(self) -> None:
        """The database is another one."""
        self._held = {}

    def ranges(self) -> list[EpochRange]:
        """All of them."""
        return [EpochRange(epoch, first, last) for epoch, held in self._held.items() for first, last in held]


def _is_too_much(held: Mapping[str, Sequence[tuple[int, int]]]) -> bool:
    ranges = [part for some in held.values() for part in some]
    return len(ranges) > RANGES_MAX or sum(last - first + 1 for first, last in ranges) > BATCHES_MAX


def _joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined
