"""`labrelay agent …`: enrol, run, look, check.

Exit status: 0 done, 1 failed, 2 wrong usage or configuration.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence

import msgspec

from agent import scan
from agent.acquisition.schedule import readings_per_s
from agent.configuration import find_config, load_settings, read_settings
from agent.daemon import product_version
from agent.daemon import run as run_agent
from agent.hub_link.enrol import enrol
from agent.logging import set_up
from agent.probe import LISTENING_S, Probe, probe
from agent.report import describe_status, describe_value, local_time
from agent.settings import Settings, default_data_dir
from agent.spool import cli as spool_cli
from agent.status import INTERVAL_S, LocalStatus, StatusFiles
from shared.clock import AnchoredClock
from shared.errors import ConfigurationError, LabrelayError
from shared.messages import LiveValue

EXIT_FAILED = 1
EXIT_CONFIGURATION = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line. Returns: the exit status. Raises: LabrelayError, which the caller shows."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    options, others = parser.parse_known_args(arguments)
    command: str = options.command
    if command == "spool":
        return spool_cli.main(others, _settings(options).data_dir)
    if others:
        parser.error(f"unknown arguments: {' '.join(others)}")
    return {
        "enrol": _enrol,
        "run": _run,
        "status": _status,
        "read": _read,
        "tail": _tail,
        "check": _check,
        "scan": scan.run,
    }[command](options)


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--config", metavar="FILE", help="default ./labrelay-agent.toml, else /etc/labrelay/agent.toml")
    shared.add_argument("--data-dir", metavar="DIR", help=f"wins over the file's; default {default_data_dir()}")
    parser = argparse.ArgumentParser(prog="labrelay agent", description="Reads instruments and forwards to the hub.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    enrolment = commands.add_parser("enrol", parents=[shared], help="exchange a code from the hub for credentials")
    enrolment.add_argument("--hub", required=True, metavar="URL")
    enrolment.add_argument("--code", required=True, help="shown once by the hub; begins with LR1-")
    enrolment.add_argument("--name", default="", help="how the agent is called at the hub")
    enrolment.add_argument("--insecure", action="store_true", help="allow plain http beyond this computer")
    commands.add_parser("run", parents=[shared], help="take samples and forward them, until a signal comes")
    status = commands.add_parser("status", parents=[shared], help="how the agent on this computer is")
    status.add_argument("--json", action="store_true")
    reading = commands.add_parser("read", parents=[shared], help="read an instrument once, without running an agent")
    reading.add_argument("device", metavar="DEVICE")
    reading.add_argument("--json", action="store_true")
    reading.add_argument(
        "--wait", type=float, default=LISTENING_S, metavar="S", help="for instruments that talk unasked; default 10 s"
    )
    tail = commands.add_parser("tail", parents=[shared], help="follow the values of the running agent")
    tail.add_argument("names", nargs="*", metavar="SENSOR", help="only sensors whose names begin like this")
    check = commands.add_parser("check", help="find every mistake in a configuration")
    check.add_argument("file", nargs="?", metavar="CONFIG")
    scan.add_arguments(commands.add_parser("scan", help="find serial ports, Modbus units and registers"))
    commands.add_parser("spool", parents=[shared], help="look into the spool", add_help=False)
    return parser


def _settings(options: argparse.Namespace) -> Settings:
    """Raises: ConfigurationError."""
    return load_settings(find_config(options.config), data_dir=options.data_dir)


def _enrol(options: argparse.Namespace) -> int:
    settings = _settings(options)
    credentials = enrol(
        options.hub,
        options.code,
        settings.data_dir,
        options.name or settings.name,
        version=product_version(),
        insecure=options.insecure,
    )
    print(f"enrolled as {credentials.name} ({credentials.agent_id}); credentials are in {settings.data_dir}")
    return 0


def _run(options: argparse.Namespace) -> int:
    settings = _settings(options)
    set_up(settings.agent.log_level, settings.agent.log_format)
    # aiomqtt needs add_reader, which Windows' default loop lacks.
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(run_agent(settings))
    return 0


def _status(options: argparse.Namespace) -> int:
    status = _running(options)
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(status)).decode())
    else:
        print("\n".join(describe_status(status)))
    return 0 if status.running else EXIT_FAILED


def _running(options: argparse.Namespace) -> LocalStatus:
    data_dir = _settings(options).data_dir
    try:
        status = StatusFiles(data_dir).read()
    except PermissionError:
        raise LabrelayError(f"{data_dir} is another user's", hint="ask as the user who runs the agent") from None
    if status is None:
        raise LabrelayError(
            f"no agent has run with the data directory {data_dir}", hint="give its --config or --data-dir"
        )
    return status


def _read(options: argparse.Namespace) -> int:
    entry = _settings(options).device(options.device)
    found = probe(entry, AnchoredClock(), listening_s=options.wait)
    if options.json:
        print(json.dumps(_probe_as_json(found), indent=2, ensure_ascii=False))
    else:
        _print_probe(found)
    for error in found.errors:
        print(f"labrelay: {entry.device.name}: {error}", file=sys.stderr)
    return 0 if found.values and not found.errors else EXIT_FAILED


def _print_probe(found: Probe) -> None:
    width = max([len(value.point.name) for value in found.values] + [len(name) for name in found.texts], default=0)
    for value in found.values:
        shown = f"{value.raw!r:>22} {value.point.unit}"
        if value.reason:
            shown += f"  {value.reason.label.replace('_', ' ')}"
        print(f"{local_time(value.timestamp_us)}  {value.point.name:{width}}  {shown}".rstrip())
    for name, text in found.texts.items():
        print(f"{name:{width}}  {text!r}")


def _probe_as_json(found: Probe) -> dict[str, object]:
    values = [
        {
            "point": value.point.name,
            "sensor": value.point.sensor,
            "signal": value.point.signal,
            "timestamp_us": value.timestamp_us,
            "raw": None if value.raw != value.raw else value.raw,
            "unit": value.point.unit,
            "reason": value.reason.label if value.reason else "",
        }
        for value in found.values
    ]
    return {"values": values, "texts": found.texts, "errors": [str(error) for error in found.errors]}


def _tail(options: argparse.Namespace) -> int:
    """Print what changed, until interrupted."""
    if not _running(options).running:
        raise LabrelayError("the agent does not run", hint="start it with: labrelay agent run")
    files = StatusFiles(_settings(options).data_dir)
    shown: dict[tuple[str, str], LiveValue] = {}
    while True:
        for value in files.watch():
            name = (value.sensor, value.signal)
            wanted = not options.names or value.sensor.startswith(tuple(options.names))
            if wanted and shown.get(name) != value:
                shown[name] = value
                print(describe_value(value), flush=True)
        time.sleep(INTERVAL_S)
        status = files.read()
        if status is None or not status.running:
            raise LabrelayError("the agent has stopped")


def _check(options: argparse.Namespace) -> int:
    path = find_config(options.file)
    if path is None:
        raise ConfigurationError("no configuration found", hint="name the file: labrelay agent check FILE")
    settings, errors = read_settings(path)
    for error in errors:
        print(error)
    if settings is None:
        print(f"{len(errors)} mistake{'s' * (len(errors) != 1)}")
        return EXIT_CONFIGURATION
    print(f"{path}: agent `{settings.name}`, data in {settings.data_dir}")
    for entry in settings.devices:
        device = entry.device
        rate = f", up to {readings_per_s(device):g} readings/s" if device.points else ""
        print(f"  {device.name}: {entry.driver.name} on {device.bus}, {len(device.points)} points{rate}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
