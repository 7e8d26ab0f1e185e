"""Break a real stack on purpose, and count what is lost, stored twice or missing without a record.

PostgreSQL with fsync, Mosquitto, a hub and two agents run under at least 5,000 readings/s from instruments that count.
Each round draws a fault from the seed, lets the stack recover, and compares the agents' spool files and the counters,
number by number, with the database. What every figure means: docs/reliability.md.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Mapping
from typing import Any

from bench.chaos.faults import FAULTS
from bench.chaos.report import Figures
from bench.chaos.run import play

__all__ = ["add_arguments", "passed", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m bench chaos`."""
    parser.add_argument("--rounds", type=int, default=12, help="faults, one after the other")
    parser.add_argument("--seed", type=int, default=1, help="decides on all of them")
    parser.add_argument("--interval", type=float, default=0.0175, help="seconds between two polls; 60 readings each")
    parser.add_argument("--only", default="", help="only these faults, by name, separated by commas")
    parser.add_argument("--list", action="store_true", help="name the faults and exit")
    parser.add_argument("--keep", default="", help="work in this folder, which must not exist, and leave it behind")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Play all rounds. Returns: the figures; `passed` tells whether they are good."""
    if options.list:
        return {fault.__name__: (fault.__doc__ or "").splitlines()[0] for fault in FAULTS}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # everything is ended and unmounted first
    chosen = [name for name in options.only.split(",") if name]
    figures: Figures = play(
        rounds=options.rounds, seed=options.seed, interval_s=options.interval, only=chosen, keep=options.keep
    )
    return figures.as_dict()


def passed(figures: Mapping[str, Any]) -> bool:
    """Whether a run has shown nothing wrong."""
    return not any(figures.get(key) for key in ("lost", "duplicated", "gaps_unexplained", "not_recovered", "died"))
