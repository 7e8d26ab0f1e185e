"""The real thing in one folder: PostgreSQL with fsync, Mosquitto, a hub, agents and instruments, each a process.

::

    instrument ─[instrument-x]─ agent x ─[agents]─ Mosquitto ─[hub-broker]─ hub ─[hub-database]─ PostgreSQL

The names in brackets are lines that can be broken (`bench.chaos.links`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bench.chaos.clocks import WallClock
from bench.chaos.instrument import POINTS
from bench.chaos.links import Links
from bench.chaos.server import Server
from labrelay.up import mosquitto, ports, postgres
from labrelay.up.child import ChildSpec
from shared.errors import LabrelayError

AGENTS = ("a", "b")
FLUSH_S = 0.2
"""How long a reading waits for others before it is committed; the agent's default at this rate."""
SMALL_DISK_BYTES = 192 * 1024 * 1024
_ADMIN_PASSWORD = "Correct-Horse-1"
_HTTP_TIMEOUT_S = 30.0
_READY_TIMEOUT_S = 60.0


@dataclass(slots=True)
class Agent:
    """An agent, its instrument, and where it keeps its data.

    Attributes:
        interval_s: between two polls; what it runs with, or ran with last.
        line_port: where the line to the instrument begins.
    """

    name: str
    folder: Path
    config: Path
    clock: WallClock
    interval_s: float
    server: Server
    instrument: Server
    instrument_port: int
    line_port: int
    small_disk: bool

    @property
    def data_dir(self) -> Path:
        """Holds the spool."""
        return self.folder / "data"

    @property
    def spool(self) -> Path:
        """The spool's file."""
        return self.data_dir / "spool.db"

    def configure(self, interval_s: float, *, flush_s: float = FLUSH_S, more: Sequence[str] = ()) -> None:
        """Write its configuration, for the next start; `more` are lines of other tables."""
        self.interval_s = interval_s
        device = f"bench_{self.name}"
        lines = ["[hub]", "silence_s = 10", *more]
        lines += [f"[devices.{device}]", 'driver = "modbus-tcp"', 'host = "127.0.0.1"', f"port = {self.line_port}"]
        lines += [f"interval_s = {interval_s}", f"flush_interval_s = {flush_s}", "timeout_s = 3"]
        lines += [f"[devices.{device}.points]"]
        lines += [f'p{n:02d} = {{ register = "holding:{2 * n}", type = "uint32" }}' for n in range(POINTS)]
        self.config.write_text("\n".join(lines) + "\n")

    def clone(self, number: int) -> tuple[Path, Server]:
        """A copy of the agent's disk, and a process to run on it. The agent must be down."""
        folder = self.folder.parent / f"{self.folder.name}-clone-{number}"
        folder.mkdir()
        copy(self.data_dir, folder / "data")
        name = f"{self.name}-clone-{number}"
        return folder / "data" / "spool.db", Server(_agent_spec(name, folder, self.config, self.clock))


class Stack:
    """Everything, started by `start` and ended by `close`.

    Args:
        interval_s: between two polls of an instrument; each gives `POINTS` readings.
        folder: empty, ours.
    """

    def __init__(self, folder: Path, *, interval_s: float) -> None:
        self.folder = folder
        self.links = Links()
        self._interval_s = interval_s
        self._mounted: list[Path] = []
        logs, run = folder / "logs", folder / "run"
        self._database = postgres.prepare(folder / "postgres", run_dir=run, log_dir=logs, durable=True)
        self.database = Server(self._database.spec)
        program = mosquitto.find()
        if program is None:
            raise LabrelayError("Mosquitto is not installed", hint=mosquitto.INSTALL_HINT)
        self._broker = mosquitto.prepare(
            program, folder / "broker", run_dir=run, log_dir=logs, listeners=mosquitto.Listeners(ports.free_port())
        )
        self.broker = Server(self._broker.spec)
        self._hub_port = ports.free_port()
        self.hub_clock = WallClock(folder / "hub-clock")
        self.hub = Server(self._hub_spec())
        self.agents = [self._agent(name) for name in AGENTS]

    @property
    def database_url(self) -> str:
        """The database, past the line that can be broken."""
        return self._database.url()

    @property
    def database_folder(self) -> Path:
        """The cluster's files."""
        return self.folder / "postgres" / "data"

    @property
    def broker_store(self) -> Path:
        """What Mosquitto remembers over a restart."""
        return self.folder / "broker" / "mosquitto.db"

    @property
    def servers(self) -> list[Server]:
        """Everything that is to run."""
        agents = [server for agent in self.agents for server in (agent.instrument, agent.server)]
        return [self.database, self.broker, self.hub, *agents]

    def start(self) -> None:
        """Start everything, and enrol the agents."""
        self.database.start()
        self.broker.start()
        self.hub.start()
        with httpx.Client(base_url=self._hub_url, timeout=_HTTP_TIMEOUT_S) as hub:
            login = hub.post("/auth/login", json={"username": "admin", "password": _ADMIN_PASSWORD})
            hub.headers["Authorization"] = f"Bearer {_answer(login)['access_token']}"
            project = _answer(hub.post("/projects", json={"name": "Chaos"}))["id"]
            for agent in self.agents:
                body = {"project_id": project, "name": agent.name}
                self._enrol(agent, _answer(hub.post("/api/v1/agents/enrolment-codes", json=body))["code"])
        for agent in self.agents:
            agent.instrument.start()
            agent.server.start()

    def close(self) -> None:
        """End everything that was started."""
        for server in reversed(self.servers):
            _quietly(server.stop)
        _quietly(self.links.close)
        for path in self._mounted:
            subprocess.run(["umount", "-l", str(path)], check=False, capture_output=True, timeout=20)

    @property
    def _hub_url(self) -> str:
        return f"http://127.0.0.1:{self._hub_port}"

    def _hub_spec(self) -> ChildSpec:
        folder = self.folder / "hub"
        folder.mkdir()
        (folder / "admin-password").write_text(_ADMIN_PASSWORD)
        (folder / "mqtt-password").write_text(self._broker.password)
        seen = self.links.add("hub-database", self._database.port)
        settings: dict[str, Any] = {
            "database_url": self._database.url().replace(f":{self._database.port}/", f":{seen}/"),
            "port": self._hub_port,
            "public_url": self._hub_url,
            "secret_key_file": str(folder / "secret"),
            "mqtt_host": "127.0.0.1",
            "mqtt_port": self.links.add("hub-broker", self._broker.port),
            "mqtt_username": self._broker.username,
            "mqtt_password_file": str(folder / "mqtt-password"),
            "broker_provisioning": "dynsec",
            "agent_mqtt_host": "127.0.0.1",
            "agent_mqtt_port": self.links.add("agents", self._broker.port),
            "admin_password_file": str(folder / "admin-password"),
        }
        lines = [f"{key} = {value if isinstance(value, int) else repr(value)}" for key, value in settings.items()]
        (folder / "hub.toml").write_text("\n".join(lines) + "\n")
        command = (*self.hub_clock.program("labrelay.cli"), "hub", "run", "--config", str(folder / "hub.toml"))
        return self._spec("hub", command, self._hub_ready)

    def _hub_ready(self) -> bool:
        try:
            return httpx.get(f"{self._hub_url}/health/ready", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def _agent(self, name: str) -> Agent:
        folder = self.folder / f"agent-{name}"
        folder.mkdir()
        port = ports.free_port()
        small = name == AGENTS[-1] and self._mount(folder)
        config, clock = self.folder / f"agent-{name}.toml", WallClock(self.folder / f"agent-{name}-clock")
        instrument = (sys.executable, "-m", "bench.chaos.instrument", str(port))
        agent = Agent(
            name,
            folder,
            config,
            clock,
            self._interval_s,
            Server(_agent_spec(f"agent-{name}", folder, config, clock)),
            Server(self._spec(f"instrument-{name}", instrument, lambda: ports.accepts("127.0.0.1", port))),
            port,
            self.links.add(f"instrument-{name}", port),
            small,
        )
        agent.configure(self._interval_s)
        return agent

    def _mount(self, folder: Path) -> bool:
        """A disk that can be filled; only root may make one."""
        if os.geteuid() != 0:
            return False
        command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_BYTES}", "tmpfs", str(folder)]
        done = subprocess.run(command, check=False, capture_output=True, timeout=20)
        if done.returncode == 0:
            self._mounted.append(folder)
        return done.returncode == 0

    def _enrol(self, agent: Agent, code: str) -> None:
        command = [sys.executable, "-m", "labrelay.cli", "agent", "enrol", "--hub", self._hub_url, "--code", code]
        command += ["--config", str(agent.config), "--data-dir", str(agent.data_dir)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    def _spec(self, name: str, command: tuple[str, ...], ready: Callable[[], bool]) -> ChildSpec:
        return ChildSpec(
            name=name,
            command=command,
            run_dir=self.folder / "run",
            log_dir=self.folder / "logs",
            ready=ready,
            ready_timeout_s=_READY_TIMEOUT_S,
        )


def _agent_spec(name: str, folder: Path, config: Path, clock: WallClock) -> ChildSpec:
    command = (*clock.program("labrelay.cli"), "agent", "run", "--config", str(config))
    command += ("--data-dir", str(folder / "data"))
    return ChildSpec(name=name, command=command, run_dir=config.parent / "run", log_dir=config.parent / "logs")


def copy(source: Path, target: Path) -> None:
    """A folder with owners, modes and holes, replacing what is there."""
    subprocess.run(["rm", "-rf", str(target)], check=True, timeout=60)
    subprocess.run(["cp", "-a", str(source), str(target)], check=True, timeout=120)


def wait_until(condition: Callable[[], bool], timeout_s: float, *, every_s: float = 0.2) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every_s)
    return True


def _answer(response: httpx.Response) -> Any:
    response.raise_for_status()
    return response.json()


def _quietly(end: Callable[[], None]) -> None:
    try:
        end()
    except (OSError, RuntimeError, TimeoutError) as error:
        print(f"chaos: {error}", file=sys.stderr)
