"""The `labrelay` command: hands over to the part that is asked for and imports nothing else.

Exit status: 0 done, 1 failed, 2 wrong usage or configuration, 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from shared import wire
from shared.errors import ConfigurationError, LabrelayError, LimitExceeded

EXIT_FAILED = 1
EXIT_CONFIGURATION = 2
EXIT_INTERRUPTED = 130
WIRE_FILE_BYTES_MAX = 64 * 1024 * 1024
_OURS = ("shared", "drivers", "agent", "hub", "labrelay")


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the product with a command of its own.

    Attributes:
        module: whose `main(arguments) -> exit status` does the work.
        extra: what must be installed for it.
        help: a line for `labrelay --help`.
    """

    module: str
    extra: str
    help: str


PARTS = {
    "up": Part("labrelay.up.command", "all", "run everything on this machine"),
    "agent": Part("agent.cli", "agent", "read instruments and forward: run, enrol, status, read, check, spool"),
    "hub": Part("hub.cli", "hub", "the central server: run, migrate, openapi"),
    "verify": Part("labrelay.verify", "verify", "check a session's certificate of completeness, offline"),
    "simulate": Part("drivers.simulators.laboratory", "agent", "run a simulated laboratory from a TOML file"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line. Returns: the exit status; never a traceback for an error of ours."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return guarded(lambda: _dispatch(arguments))


def guarded(run: Callable[[], int]) -> int:
    """Run a command, and say what went wrong in one line."""
    try:
        status = run()
        sys.stdout.flush()
        return status
    except ConfigurationError as error:
        return _fail(str(error), EXIT_CONFIGURATION)
    except LabrelayError as error:
        return _fail(str(error), EXIT_FAILED)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has left: not our error
        return 128 + signal.SIGPIPE.value if hasattr(signal, "SIGPIPE") else EXIT_FAILED


def _fail(message: str, status: int) -> int:
    print(f"labrelay: {message}", file=sys.stderr)
    return status


def _dispatch(arguments: list[str]) -> int:
    part = PARTS.get(arguments[0]) if arguments else None
    if part is not None:
        return _load(arguments[0], part)(arguments[1:])
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command == "wire":
        return _decode_wire(options.file)
    parser.print_help()
    return EXIT_CONFIGURATION


def _load(command: str, part: Part) -> Callable[[Sequence[str]], int]:
    """The part's `main`. Raises: LabrelayError when its libraries are not installed."""
    try:
        loaded: Callable[[Sequence[str]], int] = importlib.import_module(part.module).main
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in _OURS:
            raise
        raise LabrelayError(
            f"`labrelay {command}` needs {error.name}, which is not installed",
            hint=f"pip install 'labrelay[{part.extra}]'",
        ) from error
    return loaded


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="labrelay", description="Carries readings from laboratory instruments into experiment records."
    )
    parser.add_argument("--version", action="version", version=f"labrelay {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, part in PARTS.items():
        commands.add_parser(name, help=part.help, add_help=False)
    wire_parser = commands.add_parser("wire", help="look into batches")
    decode = wire_parser.add_subparsers(dest="wire_command", required=True).add_parser(
        "decode", help="print the batches of a message as JSON"
    )
    decode.add_argument("file", metavar="FILE", help="a message or a batch as it goes over the wire; - for stdin")
    return parser


def _version() -> str:
    try:
        return version("labrelay")
    except PackageNotFoundError:
        return "from a source tree that is not installed"


def _decode_wire(file: str) -> int:
    """Print a JSON list with one object a batch. Raises: WireError, LabrelayError for an unreadable file."""
    try:
        with sys.stdin.buffer if file == "-" else Path(file).open("rb") as source:
            payload = source.read(WIRE_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise LabrelayError(f"{file} cannot be read: {error.strerror}") from error
    if len(payload) > WIRE_FILE_BYTES_MAX:
        raise LimitExceeded(f"{file} has more than {WIRE_FILE_BYTES_MAX >> 20} MiB")
    json.dump(wire.describe(payload), sys.stdout, indent=2)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
