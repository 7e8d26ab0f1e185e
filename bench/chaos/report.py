"""What a run has shown, and the telling of it while it runs."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


@dataclass(slots=True)
class Figures:
    """What a run has shown."""

    seed: int
    rounds: int = 0
    taken: int = 0
    stored: int = 0
    repeated: int = 0
    set_aside: int = 0
    set_aside_reasons: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    duplicated: int = 0
    gaps_unexplained: int = 0
    excused: dict[str, int] = field(default_factory=dict)
    quarantined: int = 0
    waiting: int = 0
    not_recovered: int = 0
    died: int = 0
    polled: int = 0
    readings_per_s: float = 0.0
    seconds: float = 0.0
    faults: dict[str, int] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.duplicated or self.gaps_unexplained or self.not_recovered or self.died)

    def as_dict(self) -> dict[str, Any]:
        """For people and JSON."""
        return {name: getattr(self, name) for name in Figures.__dataclass_fields__}


class Report:
    """Tells what happens: a line an event on standard error, and a bar under them on a terminal."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._began_s = time.monotonic()
        self._bar = sys.stderr.isatty()
        self.done = 0

    def say(self, text: str) -> None:
        """One event, with its time."""
        clear = "\r\x1b[K" if self._bar else ""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        print(f"{clear}{at} +{time.monotonic() - self._began_s:6.1f} s  {text}", file=sys.stderr, flush=True)
        if self._bar:
            filled = 40 * self.done // max(self._rounds, 1)
            print(f"\r[{'#' * filled}{'.' * (40 - filled)}] {self.done}/{self._rounds}", end="", file=sys.stderr)
            sys.stderr.flush()

    def end(self) -> None:
        """Take the bar away."""
        if self._bar:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
