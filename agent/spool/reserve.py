"""Space set apart for the moment when the disk is full: deletions and gap records need some before they free any."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

RESERVE_BYTES = 2 * 1024 * 1024


class Reserve:
    """A file that only takes up room until `release` gives it back."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def whole(self) -> bool:
        """Whether the room is taken."""
        try:
            return self._path.stat().st_size >= RESERVE_BYTES
        except OSError:
            return False

    def restore(self) -> bool:
        """Take the room, if there is some. Returns: whether it is taken now."""
        if self.whole:
            return True
        try:
            with self._path.open("wb") as file:
                file.write(os.urandom(RESERVE_BYTES))  # neither sparse nor compressible
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            self.release()
            return False
        return True

    def release(self) -> None:
        """Give the room back."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
