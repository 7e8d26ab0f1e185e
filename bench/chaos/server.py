"""One process of the stack, to be killed, frozen and started again; it never outlives this one."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from bench.chaos import clocks
from labrelay.up import child
from labrelay.up.child import Child, ChildSpec

_PID_PATIENCE_S = 10.0


class Server:
    """A process and all that it forks. Not thread-safe."""

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self._running: Child | None = None

    def start(self, *, wait: bool = True) -> None:
        """Run it; with `wait`, return when it is ready."""
        self._running = child.start(self.spec)
        self._running.control.settimeout(_PID_PATIENCE_S)
        self._running.learn_pid(self._running.control.recv(64))
        if wait:
            self._running.wait_ready()

    @property
    def pid(self) -> int:
        """Of the process itself."""
        if self._running is None or self._running.pid is None or not self._running.running:
            raise RuntimeError(f"{self.spec.name} does not run, or has ended by itself; see {self.spec.log}")
        return self._running.pid

    @property
    def running(self) -> bool:
        """Whether it does."""
        return self._running is not None and self._running.running

    def kill(self) -> None:
        """SIGKILL; returns when nothing of it is left."""
        os.kill(self.pid, signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        """Have it end in its own way; returns when nothing of it is left."""
        if self._running is not None:
            self._running.stop()
            if self._running.pid is not None:
                clocks.tidy(self._running.pid)
            self._running = None

    def freeze(self) -> None:
        """SIGSTOP, for it and everything that it has forked."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        for pid in family(self.pid):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue


def family(pid: int) -> list[int]:
    """A process and its descendants, by /proc."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue
            parents.setdefault(parent, []).append(int(entry.name))
    found, at = [pid], 0
    while at < len(found):
        found += parents.get(found[at], [])
        at += 1
    return found


def now_us() -> int:
    """UTC, µs."""
    return time.time_ns() // 1000
