"""How many batches each agent may have on its way, so that all together stay below the broker's queue.

What an agent is answered at once shows how much it has on its way: one that sends live data has a batch or two, one
with a backlog fills whatever it is granted. So who needs little keeps half of an equal share in reserve, and what that
leaves over goes to those who are behind; with everybody behind, or nobody, all have the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from shared.clock import Clock

WINDOW_BATCHES_MIN, WINDOW_BATCHES_MAX = 4, 64
ACTIVE_S = 60.0
"""An agent that sent something within this time takes part."""
_DECAY = 0.9
"""What is left, an answer later, of what an agent was seen to have on its way."""


@dataclass(frozen=True, slots=True)
class _Use:
    at_s: float
    batches: float


class Window:
    """The agents that send, and what each is granted.

    Args:
        batches: that all agents together may have on their way.
    """

    def __init__(self, clock: Clock, *, batches: int) -> None:
        self._clock = clock
        self._batches = batches
        self._uses: dict[UUID, _Use] = {}

    def note(self, answered: Mapping[UUID, int]) -> None:
        """So many batches of each of these agents were answered at once."""
        now_s = self._clock.monotonic_s()
        for agent_id, batches in answered.items():
            before = self._uses.get(agent_id)
            self._uses[agent_id] = _Use(now_s, max(batches, before.batches * _DECAY if before else 0.0))

    def grants(self) -> Grants:
        """What agents are granted now."""
        since_s = self._clock.monotonic_s() - ACTIVE_S
        self._uses = {agent: use for agent, use in self._uses.items() if use.at_s >= since_s}
        behind = {agent for agent, use in self._uses.items() if use.batches >= WINDOW_BATCHES_MIN}
        equal = self._batches // max(len(self._uses), 1)
        if not behind or len(behind) == len(self._uses):
            return Grants(frozenset(), _bounded(equal), _bounded(equal))
        reserve = _bounded(equal // 2)
        rest = self._batches - reserve * (len(self._uses) - len(behind))
        return Grants(frozenset(behind), _bounded(rest // len(behind)), reserve)


@dataclass(frozen=True, slots=True)
class Grants:
    """Batches that agents may have on their way: `large` for those who are behind, `usual` for all others."""

    behind: frozenset[UUID]
    large: int
    usual: int

    def of(self, agent_id: UUID) -> int:
        """One agent's."""
        return self.large if agent_id in self.behind else self.usual


def _bounded(batches: int) -> int:
    return min(max(batches, WINDOW_BATCHES_MIN), WINDOW_BATCHES_MAX)
