"""Where a fault happens, and what all faults use."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from bench.chaos.server import Server
from bench.chaos.stack import Stack, wait_until
from bench.chaos.watch import Spool, Watch

START_TIMEOUT_S = 30.0


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
        wait_until(lambda: runs(spool.path, server), START_TIMEOUT_S)


def runs(spool: Path, server: Server) -> bool:
    """Whether that process has the file open: its status, written at every start, names it.

    Nobody else opens it before: SQLite tidies up behind a killed process whoever comes first.
    """
    try:
        return bool(json.loads(spool.with_name("status.json").read_bytes())["pid"] == server.pid)
    except (OSError, ValueError, KeyError, RuntimeError):
        return False
