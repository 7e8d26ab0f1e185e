"""Who this agent is: a UUID drawn at the first start and kept in the data directory.

The spool seals batches under it from the first sample on, enrolled or not; enrolment claims it at the hub.
"""

from __future__ import annotations

import os
from pathlib import Path
from uuid import UUID, uuid4

from agent.files import replace_file
from shared.errors import ConfigurationError

FILE = "agent-id"


def prepare_data_dir(data_dir: Path) -> None:
    """Make the data directory, readable by its owner only. Raises: ConfigurationError."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(data_dir, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise ConfigurationError(
            f"data directory {data_dir} cannot be used: {error.strerror}",
            key=("agent", "data_dir"),
            hint="run as its owner, or choose another with --data-dir",
        ) from error


def load_agent_id(data_dir: Path) -> UUID:
    """The agent's identity, drawn now if this is the first time.

    Raises: ConfigurationError if the directory cannot be used or the file does not hold a UUID.
    """
    prepare_data_dir(data_dir)
    path = data_dir / FILE
    try:
        return UUID(path.read_text(encoding="ascii").strip())
    except FileNotFoundError:
        return _draw(path)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{path} does not hold the agent's identity: {error}",
            hint="restore the file; without it the hub sees another agent",
        ) from error


def _draw(path: Path) -> UUID:
    agent_id = uuid4()
    try:
        replace_file(path, f"{agent_id}\n".encode())
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error
    return agent_id
