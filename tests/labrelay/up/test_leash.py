"""The leash: no server outlives whoever started it, whatever is killed, and its log stays bounded."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from labrelay.up import child
from labrelay.up.child import Child, ChildSpec
from labrelay.up.leash import CANNOT_RUN_EXIT_STATUS, LOG_FILES_KEPT, BoundedLog, StopStep
from tests.fixtures.processes import lives, soon

NewSpec = Callable[..., ChildSpec]

SLEEP = "import time; time.sleep(600)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('{here}/up', 'w'); time.sleep(600)"
STARTER = """
import sys, time
from pathlib import Path
from labrelay.up import child
spec = child.ChildSpec(name="server", command=(sys.executable, "-S", "-c", "import time; time.sleep(600)"),
                       run_dir=Path(sys.argv[1]), log_dir=Path(sys.argv[1]))
running = child.start(spec)
running.learn_pid(running.control.recv(64))
print(running.leash_pid, running.pid, flush=True)
time.sleep(600)
"""


def server_pid(running: Child) -> int:
    running.control.settimeout(10)
    running.learn_pid(running.control.recv(64))
    assert running.pid is not None
    return running.pid


@pytest.fixture
def starter(tmp_path: Path) -> tuple[subprocess.Popen[str], int, int]:
    """A process that has started a server, the leash between, and the server."""
    process = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]
    )
    assert process.stdout is not None
    leash, server = process.stdout.readline().split()
    process.stdout.close()
    return process, int(leash), int(server)


def test_a_killed_starter_leaves_no_server(starter: tuple[subprocess.Popen[str], int, int]) -> None:
    process, leash, server = starter
    assert lives(server)
    process.kill()
    process.wait()
    soon(lambda: not lives(server) and not lives(leash), "server and leash are gone")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a killed leash takes its server along on Linux only")
def test_a_starter_killed_together_with_the_leash_leaves_no_server(
    starter: tuple[subprocess.Popen[str], int, int],
) -> None:
    process, leash, server = starter
    os.kill(leash, signal.SIGKILL)
    process.kill()
    process.wait()
    soon(lambda: not lives(server), "the server is gone")


def test_a_server_that_ignores_its_stop_signal_is_killed(new_spec: NewSpec, tmp_path: Path) -> None:
    running = child.start(new_spec(DEAF, stop=(StopStep(signal.SIGTERM, 0.3),)))
    soon((tmp_path / "up").exists, "the server runs")
    running.stop()
    assert running.exit_status == 128 + signal.SIGKILL


def test_a_server_that_is_stopped_at_once_ends_at_its_first_signal(new_spec: NewSpec) -> None:
    for _ in range(10):
        running = child.start(new_spec(SLEEP, stop=(StopStep(signal.SIGTERM, 3.0),)))
        server_pid(running)
        running.stop()
        assert running.exit_status == 128 + signal.SIGTERM


def test_what_a_server_has_forked_ends_with_it(new_spec: NewSpec, tmp_path: Path) -> None:
    forks = "import os, time; pid = os.fork(); open('{here}/forked', 'w').write(str(pid)) if pid else time.sleep(600)"
    running = child.start(new_spec(forks))
    file = tmp_path / "forked"
    assert running.wait(10)
    assert not lives(int(file.read_text()))
    running.stop()


def test_a_second_server_waits_until_nothing_of_the_first_is_left(new_spec: NewSpec) -> None:
    first = child.start(new_spec(SLEEP))
    server_pid(first)
    second = child.start(new_spec(SLEEP))
    second.control.settimeout(0.5)
    with pytest.raises(TimeoutError):
        second.control.recv(64)
    first.stop()
    assert lives(server_pid(second))
    second.stop()


def test_the_lock_is_held_by_the_server_itself(new_spec: NewSpec) -> None:
    """Even a leash that was killed where nothing signals its server leaves a second one waiting."""
    daemon = "import ctypes, time; ctypes.CDLL(None).prctl(1, 0); open('{here}/free', 'w'); time.sleep(600)"
    first = child.start(new_spec(daemon))
    pid = server_pid(first)
    soon((first.spec.run_dir.parent / "free").exists, "the server shook off its death signal")
    first.kill()
    first.wait(5)
    second = child.start(new_spec(SLEEP))
    second.control.settimeout(0.5)
    with pytest.raises(TimeoutError):
        second.control.recv(64)
    os.kill(pid, signal.SIGKILL)
    assert server_pid(second)
    second.stop()
    first.stop()


def test_stale_files_are_removed_before_the_server_starts(new_spec: NewSpec, tmp_path: Path) -> None:
    stale = tmp_path / "server.pid"
    stale.write_text(str(os.getpid()))
    running = child.start(new_spec("import os, sys; sys.exit(os.path.exists('{here}/server.pid'))", stale=(stale,)))
    assert running.wait(10)
    assert running.exit_status == 0
    running.stop()


@pytest.mark.parametrize(
    ("code", "status"), [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 128 + signal.SIGKILL)]
)
def test_the_servers_exit_status_is_handed_on(new_spec: NewSpec, code: str, status: int) -> None:
    running = child.start(new_spec(code))
    assert running.wait(10)
    assert running.exit_status == status
    running.stop()


def test_a_program_that_does_not_exist_says_so(tmp_path: Path) -> None:
    spec = ChildSpec(name="ghost", command=("/nonexistent/ghost",), run_dir=tmp_path, log_dir=tmp_path, ready=bool)
    running = child.start(spec)
    with pytest.raises(child.ChildError, match="cannot run /nonexistent/ghost: No such file"):
        running.wait_ready()
    running.stop()
    assert running.exit_status == CANNOT_RUN_EXIT_STATUS


def test_the_last_words_of_a_server_are_in_its_log_and_in_the_error(new_spec: NewSpec) -> None:
    running = child.start(new_spec("print('no such table: coffee', flush=True); raise SystemExit(1)", ready=bool))
    with pytest.raises(child.ChildError, match="no such table: coffee"):
        running.wait_ready()
    running.stop()
    assert "no such table: coffee" in running.spec.log.read_text()


def test_a_log_stays_bounded_and_keeps_the_latest(tmp_path: Path) -> None:
    log = BoundedLog(str(tmp_path / "x.log"), bytes_max=1000)
    for number in range(500):
        log.write(f"line {number:04d}\n".encode())
    files = sorted(tmp_path.iterdir())
    assert len(files) == LOG_FILES_KEPT
    assert sum(file.stat().st_size for file in files) <= 1000 * LOG_FILES_KEPT
    assert (tmp_path / "x.log").read_text().endswith("line 0499\n")


def test_a_log_that_cannot_be_written_does_not_end_the_server(new_spec: NewSpec, tmp_path: Path) -> None:
    (tmp_path / "logs" / "server.log").mkdir(parents=True)
    running = child.start(new_spec("print('x' * 100000, flush=True); raise SystemExit(3)"))
    assert running.wait(10)
    assert running.exit_status == 3
    running.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a server as another user")
def test_root_runs_a_server_as_another_user_who_reaches_only_its_own_folder(new_spec: NewSpec, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    folder = closed / "own"
    folder.mkdir(parents=True)
    closed.chmod(0o700)
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    code = (
        "import os; open('/proc/self/fd/9/made', 'w').write(f'{os.getuid()} {os.getgroups()}')\n"
        "try: os.listdir('{here}/closed')\n"
        "except PermissionError: raise SystemExit(0)\n"
        "raise SystemExit(1)"
    )
    python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
    spec = new_spec(code, directory=folder, user="nobody")
    spec = ChildSpec(
        name="own",
        command=(python, *spec.command[1:]),
        run_dir=spec.run_dir,
        log_dir=spec.log_dir,
        directory=folder,
        user="nobody",
    )
    running = child.start(spec)
    assert running.wait(10)
    running.stop()
    assert running.exit_status == 0, spec.log.read_text()
    assert (folder / "made").read_text().startswith(f"{nobody.pw_uid} ")
