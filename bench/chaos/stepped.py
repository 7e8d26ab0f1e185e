"""Runs a module of the product under libfaketime: ``python -m bench.chaos.stepped MODULE ARGUMENTS…``

libfaketime 0.9.10 takes the absolute times of `clock_nanosleep` for faked ones, also on the monotonic clock, which it
is told to leave alone; the kernel then refuses them. Python's `time.sleep` is the only one here who uses that call, so
it sleeps in `select`. All else of the process is as shipped.
"""

from __future__ import annotations

import runpy
import select
import sys
import time
from typing import SupportsIndex


def _sleep(seconds: SupportsIndex | float, /) -> None:
    select.select((), (), (), float(seconds))


if __name__ == "__main__":
    time.sleep = _sleep
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
