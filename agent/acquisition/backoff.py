"""How long to leave alone what does not answer."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Doubles from `first_s` to `most_s`, each time up to a quarter less, at random, lest many march in step."""

    first_s: float
    most_s: float
    random: random.Random = field(default_factory=random.Random)
    failures: int = 0

    def next_s(self) -> float:
        """How long to wait after one more failure, seconds."""
        self.failures += 1
        longest_s = min(self.most_s, self.first_s * 2.0 ** min(self.failures - 1, 30))
        return longest_s * (1 - self.random.random() / 4)

    def reset(self) -> None:
        """It answers again."""
        self.failures = 0
