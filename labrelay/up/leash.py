"""The process between `labrelay up` and each of its servers, so that no server outlives it, however it ends.

::

    labrelay up ──control socket──► leash ──► server (own process group)
                                      │ owns: the lock, the log

* `up` holds the other end of the control socket and nobody else does. When it closes, because `up` wants the server
  to end or because `up` was killed, the leash ends the server: its stop signals, one after the other, then SIGKILL for
  the whole process group. Both cases take the same path.
* When the leash itself is killed, Linux signals the server (`PR_SET_PDEATHSIG`, set after privileges were dropped,
  because dropping clears it, and checked with `getppid`, because the leash may have died before it was set).
* The lock file is locked by the leash and inherited by the server and all that the server forks. So it is free exactly
  when nothing of an earlier run is left, and no process id needs to be trusted.
* What the server prints goes to a log of bounded size. A full disk costs log lines, never the server.

Run by path with `python -I -S`, so that it starts in 20 ms and needs nothing that is installed. It must stay within the
standard library. It writes `pid <n>` to the control socket when the server runs, and exits with the server's status.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import fcntl
import os
import pwd
import select
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DIRECTORY_FD: Final = 9
"""Where the server finds its directory, whatever may be untraversable above it: `/proc/self/fd/9`."""
LOCKED_EXIT_STATUS: Final = 75
"""Something of an earlier run is still there."""
CANNOT_RUN_EXIT_STATUS: Final = 126
LOCK_PATIENCE_S: Final = 30.0
DRAIN_S: Final = 1.0
LOG_FILES_KEPT: Final = 3
_PR_SET_PDEATHSIG: Final = 1
_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


@dataclass(frozen=True)
class StopStep:
    """One attempt to end the server: a signal, and how long it is given."""

    signal: signal.Signals
    patience_s: float

    @staticmethod
    def parse(text: str) -> StopStep:
        """From ``INT:20``. Raises: ValueError, KeyError."""
        name, _, seconds = text.partition(":")
        return StopStep(signal.Signals["SIG" + name], float(seconds))

    def __str__(self) -> str:
        return f"{self.signal.name.removeprefix('SIG')}:{self.patience_s:g}"


class BoundedLog:
    """A file that is renamed to `.1`, `.2`, … when it is full. Never raises."""

    def __init__(self, path: str, bytes_max: int) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._fd = -1

    def write(self, data: bytes) -> None:
        """Append, or lose the data where the disk does not take it."""
        with contextlib.suppress(OSError):
            if self._fd < 0:
                self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if os.fstat(self._fd).st_size + len(data) > self._bytes_max:
                self._rotate()
            os.write(self._fd, data)

    def _rotate(self) -> None:
        for number in range(LOG_FILES_KEPT - 1, 0, -1):
            older = self._path if number == 1 else f"{self._path}.{number - 1}"
            with contextlib.suppress(FileNotFoundError):
                Path(older).replace(f"{self._path}.{number}")
        os.close(self._fd)
        self._fd = -1
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def main() -> int:
    """Start the server and stay until it is gone. Returns: its exit status, 128 + n when signal n ended it."""
    options = _options()
    wake_read, wake_write = os.pipe()
    for fd in (wake_read, wake_write):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    for number in _HANDLED:
        signal.signal(number, lambda *_: None)
    log = BoundedLog(options.log, options.log_bytes_max)
    lock = _lock(options.lock, options.control)
    if lock is None:
        log.write(f"leash: {options.lock} is still held by a process of an earlier run\n".encode())
        return LOCKED_EXIT_STATUS
    for stale in options.stale:
        Path(stale).unlink(missing_ok=True)
    output, child_output = os.pipe()
    child = _spawn(options, lock, child_output)
    os.close(child_output)
    os.close(lock)
    with contextlib.suppress(OSError):
        os.write(options.control, f"pid {child}\n".encode())
    status = _Watch(child, options.control, output, wake_read, options.stop, log).until_gone()
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run a server that ends when the control socket closes.")
    parser.add_argument("--control", type=int, required=True, help="descriptor of the control socket")
    parser.add_argument("--lock", required=True, help="lock file, free when nothing of the server is left")
    parser.add_argument("--log", required=True, help="where the server's output goes")
    parser.add_argument("--log-bytes-max", type=int, default=4 << 20)
    parser.add_argument("--stop", type=StopStep.parse, action="append", default=[], help="signal and seconds: INT:20")
    parser.add_argument("--orphan-signal", default="KILL", help="what the server gets when the leash is killed")
    parser.add_argument("--directory", help="working directory of the server, also its descriptor 9")
    parser.add_argument("--stale", action="append", default=[], help="file that only a killed server leaves behind")
    parser.add_argument("--user", help="whom the server runs as")
    parser.add_argument("command", nargs="+")
    return parser.parse_args()


def _lock(path: str, control: int) -> int | None:
    """A locked descriptor of the file, None if it stays held or nobody wants the server any more."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        closed, _, _ = select.select([control], [], [], 0.05)
        if closed or time.monotonic() > deadline:
            return None


def _spawn(options: argparse.Namespace, lock: int, output: int) -> int:
    """Fork and execute the server. Returns: its process id."""
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None
    account = pwd.getpwnam(options.user) if options.user else None
    leash = os.getpid()
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)  # none may meet our handlers in the child
    child = os.fork()
    if child:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        with contextlib.suppress(OSError):
            os.setpgid(child, child)
        return child
    try:
        os.setpgid(0, 0)
        _become_server(options, lock, output, account)
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, int(signal.Signals["SIG" + options.orphan_signal]))
        if os.getppid() != leash:
            os._exit(CANNOT_RUN_EXIT_STATUS)
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        os.execvp(options.command[0], options.command)
    except OSError as error:
        os.write(2, f"leash: cannot run {options.command[0]}: {error.strerror}\n".encode())
    os._exit(CANNOT_RUN_EXIT_STATUS)


def _become_server(options: argparse.Namespace, lock: int, output: int, account: pwd.struct_passwd | None) -> None:
    """In the child: descriptors, directory, signals and user as the server should find them."""
    os.close(options.control)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.set_inheritable(lock, True)
    if options.directory:
        directory = os.open(options.directory, os.O_RDONLY | os.O_DIRECTORY)
        os.fchdir(directory)
        if lock == DIRECTORY_FD:
            lock = os.dup(lock)
            os.set_inheritable(lock, True)
        os.dup2(directory, DIRECTORY_FD)
        os.set_inheritable(DIRECTORY_FD, True)  # dup2 onto itself would not
    signal.set_wakeup_fd(-1)
    for number in _HANDLED:
        signal.signal(number, signal.SIG_DFL)
    if account is not None and os.geteuid() == 0:
        os.initgroups(account.pw_name, account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)


class _Watch:
    """Waits for whatever happens first: output, the server's end, or the wish to end it."""

    def __init__(
        self, child: int, control: int, output: int, wake: int, steps: list[StopStep], log: BoundedLog
    ) -> None:
        self._child = child
        self._control = control
        self._output = output
        self._wake = wake
        self._steps = list(steps)
        self._log = log
        self._stopping = False
        self._deadline: float | None = None

    def until_gone(self) -> int:
        """Returns: the wait status of the server; nothing of its process group is left, its output is logged."""
        while True:
            pid, status = os.waitpid(self._child, os.WNOHANG)
            if pid:
                with contextlib.suppress(OSError):
                    os.killpg(self._child, signal.SIGKILL)
                self._drain()
                return status
            self._escalate()
            self._wait()

    def _wait(self) -> None:
        timeout = 1.0 if self._deadline is None else max(0.0, min(1.0, self._deadline - time.monotonic()))
        watched = [fd for fd in (self._output, self._wake) if fd >= 0]
        if not self._stopping:
            watched.append(self._control)
        ready, _, _ = select.select(watched, [], [], timeout)
        if self._output in ready:
            self._copy()
        if self._wake in ready and {signal.SIGTERM, signal.SIGINT, signal.SIGHUP} & set(os.read(self._wake, 256)):
            self._stopping = True
        if self._control in ready and not self._control_open():
            self._stopping = True

    def _control_open(self) -> bool:
        try:
            return bool(os.read(self._control, 64))
        except OSError as error:
            return error.errno in (errno.EAGAIN, errno.EINTR)

    def _escalate(self) -> None:
        if not self._stopping or (self._deadline is not None and time.monotonic() < self._deadline):
            return
        with contextlib.suppress(ProcessLookupError):
            if self._steps:
                step = self._steps.pop(0)
                self._deadline = time.monotonic() + step.patience_s
                os.kill(self._child, step.signal)
            else:
                self._deadline = time.monotonic() + 1.0
                os.killpg(self._child, signal.SIGKILL)

    def _copy(self) -> None:
        data = os.read(self._output, 65536)
        if data:
            self._log.write(data)
        else:
            os.close(self._output)
            self._output = -1

    def _drain(self) -> None:
        deadline = time.monotonic() + DRAIN_S
        while self._output >= 0 and (left_s := deadline - time.monotonic()) > 0:
            ready, _, _ = select.select([self._output], [], [], left_s)
            if not ready:
                return
            self._copy()


if __name__ == "__main__":
    sys.exit(main())
