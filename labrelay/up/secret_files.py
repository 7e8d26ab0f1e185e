"""Files that only their owner may read, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def read_or_make(path: Path, make: Callable[[], str]) -> str:
    """The secret in `path`; if there is none, a new one, which is on disk when this returns."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        secret = make()
        write(path, secret + "\n")
        return secret


def write(path: Path, text: str, mode: int = 0o600, *, durable: bool = True) -> None:
    """Replace the content of `path`, readable by its owner only (or by `mode`); on disk when this returns."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(fd, "w") as file:
            file.write(text)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
