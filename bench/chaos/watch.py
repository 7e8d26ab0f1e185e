"""Looks at the spools while everything runs, so that nothing is taken and deleted unseen; notes what was stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.chaos.evidence import Evidence, Standing
from bench.chaos.gaps import Held
from bench.chaos.instrument import standing
from bench.chaos.oracle import Seen, Stop
from bench.chaos.server import now_us
from bench.chaos.stack import FLUSH_S, Agent, Stack

EVERY_S = 1.0
COMMIT_S = 0.8
"""What a commit to a disk that others use too may take; readings that came meanwhile are not taken yet."""
UNDER_WAY = 2
"""Numbers on the line as it breaks, or given out since the counter was read."""
_LOOKS = 20


@dataclass(slots=True)
class Spool:
    """One spool file of an agent: its own, or that of a clone.

    Attributes:
        down: nobody runs on it.
        resting: what it was seen to hold since then; clones that have had their time are not read again and again.
    """

    agent: int
    path: Path
    down: bool = False
    resting: Standing | None = None

    def wake(self) -> None:
        """Somebody runs on it again."""
        self.down, self.resting = False, None


@dataclass(slots=True)
class Watch:
    """All evidence; its methods may be called from any thread."""

    evidence: list[Evidence]
    spools: list[Spool]
    agents: list[Agent]
    stops: list[Stop] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)

    @staticmethod
    def of(stack: Stack) -> Watch:
        """For all agents of a stack."""
        spools = [Spool(number, agent.spool) for number, agent in enumerate(stack.agents)]
        return Watch([Evidence(spool.agent) for spool in spools], spools, stack.agents)

    def run(self) -> None:
        """Until `end`."""
        while not self._ended.wait(EVERY_S):
            with self._lock:
                for spool in self.spools:
                    if spool.resting is None:
                        self.evidence[spool.agent].look(spool.path, down=spool.down)

    def end(self) -> None:
        """Look no more."""
        self._ended.set()

    def counted(self, agent: int) -> int:
        """How far the agent's instrument has counted."""
        return standing(self.agents[agent].instrument_port)

    @contextmanager
    def interrupted(self, agent: int) -> Iterator[None]:
        """Around a time in which answers of the agent's instrument may get lost on the way."""
        first = self.counted(agent) - UNDER_WAY
        try:
            yield
        finally:
            self.stops.append(Stop(agent, first, self.counted(agent) + UNDER_WAY))

    @contextmanager
    def down(self, agent: int, kill: Callable[[], None]) -> Iterator[Spool]:
        """Kill an agent; inside it is gone, and started again."""
        clock = self.agents[agent].clock
        unsaved = round((FLUSH_S + COMMIT_S) / self.agents[agent].interval_s)
        with self._lock:
            spool = self.spools[agent]
            before_us = now_us() + round(clock.offset_s * 1e6)
            kill()
            last = self.counted(agent)
            spool.down = True
            try:
                yield spool
            finally:
                spool.wake()
                after_us = now_us() + round(clock.offset_s * 1e6)
                self.stops.append(Stop(agent, last - unsaved, last + 1, before_us, max(after_us, before_us)))

    def add(self, spool: Spool) -> None:
        """Another file of an agent."""
        with self._lock:
            self.spools.append(spool)

    def standing(self) -> list[list[Standing]] | None:
        """What all spools hold now, by agent; None when one cannot be read."""
        found: list[list[Standing]] = [[] for _ in self.evidence]
        with self._lock:
            for spool in self.spools:
                seen = self._look(spool)
                if seen is None:
                    return None
                found[spool.agent].append(seen)
        return found

    def seen(
        self, standings: Sequence[Sequence[Standing]], first: Sequence[int], last: Sequence[int] | None
    ) -> list[Seen]:
        """What there is to say of every agent now, about these numbers; None for all that were taken."""
        return [
            Seen(
                one.copy(),
                standings[agent],
                first[agent],
                one.last if last is None else last[agent],
                0,
                [stop for stop in self.stops if stop.agent == agent],
                [held for held in self.held if held.agent == agent],
            )
            for agent, one in enumerate(self.evidence)
        ]

    def _look(self, spool: Spool) -> Standing | None:
        if spool.resting is not None:
            return spool.resting
        for _ in range(_LOOKS):
            seen = self.evidence[spool.agent].look(spool.path, down=spool.down)
            if seen is not None:
                spool.resting = seen if spool.down else None
                return seen
            time.sleep(0.1)
        return None
