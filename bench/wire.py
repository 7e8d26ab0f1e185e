"""Convert, encode and decode batches: CPU and bytes a reading.

Three loads: `linear16` (16-bit values, 10 series × 100, linear profiles), `general` (float64 random walks, polynomial
profiles) and `polling` (1,000 series × 1 reading). Times are CPU seconds of this process, the median of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import numpy as np

from shared import wire
from shared.conversion import ProfileTable, compile_profile
from shared.readings import Columns, Float64

AGENT = UUID(int=1)
EPOCH = bytes(16)
START_US = 1_700_000_000_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--rounds", type=int, default=300, help="batches a load (default 300)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """The figures."""
    random = np.random.default_rng(1)
    loads = {
        "linear16": (10, 100, random.integers(-30_000, 30_000, 1000).astype(np.float64), "linear"),
        "general": (10, 100, np.cumsum(random.normal(size=1000)), "polynomial"),
        "polling": (1000, 1, random.integers(-30_000, 30_000, 1000).astype(np.float64), "linear"),
    }
    figures: dict[str, Any] = {"rounds": options.rounds, "readings_per_batch": 1000}
    for name, (series, per_series, raw, kind) in loads.items():
        figures |= {
            f"{key}_{name}": value for key, value in _measure(series, per_series, raw, kind, options.rounds).items()
        }
    return figures


def _measure(series: int, per_series: int, raw: Float64, kind: str, rounds: int) -> dict[str, float]:
    payload: dict[str, Any] = {"a": 0.5, "b": -1.0} if kind == "linear" else {"coefficients": [1.0, 0.5, 0.25, 0.125]}
    table = ProfileTable([compile_profile(kind, payload)] * series)
    refs = np.repeat(np.arange(1, series + 1, dtype=np.uint32), per_series)
    stamps = np.tile(START_US + np.arange(per_series, dtype=np.int64) * 10_000, series)
    unconverted = np.zeros(len(raw), np.uint8)

    def convert() -> Columns:
        physical, status = table.convert(refs, raw, unconverted)
        return Columns(refs, stamps, raw, physical, status, refs)

    columns = convert()

    def encode() -> bytes:
        return wire.seal(
            wire.data_body(columns, derivable=True),
            agent_id=AGENT,
            epoch=EPOCH,
            seq=1,
            created_us=START_US,
            taken_through_us=START_US,
            clock_segment=1,
            generation=1,
        )

    batch = encode()
    return {
        "convert_us_per_reading": _cpu_us(convert, rounds) / len(raw),
        "encode_us_per_reading": _cpu_us(encode, rounds) / len(raw),
        "decode_us_per_reading": _cpu_us(lambda: wire.decode(batch), rounds) / len(raw),
        "bytes_per_reading": len(batch) / len(raw),
    }


def _cpu_us(work: Callable[[], object], rounds: int) -> float:
    work()
    times = []
    for _ in range(rounds):
        begin = time.process_time_ns()
        work()
        times.append((time.process_time_ns() - begin) / 1000)
    return statistics.median(times)
