"""What is in a spool's file, read with nothing but sqlite3 and the wire format."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared import wire
from shared.records import Dictionary, Gap, Opening
from shared.wire import Batch, Kind


@dataclass(frozen=True)
class Found:
    """One batch."""

    id: int
    standing: int
    reason: str
    batch: Batch


def contents(folder: Path, *, standing: int | None = None) -> list[Found]:
    """All batches in the order of sending."""
    with closing(sqlite3.connect(folder / "spool.db")) as db:
        rows = db.execute(
            "SELECT b.id, standing, reason, content FROM batches b JOIN contents c USING (id)"
            " WHERE ?1 IS NULL OR standing = ?1 ORDER BY b.id",
            (standing,),
        )
        return [Found(row[0], row[1], row[2], wire.decode(row[3])) for row in rows]


def numbers(folder: Path, *, standing: int | None = None) -> list[int]:
    """Raw values of all readings, in the order of batches."""
    return [
        int(raw)
        for one in contents(folder, standing=standing)
        if one.batch.header.kind is Kind.DATA
        for raw in one.batch.content.columns.raw  # type: ignore[union-attr]
    ]


def records(folder: Path, kind: type[Any]) -> list[Any]:
    """All records of a kind."""
    return [one.batch.content for one in contents(folder) if isinstance(one.batch.content, kind)]


def gaps(folder: Path, cause: str) -> list[Gap]:
    """All gap records of a cause."""
    return [gap for gap in records(folder, Gap) if gap.cause == cause]


__all__ = ["Dictionary", "Found", "Gap", "Opening", "contents", "gaps", "numbers", "records"]
