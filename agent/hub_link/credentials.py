"""What enrolment has brought: who the agent is at the hub and how it reaches the broker. Readable by its owner only.

On POSIX the file is created with mode 0600. Windows has no such modes: there the data directory below `%LOCALAPPDATA%`,
which only its user and administrators can read, protects it.
"""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import msgspec

from agent.files import replace_file
from shared.errors import CredentialsRefused

FILE_NAME = "credentials.json"


class MqttAccess(msgspec.Struct, frozen=True):
    """The broker, and what it knows the agent by. `ca_pem` is empty where the system's authorities vouch."""

    host: str
    port: int
    username: str
    password: str
    tls: bool = False
    ca_pem: str | None = None

    def __repr__(self) -> str:
        return f"MqttAccess({self.username} at {self.host}:{self.port}{', TLS' if self.tls else ''})"


class Credentials(msgspec.Struct, frozen=True):
    """What the hub answered to an enrolment code."""

    agent_id: UUID
    project_id: UUID
    name: str
    mqtt: MqttAccess
    hub_url: str = ""


def store(data_dir: Path, credentials: Credentials) -> None:
    """Keep them. Raises: OSError."""
    content = msgspec.json.format(msgspec.json.encode(credentials), indent=2)
    replace_file(data_dir / FILE_NAME, content + b"\n", mode=0o600)


def load(data_dir: Path) -> Credentials | None:
    """What is kept, None before the first enrolment.

    Raises: CredentialsRefused when the file is there but cannot be used.
    """
    path = data_dir / FILE_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=Credentials)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CredentialsRefused(f"{path} cannot be used: {error}", hint="enrol the agent again") from None
