"""`labrelay up` as a process: it comes up, keeps what is stored, refuses a second one, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from labrelay.up import ports
from tests.fixtures.processes import lives, mentioning, soon

ROOT = Path(__file__).parents[3]
START_TIMEOUT_S = 90.0


class Machine:
    """A data directory, and `labrelay up` on it."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.port = ports.free_port()
        self.output = folder / "output"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def said(self) -> str:
        return self.output.read_text()

    @property
    def servers(self) -> dict[str, dict[str, Any]]:
        try:
            return {server["name"]: server for server in json.loads((self.data / "up.json").read_text())["servers"]}
        except (OSError, ValueError):
            return {}

    def command(self, *options: str) -> list[str]:
        where = ["--data-dir", str(self.data), "--port", str(self.port)]
        return [sys.executable, "-m", "labrelay", "up", *where, *options]

    def start(self, *options: str) -> None:
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                self.command(*options), stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=ROOT
            )
        soon(lambda: "Ctrl-C ends" in self.said or self.ended, "it is up", START_TIMEOUT_S)
        assert not self.ended, self.said

    @property
    def ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    def nothing_left(self) -> bool:
        return not mentioning(str(self.data))

    @contextlib.contextmanager
    def sign_in(self) -> Iterator[httpx.Client]:
        password = (self.data / "admin-password").read_text().strip()
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=20) as client:
            answer = client.post("/auth/login", json={"username": "admin", "password": password}).raise_for_status()
            client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
            yield client


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    if not made.ended:
        made.end()
    soon(made.nothing_left, "nothing of it is left", 40)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_ends_all_that_it_started_when_told_to(machine: Machine, number: signal.Signals) -> None:
    machine.start("--no-demo")
    pids = [server["pid"] for server in machine.servers.values()]
    assert len(pids) == 3
    assert machine.end(number) == 0
    assert machine.nothing_left()
    assert not any(lives(pid) for pid in pids)
    assert not (machine.data / "up.json").exists()
    assert "database system is shut down" in (machine.data / "logs" / "postgres.log").read_text()


def test_killed_it_leaves_no_server_and_starts_again_at_once(machine: Machine) -> None:
    machine.start("--no-demo", "--no-mosquitto")
    with machine.sign_in() as hub:
        hub.post("/projects", json={"name": "Kept"}).raise_for_status()
    pids = [server["pid"] for server in machine.servers.values()]
    machine.end(signal.SIGKILL)
    machine.start("--no-demo", "--no-mosquitto")
    assert not any(lives(pid) for pid in pids)
    with machine.sign_in() as hub:
        assert [project["name"] for project in hub.get("/projects").json()["projects"]] == ["Kept"]
    machine.end(signal.SIGKILL)
    soon(machine.nothing_left, "no server is left", 40)


def test_anyone_on_this_machine_may_register_unless_the_operator_says_otherwise(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = {"username": "ann", "email": "ann@example.org", "password": "Password1"}
    machine.start("--no-demo", "--no-mosquitto")
    assert httpx.post(f"http://127.0.0.1:{machine.port}/auth/register", json=person, timeout=20).status_code == 201
    machine.end()
    monkeypatch.setenv("LABRELAY_HUB_REGISTRATION", "closed")
    machine.start("--no-demo", "--no-mosquitto")
    other = person | {"username": "bob", "email": "bob@example.org"}
    refused = httpx.post(f"http://127.0.0.1:{machine.port}/auth/register", json=other, timeout=20)
    assert (refused.status_code, refused.json()["code"]) == (403, "registration_closed")


def test_a_second_one_is_refused_and_told_of_the_first(machine: Machine) -> None:
    machine.start("--no-demo")
    assert machine.process is not None
    second = subprocess.run(machine.command("--no-demo"), capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert second.returncode == 1
    assert f"in use by process {machine.process.pid}, at http://127.0.0.1:{machine.port}" in second.stderr
    assert not machine.ended


def test_servers_that_die_are_started_again(machine: Machine) -> None:
    machine.start("--no-demo")
    for name in ("broker", "hub", "postgres"):
        before = machine.servers[name]
        os.kill(before["pid"], signal.SIGKILL)

        def back(name: str = name, old: int = before["pid"]) -> bool:
            now = machine.servers.get(name, {})
            return now.get("state") == "running" and now.get("pid") not in (None, old)

        soon(back, f"{name} is back", 60)
        assert f"{name} is back" in machine.said

    def healthy() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{machine.port}/health/ready", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    soon(healthy, "the hub is ready again", 60)


def test_the_link_that_it_prints_signs_in_once(machine: Machine) -> None:
    machine.start("--no-demo")
    found = re.search(r"http://\S+/sign-in\?token=\S+", machine.said)
    assert found, machine.said
    with httpx.Client(timeout=20, follow_redirects=True) as browser:
        assert browser.get(found.group()).status_code == 200
        assert browser.get(f"http://127.0.0.1:{machine.port}/auth/me").json()["username"] == "admin"
    with httpx.Client(timeout=20) as another:
        another.get(found.group())
        assert another.get(f"http://127.0.0.1:{machine.port}/auth/me").status_code == 401
    assert (machine.data / "admin-password").stat().st_mode & 0o777 == 0o600


def test_a_port_that_is_taken_is_named_before_anything_starts(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", machine.port)):
        done = subprocess.run(machine.command(), capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 1
    assert re.search(
        rf"port {machine.port} is taken by another program \(choose another one: --port \d+\)", done.stderr
    )
    assert not (machine.data / "postgres").exists()


@pytest.mark.slow
@pytest.mark.parametrize("broker", [(), ("--no-mosquitto",)], ids=["mosquitto", "embedded"])
def test_the_demo_flows_from_simulated_instruments_to_converted_readings(
    machine: Machine, broker: tuple[str, ...]
) -> None:
    machine.start(*broker)
    with machine.sign_in() as hub:

        def converted() -> set[str]:
            points = hub.get("/api/v1/telemetry/query", params={"order": "desc", "limit": 2000}).raise_for_status()
            return {p["sensor_id"] for p in points.json()["points"] if p["conversion_status"] == "converted"}

        soon(lambda: len(converted()) == 8, "all eight profiles of the demo are applied", 60)
        (agent,) = hub.get("/api/v1/agents").json()["agents"]
    assert machine.end() == 0
    machine.start(*broker)
    with machine.sign_in() as hub:
        assert [one["id"] for one in hub.get("/api/v1/agents").json()["agents"]] == [agent["id"]]
        soon(lambda: len(converted()) == 8, "the agent goes on after a restart", 60)
