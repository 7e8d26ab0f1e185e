"""The folder in which `labrelay up` keeps everything, and the right to use it.

::

    <data-dir>/
      admin-password          of the first administrator, 0600
      hub.toml secret-key     the hub's configuration (written at every start) and key
      postgres/ …password     the database's cluster and password
      broker/   …password     the broker's files and the hub's password there
      agent/                  the demo's agent: agent.toml, its spool and credentials
      laboratory.toml         the simulated laboratory, with demo.json: what it was made for
      certificates/           with --lan: the authority and the server's certificate
      ports.json              ports that agents were told, kept from start to start
      up.json                 who is running it, and in what state its servers are
      logs/ run/              logs and lock files
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from labrelay.up import ports, secret_files
from labrelay.up.supervisor import Status
from shared.errors import LabrelayError


@dataclass(frozen=True, slots=True)
class DataDir:
    """The paths below a data directory."""

    root: Path

    @property
    def logs(self) -> Path:
        """Logs of all servers."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """Lock files of all servers."""
        return self.root / "run"

    @property
    def postgres(self) -> Path:
        """The database's cluster."""
        return self.root / "postgres"

    @property
    def broker(self) -> Path:
        """The broker's files."""
        return self.root / "broker"

    @property
    def agent(self) -> Path:
        """The demo's agent."""
        return self.root / "agent"

    @property
    def admin_password(self) -> Path:
        """Password of the first administrator."""
        return self.root / "admin-password"

    def create(self) -> None:
        """Make the folder, closed to others. Raises: LabrelayError."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (self.logs, self.run):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise LabrelayError(
                f"{self.root} cannot be used: {error.strerror}", hint="choose another --data-dir"
            ) from error

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """The sole right to use the folder. Raises: LabrelayError naming whoever has it."""
        fd = os.open(self.run / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._in_use() from None
            yield
            (self.root / "up.json").unlink(missing_ok=True)
        finally:
            os.close(fd)

    def _in_use(self) -> LabrelayError:
        try:
            holder = json.loads((self.root / "up.json").read_text())
            who = f"by process {holder['pid']}, at {holder['address']}"
        except (OSError, ValueError, KeyError, TypeError):
            who = "by another `labrelay up` that is just starting"
        return LabrelayError(f"{self.root} is in use {who}", hint="end that one, or choose another --data-dir")

    def announce(self, address: str, statuses: Sequence[Status]) -> None:
        """Tell whoever looks into `up.json` who we are and how our servers do."""
        state = {"pid": os.getpid(), "address": address, "servers": [asdict(status) for status in statuses]}
        secret_files.write(self.root / "up.json", json.dumps(state, indent=1) + "\n", durable=False)

    @property
    def _ports_file(self) -> Path:
        return self.root / "ports.json"

    def _kept_ports(self) -> dict[str, Any]:
        try:
            held = json.loads(self._ports_file.read_text())
        except (OSError, ValueError):
            return {}
        return held if isinstance(held, dict) else {}

    def free_port(self) -> int:
        """One that nobody listens on and that is kept for nobody. Raises: LabrelayError when there seems to be none."""
        return ports.free_port(kept=self._kept_ports().values())

    def port(self, name: str, *, preferred: int | None = None) -> int:
        """The port that is kept for `name`: the same at every start. Raises: LabrelayError when it is taken."""
        file, held = self._ports_file, self._kept_ports()
        kept = held.get(name)
        if isinstance(kept, int):
            if ports.is_free("127.0.0.1", kept):
                return kept
            raise LabrelayError(
                f"port {kept}, which this data directory keeps for {name}, is taken by another program",
                hint=f"end that program, or remove {name} from {file} and enrol the agents again",
            )
        if preferred is None or not ports.is_free("127.0.0.1", preferred):
            preferred = self.free_port()
        held[name] = preferred
        secret_files.write(file, json.dumps(held, indent=1) + "\n")
        return preferred
