"""Fuzz a whole hub by its OpenAPI document: `python -m tests.fuzz --seed 7 --seconds 600`.

Starts PostgreSQL, Mosquitto and a hub as processes, lays out a world, and lets schemathesis draw requests to every
operation. The exit status is schemathesis'; what failed is printed with a command that repeats it. Documented in
docs/testing.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labrelay.up import child, ports, postgres
from labrelay.up import mosquitto as mosquitto_program
from tests.fixtures.servers import Mosquitto
from tests.fixtures.stack import Stack, new_stack
from tests.fuzz.world import lay_out

PROJECTS = 16
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "every_error_is_a_problem",
    "every_success_is_documented",
)
"""Not `positive_data_acceptance` (what is well formed may still not be there, or be in another state), nor those that
try credentials: every route with every caller is tests/hub/access/test_route_table.py. Nor those of methods: a path
such as `/sensors/status-summary` answers those of `/sensors/{sensor_id}` too."""
LEFT_OUT = {
    "/auth/logout": "would end the session that all other requests use",
    "/auth/change-password": "the same",
    "/api/v1/telemetry/stream": "its events are described in AsyncAPI, not by a schema of the answer",
    "/api/v1/events/stream": "the same",
}
SETTINGS = """
registration = "open"
access_token_s = 86400
login_attempts_max = 1000000
login_attempts_address_max = 1000000
webhook_allowed_networks = ["127.0.0.0/8"]
artifacts_dir = "{folder}/artifacts"
"""


def main() -> int:
    """Returns: the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz a hub by its OpenAPI document.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=120, help="for drawing requests; starting takes ten more")
    parser.add_argument("--examples", type=int, default=40, help="requests to each operation, at most")
    parser.add_argument("--phases", default="coverage,fuzzing,stateful")
    parser.add_argument("--path", help="only this path of the document")
    parser.add_argument("--folder", type=Path, help="where logs stay; by default a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="labrelay-fuzz-") as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        with running(folder) as stack:
            world = folder / "world.json"
            world.write_text(json.dumps(lay_out(stack.http, PROJECTS)))
            print(f"seed {options.seed}", flush=True)
            status = fuzz(stack, world, options)
            stack.wait_ready()
            return status or _failures(stack)


@contextmanager
def running(folder: Path) -> Iterator[Stack]:
    """A ready hub with everything it needs, on a new database; an administrator is signed in."""
    places = {"run_dir": folder / "run", "log_dir": folder / "logs"}
    database = postgres.prepare(folder / "postgres", **places, durable=False)
    server = child.start(database.spec)
    program = mosquitto_program.find()
    if program is None:
        sys.exit(mosquitto_program.INSTALL_HINT)
    listeners = mosquitto_program.Listeners(ports.free_port())
    broker = Mosquitto(mosquitto_program.prepare(program, folder / "broker", **places, listeners=listeners))
    stack = new_stack(folder, database.url(), broker, broker.port)
    with (folder / "hub.toml").open("a") as file:
        file.write(SETTINGS.format(folder=folder))
    try:
        server.wait_ready()
        broker.start()
        stack.start_hub()
        stack.sign_in()
        yield stack
    finally:
        stack.close()
        broker.stop()
        server.stop()


def fuzz(stack: Stack, world: Path, options: argparse.Namespace) -> int:
    """Run schemathesis. Returns: its exit status."""
    stack.http.get("/openapi.json", timeout=60).raise_for_status()  # made at the first request, then kept
    config = str(Path(__file__).with_name("schemathesis.toml"))
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", config, "run", f"{stack.url}/openapi.json"]
    command += ["--seed", str(options.seed), "--max-time", str(options.seconds), "--phases", options.phases]
    command += ["--max-examples", str(options.examples), "--checks", ",".join(CHECKS), "--workers", "1"]
    command += ["--request-timeout", "20", "--generation-database", "none", "--warnings", "off", "--no-color"]
    command += ["--continue-on-failure", "--suppress-health-check", "all"]
    command += ["-H", f"Authorization: {stack.http.headers['authorization']}"]
    for path in LEFT_OUT:
        command += ["--exclude-path", path]
    if options.path:
        command += ["--include-path", options.path]
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "tests.fuzz.hooks", "LABRELAY_FUZZ_WORLD": str(world)}
    return subprocess.run(command, env=environment, check=False, timeout=options.seconds + 300).returncode


def _failures(stack: Stack) -> int:
    """What the hub's log has of mistakes that no answer showed. Returns: 1 if there are any."""
    lines = stack.hub.log.read_text(errors="replace").splitlines()
    found = [line for line in lines if "event=request_failed" in line or "event=part_failed" in line]
    print("\n".join(found[:20]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
