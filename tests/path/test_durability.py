"""On the disk before anybody says so: the system calls of the real processes, in their order.

`strace` follows every thread and writes down when a file was synchronised and when something was said.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.chaos.server import family
from drivers.simulators.modbus import ModbusSimulator, SimulatedRegister
from labrelay.up import child, postgres
from labrelay.up.child import Child
from tests.fixtures.optional import skip_or_fail
from tests.fixtures.servers import Mosquitto
from tests.fixtures.stack import Stack, new_stack, wait_for

TAKEN = 30


@dataclass(frozen=True)
class Call:
    """One system call: when it was finished, which one, on what, with what."""

    at_s: float
    name: str
    rest: str

    @property
    def is_sync(self) -> bool:
        """Whether it puts a file on the disk."""
        return self.name in ("fsync", "fdatasync")


@pytest.fixture(scope="module")
def strace() -> str:
    """The program, where this machine lets us trace."""
    found = shutil.which("strace")
    if found is None:
        skip_or_fail("strace is not installed", "apt-get install strace")
    tried = subprocess.run([found, "-o", os.devnull, "true"], capture_output=True, timeout=20, check=False)
    if tried.returncode != 0:
        skip_or_fail("strace may not trace here", "allow ptrace (CAP_SYS_PTRACE)")
    return found


@contextmanager
def traced(strace: str, pids: list[int], out: Path, calls: str) -> Iterator[None]:
    """Around a time in which processes, and what they fork, are watched."""
    command = [strace, "-f", "-y", "-ttt", "-T", "-s", "96", "-e", f"trace={calls}", "-o", str(out)]
    command += [part for pid in pids for part in ("-p", str(pid))]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert running.stderr is not None
        for _ in pids:
            assert "attached" in running.stderr.readline()
        yield
    finally:
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=20)


def calls_in(out: Path) -> list[Call]:
    """All calls that returned, in the order in which they did: when one began and `<how long>`, in one line or two."""
    found: list[Call] = []
    begun: dict[tuple[str, str], tuple[float, str]] = {}
    for line in out.read_text(errors="replace").splitlines():
        pid, _, rest = line.partition(" ")
        moment, _, what = rest.strip().partition(" ")
        if what.endswith("<unfinished ...>"):
            name, _, arguments = what.partition("(")
            begun[pid, name] = (float(moment), arguments)
            continue
        resumed = re.match(r"<\.\.\. (\w+) resumed>(.*)", what)
        if resumed is not None:
            start_s, arguments = begun.pop((pid, resumed[1]), (float(moment), ""))
            name, rest_of_it, start = resumed[1], arguments + resumed[2], start_s
        elif (whole := re.match(r"(\w+)\((.*)", what)) is not None:
            name, rest_of_it, start = whole[1], whole[2], float(moment)
        else:
            continue
        took = re.search(r"<(\d+\.\d+)>$", rest_of_it)
        if took is not None:
            found.append(Call(start + float(took[1]), name, rest_of_it))
    return sorted(found, key=lambda call: call.at_s)


def test_a_batch_is_on_the_disk_before_it_counts_as_taken(tmp_path: Path, strace: str) -> None:
    taker = subprocess.Popen(
        [sys.executable, "-m", "tests.agent.spool.taker", str(tmp_path / "spool"), "1"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert taker.stdout is not None
    try:
        assert taker.stdout.readline() == "ready\n"
        with traced(strace, [taker.pid], tmp_path / "trace", "fsync,fdatasync,write,pwrite64"):
            for _ in range(TAKEN * 5):
                taker.stdout.readline()
    finally:
        taker.kill()
        taker.wait(10)
        taker.stdout.close()
    written, synced, said = False, False, 0
    for call in calls_in(tmp_path / "trace"):
        if "spool.db-wal" in call.rest:
            if call.is_sync:
                synced = written
            else:
                written, synced = True, False
        elif call.name == "write" and re.match(r"1<[^>]*>, \"\d", call.rest) and written:
            assert synced, f"said to be taken, but the log was not synchronised: {call}"
            said, written, synced = said + 1, False, False
    assert said >= TAKEN


@dataclass
class Durable:
    """A stack whose PostgreSQL keeps what it has committed."""

    stack: Stack
    server: Child

    @property
    def backends(self) -> list[int]:
        """PostgreSQL and all its processes."""
        assert self.server.pid is not None
        return family(self.server.pid)


@pytest.fixture
def durable(tmp_path: Path, new_mosquitto: Callable[[], Mosquitto]) -> Iterator[Durable]:
    """With fsync, unlike that of the other tests."""
    prepared = postgres.prepare(tmp_path / "postgres", run_dir=tmp_path / "run", log_dir=tmp_path / "logs")
    server = child.start(prepared.spec)
    broker = new_mosquitto()
    folder = tmp_path / "stack"
    folder.mkdir()
    made: Stack | None = None
    try:
        server.learn_pid(server.control.recv(64))
        server.wait_ready()
        broker.start()
        made = new_stack(folder, prepared.url(), broker, broker.port)
        made.start_hub()
        made.sign_in()
        made.project_id = made.post("/projects", {"name": "Lab"})["id"]
        yield Durable(made, server)
    finally:
        if made is not None:
            made.close()
        server.stop()


@pytest.mark.slow
def test_the_database_is_on_the_disk_before_a_batch_is_acknowledged(
    durable: Durable, tmp_path: Path, strace: str
) -> None:
    stack = durable.stack
    with ModbusSimulator([SimulatedRegister("holding", 0, "uint32", lambda t_s: t_s * 100)]) as simulator:
        agent = stack.new_agent(
            "watched",
            f"""
[devices.clock]
driver = "modbus-tcp"
host = "127.0.0.1"
port = {simulator.port}
interval_s = 0.2
flush_interval_s = 0.2
[devices.clock.points]
ticks = {{ register = "holding:0", type = "uint32" }}
""",
        )
        stack.enrol(agent, "watched")
        agent.start()
        wait_for(lambda: stack.health()["ingest"]["stored"] > 5, what="stored readings")
        assert stack.hub.running is not None
        pids = [stack.hub.running.pid, *durable.backends]
        with traced(strace, pids, tmp_path / "trace", "fsync,fdatasync,pwrite64,pwritev,sendto,send,sendmsg"):
            time.sleep(5)
    acknowledged, synced = 0, 0
    for call in calls_in(tmp_path / "trace"):
        if "/pg_wal/" in call.rest:
            synced += call.is_sync
        elif "/down/ack" in call.rest:
            acknowledged += 1
            assert synced, f"acknowledged, and no log was synchronised since the last time: {call}"
            synced = 0
    assert acknowledged >= 5
