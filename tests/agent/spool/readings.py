"""Batches for tests of the spool."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import numpy as np

from agent.spool.batch import PendingBatch
from agent.spool.settings import SpoolSettings
from agent.spool.writer import SpoolWriter
from shared import wire
from shared.clock import Clock, ManualClock
from shared.readings import Columns, Status
from shared.records import SeriesEntry

AGENT = UUID("11111111-2222-3333-4444-555555555555")
BEGIN_US = 1_700_000_000_000_000


def columns(first: int, count: int, *, series: int = 1, step_us: int = 1000) -> Columns:
    """Readings whose raw value is their number: `first`, `first` + 1, …"""
    number = np.arange(first, first + count)
    return Columns(
        np.full(count, series, np.uint32),
        BEGIN_US + number * step_us,
        number.astype(np.float64),
        np.full(count, np.nan),
        np.full(count, Status.RAW_ONLY, np.uint8),
        np.zeros(count, np.uint32),
    )


def batch(first: int, count: int, *, series: int = 1, segment: int = 1) -> PendingBatch:
    """A batch of `columns`."""
    content = columns(first, count, series=series)
    to_us = BEGIN_US + (first + max(count, 1) - 1) * 1000
    return PendingBatch(
        wire.data_body(content, derivable=True), count, BEGIN_US + first * 1000, to_us, to_us, segment, 1
    )


def open_spool(folder: Path, *, clock: Clock | None = None, **settings: object) -> SpoolWriter:
    """A spool with series 1 … 3 to be declared by the first append."""
    writer = SpoolWriter(
        folder,
        agent_id=AGENT,
        settings=SpoolSettings(**settings),  # type: ignore[arg-type]
        clock=clock or ManualClock(BEGIN_US),
    )
    writer.declare([SeriesEntry(ref, f"sensor {ref}") for ref in (1, 2, 3)])
    return writer
