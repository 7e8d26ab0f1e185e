"""Conversion profiles at a hub: recalculation of stored readings, previews of 100,000 recent ones; and ingest over a
WebSocket.

Hub, PostgreSQL (with fsync) and Mosquitto are processes of their own, as shipped. The readings are put into the
database by COPY, as ingest does, half a million a series. A recalculation changes the value of each of them; its time
is that between its start and its end as the task tells it, counting left out. A preview is timed at the client, over
HTTP, with all its columns.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np

from bench._rig import socket_ingest
from bench._rig.servers import Servers, servers
from hub.database.storage import Storage
from hub.ingest.copy import COLUMNS, Rows, encode_rows
from hub.settings import HubSettings

READINGS_PER_SERIES = 500_000
GROUP_READINGS = 16_000
STEP_US = 100_000
PREVIEW_READINGS = 100_000
PREVIEW_MS_MAX = 300.0
RECALCULATION_PER_S_MIN = 200_000.0
WEBSOCKET_PER_S_MIN = 50_000.0
TASK_TIMEOUT_S = 600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--readings", type=int, default=2_000_000, help="how many are recalculated (default 2 million)")
    parser.add_argument("--previews", type=int, default=9, help="of how many the median is taken (default 9)")
    parser.add_argument("--messages", type=int, default=500, help="of 1,000 readings, by WebSocket (default 500)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """The figures."""
    with tempfile.TemporaryDirectory(prefix="labrelay-profiles-") as folder, servers(Path(folder)) as running:
        sensor_id = running.sensor("oven", "linear", {"a": 2.0, "b": 1.0})
        signals = max(1, options.readings // READINGS_PER_SERIES)
        asyncio.run(_fill(running, sensor_id, signals))
        figures: dict[str, Any] = {"readings": signals * READINGS_PER_SERIES}
        figures |= socket_ingest.measure(running, options.messages)
        figures |= _previews(running, sensor_id, options.previews)
        figures |= _recalculation(running, sensor_id)
        return figures


def passed(figures: dict[str, Any]) -> bool:
    """Whether every reading has the value that it should have, and all is as quick as it should be."""
    return bool(
        figures["wrong"] == 0
        and figures["recalculation_per_s"] >= RECALCULATION_PER_S_MIN
        and figures["preview_ms"] <= PREVIEW_MS_MAX
        and figures["websocket_lost"] == 0
        and figures["websocket_per_s"] >= WEBSOCKET_PER_S_MIN
    )


async def _fill(running: Servers, sensor_id: str, signals: int) -> None:
    storage = Storage(HubSettings.model_validate({"database_url": running.database_url}))
    await storage.open()
    await storage.prepare()
    first_us = (time.time_ns() // 1000 - READINGS_PER_SERIES * STEP_US) // 60_000_000 * 60_000_000
    times = first_us + STEP_US * np.arange(READINGS_PER_SERIES, dtype=np.int64)
    await storage.partitions.ensure(times[:: READINGS_PER_SERIES - 1])
    async with storage.pool.acquire() as connection:
        ref = await connection.fetchval("select ref from conversion_profiles where sensor_id = $1::uuid", sensor_id)
        for number in range(signals):
            series_id = await connection.fetchval(
                "insert into series (sensor_id, signal) values ($1::uuid, $2) returning id", sensor_id, f"s{number}"
            )
            for start in range(0, READINGS_PER_SERIES, GROUP_READINGS):
                await _store(connection, series_id, ref, times[start : start + GROUP_READINGS], start)
    await storage.close()


async def _store(connection: Any, series_id: int, ref: int, times: Any, start: int) -> None:
    count = len(times)
    block = await connection.fetchval("select draw_reading_block()")
    raw = np.sin(0.001 * (start + np.arange(count)))
    rows = Rows(
        np.full(count, series_id, np.int32),
        np.full(count, ref, np.int32),
        times,
        block * 16_384 + np.arange(count, dtype=np.int64),
        raw,
        2.0 * raw + 1.0,
        np.ones(count, np.uint8),
    )
    source: Any = encode_rows(rows)
    await connection.copy_to_table("readings", source=source, columns=list(COLUMNS), format="binary")


def _draft(running: Servers, sensor_id: str) -> str:
    profiles = f"/api/v1/sensors/{sensor_id}/conversion-profiles"
    made = running.post(profiles, {"version": "2", "kind": "polynomial", "payload": {"coefficients": [1, 2, 3]}})
    return f"{profiles}/{made['id']}"


def _previews(running: Servers, sensor_id: str, times: int) -> dict[str, Any]:
    profile = _draft(running, sensor_id)
    taken_ms = []
    for _ in range(times):
        began_s = time.perf_counter()
        answer = running.http.post(f"{profile}/preview", json={"limit": PREVIEW_READINGS})
        taken_ms.append((time.perf_counter() - began_s) * 1000)
        assert answer.status_code == 200, answer.text
    assert len(answer.json()["physical_value"]) == PREVIEW_READINGS
    return {
        "preview_readings": PREVIEW_READINGS,
        "preview_ms": statistics.median(taken_ms),
        "preview_ms_min": min(taken_ms),
        "preview_mb": len(answer.content) / 1e6,
    }


def _recalculation(running: Servers, sensor_id: str) -> dict[str, Any]:
    listed = running.http.get(f"/api/v1/sensors/{sensor_id}/conversion-profiles").json()["conversion_profiles"]
    profile = f"/api/v1/sensors/{sensor_id}/conversion-profiles/{listed[0]['id']}"
    running.post(f"{profile}/publish", {})
    task_id = running.post(f"{profile}/backfill", {})["backfill_task_id"]
    deadline_s = time.monotonic() + TASK_TIMEOUT_S
    while time.monotonic() < deadline_s:
        task = running.http.get(f"/api/v1/backfill-tasks/{task_id}").json()
        if task["status"] in ("succeeded", "failed"):
            break
        time.sleep(0.2)
    began, ended = (datetime.fromisoformat(task[name]) for name in ("started_at", "finished_at"))
    taken_s = (ended - began).total_seconds()
    return {
        "recalculated": task["changed_records"],
        "recalculation_s": taken_s,
        "recalculation_per_s": task["changed_records"] / taken_s,
        "wrong": asyncio.run(_wrong(running)),
    }


async def _wrong(running: Servers) -> int:
    """Readings that do not have the value of the new profile."""
    connection = await asyncpg.connect(running.database_url)
    try:
        found: int = await connection.fetchval(
            "select count(*) from readings where profile > 0 and physical is distinct from (3 * raw + 2) * raw + 1"
        )
        return found
    finally:
        await connection.close()
