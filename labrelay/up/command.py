"""`labrelay up`: starts everything in order, says where it is, keeps it running, and ends it."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from labrelay.up.composition import Up
from labrelay.up.data_dir import DataDir
from labrelay.up.terminal import Terminal
from shared.errors import LabrelayError

END_WITH_PARENT = "LABRELAY_UP_END_WITH_PARENT"
"""Set to 1 by `make up`: end when the parent process does."""
_PARENT_INTERVAL_S = 0.5


def main(argv: Sequence[str] | None = None) -> int:
    """Run until Ctrl-C or SIGTERM. Returns: 0 when ended on request. Raises: LabrelayError."""
    options = _parser().parse_args(argv)
    if sys.platform == "win32":
        raise LabrelayError(
            "`labrelay up` runs on Linux and macOS", hint="on Windows use WSL; agents run on Windows as they are"
        )
    data = DataDir(options.data_dir.absolute())
    data.create()
    with data.locked():
        asyncio.run(_until_signal(Up(data, options, Terminal())))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="labrelay up",
        description="Run database, broker, hub, an agent and a simulated laboratory on this machine.",
    )
    parser.add_argument(
        "--data-dir", type=Path, default=Path(".labrelay"), help="where everything is kept (default: ./.labrelay)"
    )
    parser.add_argument("--port", type=int, default=8000, help="of the page and the API (default: 8000)")
    parser.add_argument("--no-demo", action="store_true", help="no simulated laboratory and no agent")
    parser.add_argument(
        "--lan",
        nargs="?",
        const="",
        metavar="HOST",
        help="let other machines in, over TLS; HOST is the name or address they use (default: this machine's address)",
    )
    parser.add_argument(
        "--no-mosquitto", action="store_true", help="use the embedded broker even if Mosquitto is there"
    )
    return parser


async def _when_parent_is_gone(end: Callable[[], None]) -> None:
    """Call `end` when whoever started us is gone, if that is wished: `make` hands on no SIGKILL."""
    parent = os.getppid()
    while os.environ.get(END_WITH_PARENT) == "1":
        await asyncio.sleep(_PARENT_INTERVAL_S)
        if os.getppid() != parent:
            end()
            return


async def _until_signal(up: Up) -> None:
    """Run `up`, and end it on SIGINT, SIGTERM or SIGHUP; it then ends all that it started before this returns."""
    loop = asyncio.get_running_loop()
    running = asyncio.create_task(up.run(), name="up")
    ended_by_signal = False

    def end() -> None:
        nonlocal ended_by_signal
        if ended_by_signal:
            up.terminal.say("Still ending.")
            return
        ended_by_signal = True
        up.terminal.say("\nEnding.")
        running.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end)
    watching = asyncio.create_task(_when_parent_is_gone(end), name="watch parent")
    try:
        await running
    except asyncio.CancelledError:
        if not ended_by_signal:
            raise
    finally:
        watching.cancel()
    up.terminal.say("Ended. What was stored is there the next time.")
