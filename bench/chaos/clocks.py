"""Faults of clocks: what a process is shown as the time of day jumps, while its monotonic clock goes on.

The machine's clock is nobody's to set. libfaketime (Debian: `faketime`), loaded before all else, shows one process
another `CLOCK_REALTIME`; it reads the offset from a file once a second, and so a running process sees a step as it
would see one of the system's clock.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

_PLACES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1")
_SHARED_MEMORY = ("faketime_shm_{pid}", "sem.faketime_sem_{pid}")
NOTICED_S = 2.5
"""By then the process has seen a step: the file is read once a second, and an agent looks as often."""


def library() -> Path | None:
    """libfaketime, if it is installed."""
    found = (path for place in _PLACES for path in sorted(Path("/").glob(place.removeprefix("/"))))
    return next(found, None)


def tidy(pid: int) -> None:
    """Remove what libfaketime leaves of a killed process; the next process of that number would refuse to start."""
    for name in _SHARED_MEMORY:
        Path("/dev/shm", name.format(pid=pid)).unlink(missing_ok=True)


class WallClock:
    """What the processes started with `program` are shown.

    Args:
        file: holds the offset; ours.

    Attributes:
        offset_s: shown time less true time.
        can_step: whether there is a libfaketime.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._library = library()
        self.offset_s = 0.0
        self.can_step = self._library is not None
        self._write()

    def program(self, module: str) -> tuple[str, ...]:
        """The command that runs a module of Python with this clock."""
        if self._library is None:
            return (sys.executable, "-m", module)
        settings = {
            "LD_PRELOAD": self._library,
            "FAKETIME_TIMESTAMP_FILE": self._file,
            "FAKETIME_CACHE_DURATION": 1,
            "FAKETIME_DONT_FAKE_MONOTONIC": 1,
            "NO_FAKE_STAT": 1,
        }
        assigned = [f"{name}={value}" for name, value in settings.items()]
        return ("/usr/bin/env", *assigned, sys.executable, "-m", "bench.chaos.stepped", module)

    def step(self, offset_s: float) -> None:
        """Show a time that is so far from the true one; returns when it has been noticed."""
        self.offset_s = offset_s
        self._write()
        time.sleep(NOTICED_S)

    def _write(self) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(f"{self.offset_s:+.3f}\n")
        new.replace(self._file)
