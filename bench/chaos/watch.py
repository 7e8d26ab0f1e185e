"""Looks at the spools while everything runs, so that nothing is taken and deleted unseen."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.chaos.evidence import Evidence, Standing
from bench.chaos.oracle import Outage
from bench.chaos.server import now_us
from bench.chaos.stack import Stack

EVERY_S = 1.0
_LOOKS = 20


@dataclass(slots=True)
class Spool:
    """One spool file of an agent: its own, or that of a clone."""

    agent: int
    path: Path
    down: bool = False


@dataclass(slots=True)
class Watch:
    """All evidence; its methods may be called from any thread."""

    evidence: list[Evidence]
    spools: list[Spool]
    outages: list[Outage] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)

    @staticmethod
    def of(stack: Stack) -> Watch:
        """For all agents of a stack."""
        agents = enumerate(stack.agents)
        spools = [Spool(number, agent.spool) for number, agent in agents]
        return Watch([Evidence(spool.agent) for spool in spools], spools)

    def run(self) -> None:
        """Until `end`."""
        while not self._ended.wait(EVERY_S):
            with self._lock:
                for spool in self.spools:
                    self.evidence[spool.agent].look(spool.path, down=spool.down)

    def end(self) -> None:
        """Look no more."""
        self._ended.set()

    @contextmanager
    def outage(self, agent: int) -> Iterator[None]:
        """Around a time in which an agent does not poll, or its instrument does not answer."""
        began_us = now_us()
        try:
            yield
        finally:
            self.outages.append(Outage(agent, began_us, now_us()))

    @contextmanager
    def down(self, agent: int) -> Iterator[Spool]:
        """Around a time in which the agent's process is gone: it ends inside, and starts again inside."""
        with self.outage(agent), self._lock:
            spool = self.spools[agent]
            spool.down = True
            try:
                yield spool
            finally:
                spool.down = False

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

    def _look(self, spool: Spool) -> Standing | None:
        for _ in range(_LOOKS):
            seen = self.evidence[spool.agent].look(spool.path, down=spool.down)
            if seen is not None:
                return seen
            time.sleep(0.1)
        return None
