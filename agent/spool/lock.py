"""One agent per spool: an exclusive lock that ends with the process, however that ends.

SQLite holds it for us on a file of its own, because it does so on every platform, and a copy of the file is not locked.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from shared.errors import SpoolUnavailable


class SpoolLock:
    """Held from construction until `release`.

    Raises: SpoolUnavailable when somebody else holds it.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise SpoolUnavailable(f"{path} cannot be opened: {error}", hint="check the data directory") from error
        try:
            self._db.execute("PRAGMA journal_mode = MEMORY")
            self._db.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            self._db.close()
            raise SpoolUnavailable(
                f"another agent uses {path.parent}", hint="stop it, or give this one a data_dir of its own"
            ) from error

    def release(self) -> None:
        """Let others have it."""
        self._db.close()
