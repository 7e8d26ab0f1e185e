"""One server as a child process on a leash: what to run, whether it runs, and how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from labrelay.up import leash
from labrelay.up.leash import StopStep
from shared.errors import LabrelayError

_LINE_SHOWN = 300
KILL_MARGIN_S = 5.0
"""A leash that has not ended this long after its last step is killed; its server then dies with it."""


class ChildError(LabrelayError):
    """A server that does not start or does not become ready."""


def _always_ready() -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """What to run, and how to tell that it works.

    Attributes:
        name: for people, and for the files `<name>.log` and `<name>.lock`.
        command: program and arguments.
        run_dir: folder of the lock file.
        log_dir: folder of the log.
        env: variables added to ours.
        directory: working directory, also given as descriptor 9; None for ours.
        user: whom to run as when we are root.
        ready: whether it does its work yet; called from a thread, and may take up to two seconds.
        ready_timeout_s: how long it may take to become ready.
        stop: signals to end it, each with its patience, before it is killed.
        orphan_signal: what it gets when its leash is killed.
        stale: files that only a killed server leaves behind, removed when it is certain that none is left.
    """

    name: str
    command: tuple[str, ...]
    run_dir: Path
    log_dir: Path
    env: Mapping[str, str] = field(default_factory=dict)
    directory: Path | None = None
    user: str | None = None
    ready: Callable[[], bool] = _always_ready
    ready_timeout_s: float = 60.0
    stop: tuple[StopStep, ...] = (StopStep(signal.SIGTERM, 10.0),)
    orphan_signal: signal.Signals = signal.SIGKILL
    stale: tuple[Path, ...] = ()

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.log_dir / f"{self.name}.log"

    @property
    def stop_timeout_s(self) -> float:
        """The longest that ending it takes."""
        return sum(step.patience_s for step in self.stop) + KILL_MARGIN_S


class Child:
    """A running server. Made by `start`; safe to use from one thread or task at a time."""

    def __init__(self, spec: ChildSpec, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self.spec = spec
        self.control = control
        self.pid: int | None = None
        self._process = process

    @property
    def leash_pid(self) -> int:
        """The process between us and the server."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the leash, and with it the server, is still there."""
        return self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """The server's status once it has ended, 128 + n when signal n ended it."""
        return self._process.poll()

    def learn_pid(self, data: bytes) -> None:
        """Take up what the leash wrote to the control socket."""
        for line in data.decode(errors="replace").splitlines():
            if line.startswith("pid "):
                self.pid = int(line[4:])

    def request_stop(self) -> None:
        """Have the leash end the server; returns at once."""
        try:
            self.control.shutdown(socket.SHUT_WR)
        except OSError:
            return  # it has ended already

    def kill(self) -> None:
        """End the leash by force; the server gets its orphan signal."""
        self._process.kill()

    def wait(self, timeout_s: float) -> bool:
        """Whether it ended within `timeout_s`."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self) -> None:
        """End it and return when nothing is left of it."""
        self.request_stop()
        if not self.wait(self.spec.stop_timeout_s):
            self.kill()
            self._process.wait()
        self.control.close()

    def wait_ready(self) -> None:
        """Return when it does its work. Raises: ChildError when it ends before, or takes too long."""
        deadline = time.monotonic() + self.spec.ready_timeout_s
        while not self.spec.ready():
            if not self.running:
                raise ended(self.spec, self.exit_status)
            if time.monotonic() > deadline:
                raise not_ready(self.spec)
            time.sleep(0.05)


def start(spec: ChildSpec) -> Child:
    """Start a server on a leash. Raises: ChildError when not even the leash can be started."""
    for folder in (spec.run_dir, spec.log_dir):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    ours, theirs = socket.socketpair()
    try:
        process = subprocess.Popen(
            _leash_command(spec, theirs.fileno()),
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            env={**os.environ, **spec.env},
        )
    except OSError as error:
        ours.close()
        raise ChildError(f"{spec.name} cannot be started: {error}") from error
    finally:
        theirs.close()
    return Child(spec, process, ours)


def _leash_command(spec: ChildSpec, control: int) -> list[str]:
    command = [sys.executable, "-I", "-S", leash.__file__, "--control", str(control)]
    command += ["--lock", str(spec.run_dir / f"{spec.name}.lock"), "--log", str(spec.log)]
    for step in spec.stop:
        command += ["--stop", str(step)]
    command += ["--orphan-signal", spec.orphan_signal.name.removeprefix("SIG")]
    if spec.directory is not None:
        command += ["--directory", str(spec.directory)]
    for stale in spec.stale:
        command += ["--stale", str(stale)]
    if spec.user is not None:
        command += ["--user", spec.user]
    return [*command, "--", *spec.command]


def ended(spec: ChildSpec, status: int | None) -> ChildError:
    """The error for a server that ended before it was ready."""
    if status == leash.LOCKED_EXIT_STATUS:
        return ChildError(f"{spec.name}: an earlier one is still running", hint=f"see {spec.log}")
    how = f"was ended by {signal.Signals(status - 128).name}" if status and 128 < status < 160 else f"ended ({status})"
    return ChildError(f"{spec.name} {how} before it was ready{_last_words(spec.log)}", hint=f"see {spec.log}")


def not_ready(spec: ChildSpec) -> ChildError:
    """The error for a server that runs but does not do its work."""
    return ChildError(
        f"{spec.name} is not ready after {spec.ready_timeout_s:g} s{_last_words(spec.log)}", hint=f"see {spec.log}"
    )


def _last_words(log: Path, lines: int = 5) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            tail = file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return ""
    return "".join(f"\n    {line[:_LINE_SHOWN]}" for line in tail)
