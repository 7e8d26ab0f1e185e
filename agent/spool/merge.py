"""The spool's file and its write-ahead log while SQLite must not see them: verified at start, merged when damaged."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from agent.spool.connection import KEPT, SpoolDamaged
from agent.spool.wal import Survey, frames, survey
from agent.spool.wal_index import INDEX_SUFFIX, committed_frames
from shared.errors import SpoolUnavailable

LOG_SUFFIX = "-wal"
BEFORE_SUFFIX = "-before"
"""Of the file with the pages that merging has overwritten, as they were: each behind its number, big-endian."""
NUMBER_BYTES = 4


def verify(path: Path) -> bool:
    """Look whether SQLite will find all that was committed. To be called before any connection to `path` is opened.

    Returns: whether there is a log at all: whoever wrote last has not closed the file.

    Raises: SpoolDamaged when it will not, SpoolUnavailable when the files cannot be read.
    """
    try:
        found = _examined(path)
        empty = path.stat().st_size == 0  # beside an empty file SQLite deletes the log
    except FileNotFoundError:
        return False
    except OSError as error:
        raise SpoolUnavailable(f"{path} cannot be read: {error}", hint="check the data directory") from error
    believed = 0 if empty or found is None else found.believed
    if found is not None and believed < found.committed:
        raise SpoolDamaged(
            f"the spool's write-ahead log is damaged: frames {believed + 1} … {found.committed} would be lost",
            hint=KEPT,
        )
    return found is not None


def merge(path: Path) -> None:
    """Put every sound page of the log into the file, through the last commit, as a checkpoint would that does not stop
    at damage. Repeatable: the log stays as it is, and what is overwritten is kept: where the newest frame of a page has
    rotted, and SQLite had merged it before, an older one takes the place of a newer page.

    Raises: OSError.
    """
    found = _examined(path)
    if found is not None and found.committed:
        _keep_pages(_beside(path, LOG_SUFFIX), found, path)
        _write_pages(_beside(path, LOG_SUFFIX), found, path)


def _examined(path: Path) -> Survey | None:
    """The log, as it and the wal-index tell."""
    found = survey(_beside(path, LOG_SUFFIX), path)
    if found is None:
        return None
    salts = found.header.salts if found.header.sound else None
    committed = committed_frames(_beside(path, INDEX_SUFFIX), salts)
    return replace(found, committed=max(found.committed, committed))


def _keep_pages(log: Path, found: Survey, path: Path) -> None:
    """Once: what is in the file after an interrupted attempt is not what had been there."""
    before = _beside(path, BEFORE_SUFFIX)
    if before.exists():
        return
    with log.open("rb") as source:
        numbers = {number for some in frames(source, found.header) for number, _ in some.pages(found.committed)}
    unfinished = _beside(path, f"{BEFORE_SUFFIX}.new")
    with path.open("rb") as file, unfinished.open("wb") as kept:
        for number in sorted(numbers):
            file.seek((number - 1) * found.header.page_size)
            if len(page := file.read(found.header.page_size)) == found.header.page_size:
                kept.write(number.to_bytes(NUMBER_BYTES, "big") + page)
        kept.flush()
        os.fsync(kept.fileno())
    unfinished.rename(before)


def _write_pages(log: Path, found: Survey, path: Path) -> None:
    with log.open("rb") as source, path.open("r+b") as target:
        for some in frames(source, found.header):
            for number, page in some.pages(found.committed):
                target.seek((number - 1) * found.header.page_size)
                target.write(page)
        _extend(target, found)
        target.flush()
        os.fsync(target.fileno())


def _extend(target: BinaryIO, found: Survey) -> None:
    """As long as the file's header says (https://www.sqlite.org/fileformat2.html#in_header_database_size): SQLite reads
    nothing of a file that lacks the last page, as where that page is the rotten one."""
    target.seek(28)
    said = int.from_bytes(target.read(4), "big")
    pages = target.seek(0, os.SEEK_END) // found.header.page_size
    if pages < said <= pages + found.committed:
        target.truncate(said * found.header.page_size)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
