"""What processes cost, from `/proc`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """CPU seconds of a process, user and system, all its threads."""
    user, system, *_ = _times(pid)
    return (user + system) / _TICKS


def family_cpu_s(pid: int) -> float:
    """CPU seconds of a process with its children, ended ones included."""
    total = sum(_times(pid))
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = _fields(int(entry.name))
            except OSError:
                continue
            if int(fields[1]) == pid:
                total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def memory_mb(pid: int, what: str = "VmRSS") -> float:
    """Resident memory now, or at its peak with `VmHWM`."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) / 1024
    return float("nan")


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU seconds by part."""

    agent: float
    hub: float
    postgres: float
    broker: float

    def __sub__(self, before: Spent) -> Spent:
        return Spent(
            self.agent - before.agent,
            self.hub - before.hub,
            self.postgres - before.postgres,
            self.broker - before.broker,
        )


def _fields(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _times(pid: int) -> tuple[int, int, int, int]:
    fields = _fields(pid)
    return int(fields[11]), int(fields[12]), int(fields[13]), int(fields[14])
