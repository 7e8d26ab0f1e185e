"""A laboratory for the test that tells its day: people, an instrument that counts, a line to cut, listeners."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from drivers.simulators.modbus import ModbusSimulator, Replay
from labrelay.up import ports
from tests.fixtures.proxy import FaultProxy
from tests.fixtures.servers import Mosquitto
from tests.fixtures.stack import Agent, Stack, new_stack, wait_for

PASSWORD = "Correct-Horse-2"
POLL_INTERVAL_S = 0.02
COUNTER = """
[devices.counter]
driver = "modbus-tcp"
host = "127.0.0.1"
port = {port}
unit = 1
interval_s = {interval_s}
[devices.counter.points]
value = {{ register = "holding:0", type = "float64" }}
count = {{ register = "holding:4", type = "float64" }}
"""


@dataclass
class Line:
    """The agents' way to the broker."""

    proxy: FaultProxy
    loop: asyncio.AbstractEventLoop

    def cut(self) -> None:
        """Reset what is connected, and refuse what tries to be."""
        asyncio.run_coroutine_threadsafe(self.proxy.cut(), self.loop).result(10)

    def mend(self) -> None:
        """Let all through again."""
        self.loop.call_soon_threadsafe(self.proxy.forward)


@contextmanager
def line_to(host: str, port: int) -> Iterator[Line]:
    """A line with a loop of its own."""
    ready: list[Line] = []
    opened, ended = threading.Event(), threading.Event()

    async def serve() -> None:
        async with FaultProxy(host, port) as proxy:
            ready.append(Line(proxy, asyncio.get_running_loop()))
            opened.set()
            await asyncio.to_thread(ended.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="line")
    thread.start()
    try:
        assert opened.wait(10)
        yield ready[0]
    finally:
        ended.set()
        thread.join(20)


@dataclass
class Person:
    """Somebody with an account."""

    id: str
    http: httpx.Client

    def ask(self, method: str, path: str, body: Any = None, *, status: int | None = None, **parameters: Any) -> Any:
        """The JSON answer of a request that must have this status, or succeed."""
        answer = self.http.request(method, path, json=body, params=parameters)
        assert answer.is_success if status is None else answer.status_code == status, f"{path}: {answer.text}"
        return answer.json() if answer.content and status in (None, answer.status_code) else None

    def get(self, path: str, **parameters: Any) -> Any:
        """A GET that succeeds."""
        return self.ask("GET", path, **parameters)

    def post(self, path: str, body: Any = None, **parameters: Any) -> Any:
        """A POST that succeeds."""
        return self.ask("POST", path, body, **parameters)


class Follower:
    """Reads a stream of server-sent events until it is closed."""

    def __init__(self, person: Person, path: str, **parameters: Any) -> None:
        self.events: list[dict[str, Any]] = []
        self._closed = False
        self._person, self._path, self._parameters = person, path, parameters
        self._thread = threading.Thread(target=self._follow, name="follower")
        self._thread.start()

    def types(self) -> set[str]:
        """Types of the events that came so far."""
        return {event["event_type"] for event in list(self.events)}

    def close(self) -> None:
        """Stop listening."""
        self._closed = True
        self._thread.join(20)

    def _follow(self) -> None:
        with self._person.http.stream("GET", self._path, params=self._parameters, timeout=15) as answer:
            for line in answer.iter_lines():
                if self._closed:
                    return
                if line.startswith("data:"):
                    self.events.append(json.loads(line[5:]))


@dataclass
class Subscriber:
    """`mosquitto_sub` with a member's credentials."""

    process: subprocess.Popen[str]
    output: Path

    @classmethod
    def of(cls, broker: Mosquitto, credentials: dict[str, Any], topic: str, output: Path) -> Subscriber:
        """Subscribe, and write what comes to a file, a line each."""
        address = ["-h", broker.host, "-p", str(broker.port)]
        login = ["-u", credentials["broker_credential"]["username"], "-P", credentials["password"]]
        with output.open("w") as file:
            command = ["mosquitto_sub", *address, *login, "-q", "1", "-t", topic]
            process = subprocess.Popen(command, stdout=file, text=True)
        return cls(process, output)

    def types(self) -> set[str]:
        """Types of the events that came so far."""
        return {json.loads(line)["event_type"] for line in self.output.read_text().splitlines()}

    def close(self) -> None:
        """Stop listening."""
        self.process.terminate()
        self.process.wait(10)


@dataclass
class Laboratory:
    """All that the day happens in.

    Attributes:
        numbers: what the instrument counts: 0, 1, 2, … each once.
    """

    stack: Stack
    line: Line
    numbers: Replay
    instrument: ModbusSimulator
    folder: Path
    admin: Person
    people: dict[str, Person] = field(default_factory=dict)

    def register(self, name: str, invited_by: Person, **invitation: Any) -> Person:
        """Somebody who follows an invitation."""
        token = invited_by.post("/auth/invitations", invitation)["token"]
        body = {"username": name, "email": f"{name}@lab.example", "password": PASSWORD, "invitation_token": token}
        answer = httpx.post(f"{self.stack.url}/auth/register", json=body, timeout=30)
        assert answer.status_code == 201, answer.text
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        client = httpx.Client(base_url=self.stack.url, headers=headers, timeout=30)
        self.people[name] = Person(answer.json()["user"]["id"], client)
        return self.people[name]

    def agent(self, owner: Person, project: str) -> Agent:
        """The agent that reads the instrument, enrolled by an owner."""
        agent = self.stack.new_agent("lab-pc", COUNTER.format(port=self.instrument.port, interval_s=POLL_INTERVAL_S))
        self.stack.http, self.stack.project_id = owner.http, project
        self.stack.enrol(agent, "lab-pc")
        return agent

    def close(self) -> None:
        """End everything."""
        for person in (self.admin, *self.people.values()):
            person.http.close()


@contextmanager
def laboratory(folder: Path, database_url: str, new_mosquitto: Callable[[], Mosquitto]) -> Iterator[Laboratory]:
    """A ready hub that people enter by invitation, and whose webhooks may go to this machine."""
    broker = new_mosquitto()
    broker.start()
    with line_to(broker.host, broker.port) as line:
        stack = new_stack(folder, database_url, broker, line.proxy.port)
        with (folder / "hub.toml").open("a") as file:
            file.write('registration = "invitation"\nwebhook_allowed_networks = ["127.0.0.0/8"]\n')
        numbers = Replay(np.arange(50_000, dtype=np.float64).reshape(-1, 1))
        instrument = ModbusSimulator(replays=[numbers], port=ports.free_port())
        instrument.start()
        try:
            stack.start_hub()
            stack.sign_in()
            with closing(Laboratory(stack, line, numbers, instrument, folder, Person("", stack.http))) as made:
                yield made
        finally:
            instrument.stop()
            stack.close()


def is_online(owner: Person, project: str) -> bool:
    """Whether the project's agent is at the hub."""
    (agent,) = owner.get("/api/v1/agents", project_id=project)["agents"]
    return bool(agent["online"])


def has_delivered(owner: Person, project: str) -> bool:
    """Whether the project's agent is at the hub and holds nothing back, while its instrument is silent."""
    (agent,) = owner.get("/api/v1/agents", project_id=project)["agents"]
    return bool(agent["online"] and agent["backlog_readings"] == 0 and agent["devices"][0]["status"] != "ok")


def soon(condition: Callable[[], Any], what: str) -> Any:
    """Wait for something of the day."""
    return wait_for(condition, timeout_s=30, what=what)
