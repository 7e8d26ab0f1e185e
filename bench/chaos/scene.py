"""Where a fault happens, and what all faults use."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from bench.chaos.stack import Stack, wait_until
from bench.chaos.watch import Spool, Watch

START_TIMEOUT_S = 20.0


@dataclass(slots=True)
class Scene:
    """Where a fault happens.

    Attributes:
        number: of the round.
    """

    stack: Stack
    watch: Watch
    random: Random
    number: int = 0

    def agent(self) -> int:
        """Any of them."""
        return self.random.randrange(len(self.stack.agents))

    def seconds(self, low: float, high: float) -> float:
        """Some time, waited for. Returns: how long."""
        some = self.random.uniform(low, high)
        time.sleep(some)
        return some


@contextlib.contextmanager
def agent_down(scene: Scene, which: int) -> Iterator[Spool]:
    """Kill an agent; what the body does to its disk is done while it is down."""
    server = scene.stack.agents[which].server
    with scene.watch.down(which, server.kill) as spool:
        yield spool
        server.start()
        wait_until(lambda: _runs(spool.path), START_TIMEOUT_S)


def _runs(spool: Path) -> bool:
    """Whether an agent has the file open again."""
    return spool.with_name("spool.db-wal").exists()
