"""The whole path, from a driver's arrays to the committed row, against plain pipelines and the bare COPY.

PostgreSQL with fsync, Mosquitto with dynamic security, hub and agents are processes of their own, as shipped; the
agents' driver is `bench._rig.instrument`. There are two agents, as the hub has two writers and never writes one agent's
batches with both. Throughput, the plain pipelines and the ceiling take turns, so that all see the same machine. Then,
with the same servers: small batches, alone and in messages of several; 10,000 readings/s with a flush of 5 ms, and
beside it what a bare sync takes on the same disk (a reading waits for two, the spool's and the database's); live
values while a million readings drain; bytes a reading. At the end every reading that the instruments delivered is
looked for in the database. CPU is that of the processes, less that of the instruments: of their threads in the agent
only the handing over counts.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from bench._rig import ceiling, checker, plain, processes
from bench._rig.panel import Panel
from bench._rig.servers import Servers, agent, servers
from bench._rig.witness import AckWitness, DiskWitness, LiveWitness
from hub.settings import HubSettings

READINGS_PER_BATCH = 1_000
AHEAD_READINGS = 300_000
"""The instruments deliver at most so many readings before those before them are committed."""
TURNS = 3
QUICK_FLUSH_S = 0.005
DRAIN_TIMEOUT_S = 300.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each side's throughput is measured")
    parser.add_argument("--backlog", type=int, default=1_000_000, help="readings that drain under live values")
    parser.add_argument("--folder", type=Path, help="keep everything there (default: a folder that is removed)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """The figures."""
    folder = options.folder or Path(tempfile.mkdtemp(prefix="labrelay-bench-"))
    folder.mkdir(exist_ok=True)
    try:
        return asyncio.run(_run(folder, options.seconds, options.backlog))
    finally:
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Bench:
    """All that the measurements need."""

    servers: Servers
    agents: list[subprocess.Popen[bytes]]
    panels: dict[str, Panel]
    database: Any
    sensor_ids: dict[str, list[str]]
    backlog: int

    async def delivered(self) -> int:
        """Readings that the instruments delivered; returns when all of them are committed at the hub."""
        total: int = sum(panel.report()["readings"] for panel in self.panels.values())
        deadline_s = time.monotonic() + DRAIN_TIMEOUT_S
        while time.monotonic() < deadline_s:
            if await checker.committed(self.database) >= total:
                break
            await asyncio.sleep(0.01)
        return total

    def spent(self) -> processes.Spent:
        """CPU seconds so far, without the instruments' own."""
        spent = self.servers.spent(self.agents)
        own_s = sum(panel.report()["cpu_s"] for panel in self.panels.values())
        return spent - processes.Spent(own_s, 0.0, 0.0, 0.0)


async def _run(folder: Path, seconds: float, backlog: int) -> dict[str, Any]:
    with ExitStack() as stack:
        _say("starting PostgreSQL, Mosquitto, hub and agent")
        running = stack.enter_context(servers(folder))
        panels = _panels(folder)
        sensor_ids = {name: _declare(running, panel) for name, panel in panels.items()}
        second = panels["second"]
        agents = [
            stack.enter_context(agent(running, "first", [panel for panel in panels.values() if panel is not second])),
            stack.enter_context(agent(running, "second", [second])),
        ]
        database = await checker.connect(running.database_url)
        bench = Bench(running, agents, panels, database, sensor_ids, backlog)
        try:
            return await _figures(bench, seconds)
        finally:
            await database.close()
            for panel in panels.values():
                panel.close()


def _panels(folder: Path) -> dict[str, Panel]:
    made = [
        Panel(folder, "linear", 10),
        Panel(folder, "second", 10),
        Panel(folder, "general", 10, walk=True),
        Panel(folder, "rack", 1000, sensor="rack"),
        Panel(folder, "quick", 10, flush_s=QUICK_FLUSH_S),
        Panel(folder, "gauge", 10, sensor="gauge"),
    ]
    return {panel.name: panel for panel in made}


def _declare(running: Servers, panel: Panel) -> list[str]:
    """Sensors with published profiles; their ids."""
    profile: tuple[str, dict[str, Any]] = ("linear", {"a": 0.5, "b": -1.0})
    if panel.walk:
        profile = ("polynomial", {"coefficients": [1.0, 0.5, 0.25, 0.125]})
    return [running.sensor(name, *profile) for name in panel.sensors]


async def _figures(bench: Bench, seconds: float) -> dict[str, Any]:
    figures: dict[str, Any] = {"options_changed": {"agent.devices.quick.flush_interval_s": QUICK_FLUSH_S}}
    for measure in (_memory, _throughput, _small_batches, _commit_latency, _live_latency, _wire):
        found = await measure(bench, seconds)
        _say(found)
        figures |= found
    _say("comparing instruments and database")
    balance = await checker.balance(bench.database, list(bench.panels.values()))
    figures |= {"taken": balance.taken, "stored": balance.stored, "altered": balance.altered}
    figures |= {"lost": balance.lost, "duplicated": balance.duplicated}
    figures["agent_rss_peak_mb"] = processes.memory_mb(bench.agents[0].pid, "VmHWM")
    return figures


async def _memory(bench: Bench, _: float) -> dict[str, Any]:
    _say("1,000 points at 2 Hz")
    bench.panels["rack"].order(10, 1, interval_s=0.5)
    await asyncio.sleep(5.5)
    rss_mb = processes.memory_mb(bench.agents[0].pid)
    await bench.delivered()
    return {"agent_rss_mb": rss_mb}


async def _throughput(bench: Bench, seconds: float) -> dict[str, Any]:
    """Path, plain pipelines and ceiling in turns."""
    writers = HubSettings().ingest_writers
    broker = bench.servers.broker
    ends = plain.Ends(broker.port, broker.username, broker.password, bench.servers.database_url)
    share_s = seconds / TURNS
    rates: dict[str, list[float]] = {name: [] for name in ("path", "plain", "best", "copy")}
    costs: list[dict[str, float]] = []
    for turn in range(TURNS):
        _say(f"turn {turn + 1} of {TURNS}: the path")
        rate, cost = await _path(bench, share_s)
        rates["path"].append(rate)
        costs.append(cost)
        _say(f"turn {turn + 1} of {TURNS}: COPY alone")
        groups = max(int(rate * share_s / ceiling.GROUP_READINGS / writers), 4)
        url = bench.servers.database_url
        rates["copy"].append(await asyncio.to_thread(ceiling.rate, url, groups, connections=writers, turn=turn))
        _say(f"turn {turn + 1} of {TURNS}: plain pipelines")
        for name, per_message in (("plain", 1), ("best", 100)):
            measured = asyncio.to_thread(plain.rate, ends, share_s, per_message=per_message, connections=writers)
            rates[name].append(await measured)
    middle = {name: statistics.median(found) for name, found in rates.items()}
    figures: dict[str, Any] = {
        "readings_per_s": middle["path"],
        "plain_readings_per_s": middle["plain"],
        "best_plain_readings_per_s": middle["best"],
        "copy_rows_per_s": middle["copy"],
    }
    for name in ("plain", "best", "copy"):
        ratio = statistics.median(a / b for a, b in zip(rates["path"], rates[name], strict=True))
        figures[f"times_{name}"] = ratio
    return figures | {key: statistics.median(cost[key] for cost in costs) for key in costs[0]}


async def _path(bench: Bench, seconds: float) -> tuple[float, dict[str, float]]:
    """As fast as it goes, in a closed loop: readings a second to the last commit, CPU a reading."""
    sources = [bench.panels["linear"], bench.panels["second"]]
    before = await bench.delivered()
    spent, began_s = bench.spent(), time.monotonic()
    ordered = 0
    while time.monotonic() - began_s < seconds:
        allowed = await checker.committed(bench.database) - before + AHEAD_READINGS
        blocks = -(-max(allowed - ordered, 0) // (READINGS_PER_BATCH * len(sources)))
        for panel in sources:
            panel.order(blocks, READINGS_PER_BATCH // panel.signals)
        ordered += blocks * READINGS_PER_BATCH * len(sources)
        await asyncio.sleep(0.05)
    taken = await bench.delivered() - before
    took_s, cost = time.monotonic() - began_s, bench.spent() - spent
    return taken / took_s, {
        "agent_us_per_reading": cost.agent / taken * 1e6,
        "hub_us_per_reading": cost.hub / taken * 1e6,
        "postgres_us_per_reading": cost.postgres / taken * 1e6,
        "broker_us_per_reading": cost.broker / taken * 1e6,
    }


async def _small_batches(bench: Bench, seconds: float) -> dict[str, Any]:
    """Batches of 10 readings, 100 a second: each alone; then those that wait for a hub that stood still."""
    _say("small batches, alone")
    panel = bench.panels["quick"]
    seconds /= 2
    blocks = int(seconds * 100)
    await bench.delivered()
    before = bench.spent()
    panel.order(blocks, 1, interval_s=0.01)
    await asyncio.sleep(seconds)
    await bench.delivered()
    alone = bench.spent() - before
    _say("small batches, several a message")
    with _standing_still(bench.servers.hub):
        panel.order(blocks, 1, interval_s=0.01)
        await asyncio.sleep(seconds)
        bench.panels["quick"].report()
        before = bench.spent()
    await bench.delivered()
    together = bench.spent() - before
    return {
        "agent_ms_per_batch": alone.agent / blocks * 1000,
        "hub_ms_per_batch": alone.hub / blocks * 1000,
        "agent_ms_per_batch_of_several": together.agent / blocks * 1000,
        "hub_ms_per_batch_of_several": together.hub / blocks * 1000,
    }


async def _commit_latency(bench: Bench, seconds: float) -> dict[str, Any]:
    _say("10,000 readings/s, flush 5 ms")
    await bench.delivered()
    witness, began = AckWitness(bench.servers.broker), datetime.now(UTC)
    disk = DiskWitness(bench.servers.folder)
    try:
        panel = bench.panels["quick"]
        panel.order(int(seconds * 1000), 1, interval_s=0.001)
        await asyncio.sleep(seconds)
        await bench.delivered()
        await asyncio.sleep(0.2)
    finally:
        witness.close()
        disk.close()
    latencies_ms = await witness.latencies_ms(bench.database, bench.sensor_ids["quick"], began)
    return {
        "commit_p50_ms": float(np.percentile(latencies_ms, 50)),
        "commit_p95_ms": float(np.percentile(latencies_ms, 95)),
        "commit_p99_ms": float(np.percentile(latencies_ms, 99)),
        "disk_sync_p50_ms": float(np.percentile(disk.latencies_ms, 50)),
        "disk_sync_p99_ms": float(np.percentile(disk.latencies_ms, 99)),
        "disk_sync_max_ms": float(np.max(disk.latencies_ms)),
    }


async def _live_latency(bench: Bench, _: float) -> dict[str, Any]:
    """Live values of one device while the backlog of another one drains."""
    _say("live values while a backlog drains")
    linear, gauge = bench.panels["linear"], bench.panels["gauge"]
    await bench.delivered()
    witness = LiveWitness(bench.servers.http, bench.sensor_ids["gauge"][0])
    try:
        gauge.order(8, 1, interval_s=0.25)  # everybody knows the sensor
        await asyncio.sleep(2.5)
        with _standing_still(bench.servers.hub):
            linear.order(bench.backlog // READINGS_PER_BATCH, READINGS_PER_BATCH // linear.signals)
            linear.report()
        began_s = time.monotonic()
        witness.clear()
        target = await checker.committed(bench.database) + bench.backlog
        while await checker.committed(bench.database) < target:
            gauge.order(1, 1)
            await asyncio.sleep(0.15)
        drain_s = time.monotonic() - began_s
        latencies_ms = list(witness.latencies_ms)
        gauge.order(20, 1, interval_s=0.15)
        await asyncio.sleep(3.5)
    finally:
        witness.close()
    return {
        "live_sse_p50_ms": float(np.percentile(latencies_ms, 50)),
        "live_sse_p99_ms": float(np.percentile(latencies_ms, 99)),
        "live_samples": len(latencies_ms),
        "drain_readings_per_s": bench.backlog / drain_s,
    }


async def _wire(bench: Bench, _: float) -> dict[str, Any]:
    """Bytes a reading of the batches in the spool: 10 series × 100, twice, and 1,000 × 1."""
    _say("bytes on the wire")
    figures = {}
    for key, name, count in (("linear16", "linear", 100), ("general", "general", 100), ("polling", "rack", 1)):
        await bench.delivered()
        with sqlite3.connect(f"file:{bench.servers.folder}/first/spool.db?mode=ro", uri=True) as spool:
            (last,) = spool.execute("select max(id) from batches").fetchone()
            bench.panels[name].order(6, count, step_us=10_000, interval_s=1.2)
            await asyncio.sleep(7.5)
            await bench.delivered()
            sql = "select sum(bytes) * 1.0 / sum(readings) from batches where id > ? and readings = 1000"
            (figures[f"wire_bytes_{key}"],) = spool.execute(sql, (last,)).fetchone()
        spool.close()
    return figures


@contextmanager
def _standing_still(process: subprocess.Popen[bytes]) -> Iterator[None]:
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def _say(what: object) -> None:
    print(what, file=sys.stderr, flush=True)
