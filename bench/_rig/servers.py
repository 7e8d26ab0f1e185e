"""PostgreSQL with fsync, Mosquitto with dynamic security, a hub and an enrolled agent, each a process of its own."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bench._rig import processes
from bench._rig.panel import Panel
from labrelay.up import child, mosquitto, ports, postgres
from shared.errors import LabrelayError

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Servers:
    """What runs, and how to reach it."""

    folder: Path
    database_url: str
    postgres_pid: int
    broker: mosquitto.Broker
    broker_pid: int
    hub: subprocess.Popen[bytes]
    http: httpx.Client
    project_id: str

    def spent(self, agents: Sequence[subprocess.Popen[bytes]]) -> processes.Spent:
        """CPU seconds so far."""
        return processes.Spent(
            sum(processes.cpu_s(agent.pid) for agent in agents),
            processes.cpu_s(self.hub.pid),
            processes.family_cpu_s(self.postgres_pid),
            processes.cpu_s(self.broker_pid),
        )

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The JSON answer of a POST. Raises: httpx.HTTPStatusError."""
        answer = self.http.post(path, json=body)
        answer.raise_for_status()
        return answer.json()

    def sensor(self, name: str, kind: str, payload: dict[str, Any]) -> str:
        """A new sensor with a published profile; its id."""
        made = self.post("/api/v1/sensors", {"project_id": self.project_id, "name": name, "type": "bench"})
        sensor_id: str = made["sensor"]["id"]
        profiles = f"/api/v1/sensors/{sensor_id}/conversion-profiles"
        draft = self.post(profiles, {"version": "1", "kind": kind, "payload": payload})
        self.post(f"{profiles}/{draft['id']}/publish", {})
        return sensor_id


@contextmanager
def servers(folder: Path) -> Iterator[Servers]:
    """All but the agent, with the shipped settings; ended in order."""
    program = mosquitto.find()
    if program is None:
        raise LabrelayError("Mosquitto is not installed", hint=mosquitto.INSTALL_HINT)
    run_dir, log_dir = folder / "run", folder / "logs"
    with ExitStack() as stack:
        database = postgres.prepare(folder / "postgres", run_dir=run_dir, log_dir=log_dir, durable=True)
        _started(stack, database.spec)
        listeners = mosquitto.Listeners(ports.free_port())
        broker = mosquitto.prepare(program, folder / "broker", run_dir=run_dir, log_dir=log_dir, listeners=listeners)
        broker_run = _started(stack, broker.spec)
        broker_run.learn_pid(broker_run.control.recv(64))
        password = secrets.token_urlsafe(16) + "-Aa1"
        port = _configure_hub(folder, database, broker, password)
        hub = stack.enter_context(
            running(["-m", "labrelay.cli", "hub", "run", "--config", str(folder / "hub.toml")], log_dir / "hub.log")
        )
        http = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30))
        wait_for(lambda: _is_ready(http, hub), what=f"a ready hub ({log_dir / 'hub.log'})")
        answer = http.post("/auth/login", json={"username": "admin", "password": password})
        answer.raise_for_status()
        http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        project_id = http.post("/projects", json={"name": "Bench"}).raise_for_status().json()["id"]
        postmaster = int((folder / "postgres" / "data" / "postmaster.pid").read_text().splitlines()[0])
        assert broker_run.pid is not None
        yield Servers(folder, database.url(), postmaster, broker, broker_run.pid, hub, http, project_id)


@contextmanager
def agent(servers: Servers, name: str, panels: Sequence[Panel]) -> Iterator[subprocess.Popen[bytes]]:
    """An enrolled agent that reads the panels' instruments."""
    folder = servers.folder / name
    folder.mkdir()
    config = servers.folder / f"{name}.toml"
    config.write_text("\n\n".join(panel.table() for panel in panels) + "\n")
    common = ["--config", str(config), "--data-dir", str(folder)]
    code = servers.post("/api/v1/agents/enrolment-codes", {"project_id": servers.project_id, "name": name})["code"]
    enrol = ["-m", "bench._rig.agent", "agent", "enrol", "--hub", str(servers.http.base_url), "--code", code]
    subprocess.run([sys.executable, *enrol, *common], check=True, timeout=60, stdout=subprocess.DEVNULL)
    log = servers.folder / "logs" / f"{name}.log"
    with running(["-m", "bench._rig.agent", "agent", "run", *common], log) as process:
        for panel in panels:
            panel.connected()
        yield process


@contextmanager
def running(arguments: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A Python program in the background; its output goes to a file."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(condition: Callable[[], bool], *, what: str, timeout_s: float = READY_TIMEOUT_S) -> None:
    """Returns when the condition holds. Raises: LabrelayError when that takes too long."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise LabrelayError(f"{what} did not come about within {timeout_s:g} s")
        time.sleep(0.02)


def _started(stack: ExitStack, spec: child.ChildSpec) -> child.Child:
    server = child.start(spec)
    stack.callback(server.stop)
    server.wait_ready()
    return server


def _is_ready(http: httpx.Client, hub: subprocess.Popen[bytes]) -> bool:
    if hub.poll() is not None:
        raise LabrelayError("the hub ended")
    try:
        return http.get("/health/ready").status_code == 200
    except httpx.HTTPError:
        return False


def _configure_hub(folder: Path, database: postgres.Postgres, broker: mosquitto.Broker, password: str) -> int:
    """Endpoints and secrets only: all else stays as shipped. Returns: the hub's port."""
    port = ports.free_port()
    (folder / "admin-password").write_text(password)
    (folder / "mqtt-password").write_text(broker.password)
    settings: dict[str, str | int] = {
        "database_url": database.url(),
        "port": port,
        "mqtt_port": broker.port,
        "mqtt_username": broker.username,
        "mqtt_password_file": str(folder / "mqtt-password"),
        "broker_provisioning": "dynsec",
        "secret_key_file": str(folder / "secret"),
        "admin_password_file": str(folder / "admin-password"),
    }
    lines = [f"{key} = {value if isinstance(value, int) else repr(value)}" for key, value in settings.items()]
    (folder / "hub.toml").write_text("\n".join(lines) + "\n")
    return port
