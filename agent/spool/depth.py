"""How much the spool holds: batches, readings and bytes by standing."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.spool.batch import Standing

ROW_OVERHEAD_BYTES = 160
"""What a batch takes on disk beside its content: two rows and three index entries."""


@dataclass(slots=True)
class Depth:
    """What the spool holds, by standing; kept in memory because counting takes a third of a second when it is long."""

    batches: dict[Standing, int] = field(default_factory=lambda: dict.fromkeys(Standing, 0))
    readings: dict[Standing, int] = field(default_factory=lambda: dict.fromkeys(Standing, 0))
    bytes: dict[Standing, int] = field(default_factory=lambda: dict.fromkeys(Standing, 0))

    def add(self, standing: Standing, readings: int, size: int, *, sign: int = 1) -> None:
        """Count one batch in, or out with `sign=-1`."""
        self.batches[standing] += sign
        self.readings[standing] += sign * readings
        self.bytes[standing] += sign * (size + ROW_OVERHEAD_BYTES)

    def move(self, before: Standing, after: Standing, readings: int, size: int) -> None:
        """Count one batch over to another standing."""
        self.add(before, readings, size, sign=-1)
        self.add(after, readings, size)

    def copy(self) -> Depth:
        """The same counts, apart."""
        return Depth(self.batches.copy(), self.readings.copy(), self.bytes.copy())

    @property
    def total_bytes(self) -> int:
        """All that counts towards the quota."""
        return sum(self.bytes.values())
