"""What a running agent tells whoever asks on the same computer: small files in its data directory, written each second.

``status.json`` is always written; ``values.json``, the latest values, only while someone looks on (`watch`).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TypeVar

import msgspec

from agent.files import replace_file
from agent.logging import event_log
from shared.messages import LiveValue, State

STATUS_FILE = "status.json"
VALUES_FILE = "values.json"
WATCHED_FILE = "values.watched"
INTERVAL_S = 1.0
WATCHED_S = 15.0
"""Values are written for so long after someone last asked for them."""
STALE_S = 10.0
"""An agent whose status is older than this does not run."""

T = TypeVar("T")

_log = event_log("status")


class LocalStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """``status.json``.

    Attributes:
        written_us: when, by the system's clock.
        link: how the way to the hub is, in words.
        waiting_readings: in memory, not on disk yet.
        lost_readings: taken from an instrument and never committed.
        blocked: why acquisition is held up, empty if it is not.
        refused: sensors that the hub does not take, with the reason.
        unwanted_readings: of those of them that are out of service; they were not taken.
    """

    written_us: int
    pid: int
    agent_id: str
    name: str
    config: str
    state: State
    link: str = ""
    waiting_readings: int = 0
    lost_readings: int = 0
    blocked: str = ""
    refused: dict[str, str] = {}
    unwanted_readings: int = 0

    @property
    def running(self) -> bool:
        """Whether the agent that wrote this still runs."""
        return self.state.status == "online" and time.time() - self.written_us / 1e6 < STALE_S


class StatusFiles:
    """Both files of one data directory, from the writer's and from the reader's side."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._failed = False

    def write(self, status: LocalStatus) -> None:
        """Publish the status. A disk that cannot be written is reported once and is no reason to stop."""
        self._replace(STATUS_FILE, msgspec.json.encode(status))

    def write_values(self, values: list[LiveValue]) -> None:
        """Publish the latest values."""
        self._replace(VALUES_FILE, msgspec.json.encode(values))

    def watched(self) -> bool:
        """Whether someone looks at the values."""
        try:
            return time.time() - (self._data_dir / WATCHED_FILE).stat().st_mtime < WATCHED_S
        except OSError:
            return False

    def read(self) -> LocalStatus | None:
        """The status, None if there never was one or it cannot be read.

        Raises: PermissionError if it is another user's.
        """
        return self._decoded(STATUS_FILE, LocalStatus)

    def watch(self) -> list[LiveValue]:
        """The latest values, empty at first: asking makes the agent write them. Raises: PermissionError."""
        (self._data_dir / WATCHED_FILE).touch(mode=0o600)
        return self._decoded(VALUES_FILE, list[LiveValue]) or []

    def _decoded(self, name: str, kind: type[T]) -> T | None:
        try:
            return msgspec.json.decode((self._data_dir / name).read_bytes(), type=kind)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    def _replace(self, name: str, content: bytes) -> None:
        try:
            replace_file(self._data_dir / name, content, durable=False)
        except OSError as error:
            if not self._failed:
                _log.warning("status_not_written", file=self._data_dir / name, error=error)
            self._failed = True
        else:
            self._failed = False
