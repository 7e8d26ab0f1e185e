"""A hundred agents at one hub: its share of a core, and how long acknowledgements take.

The agents are enrolled one by one and speak the real protocol, each over a connection of its own: opening, dictionary,
state, batches with QoS 1, and what the hub asks to have again is sent again. They live in this process, so latencies
include its own. The same load runs three times: alone; with a message of live values beside each batch; and while one
more agent, back from a day without a link, drains its backlog within the window that the hub grants it. Hub, broker and
PostgreSQL (with fsync) are processes of their own, as shipped.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from agent.hub_link.enrol import enrol
from bench._rig import checker, processes
from bench._rig.servers import Servers, servers
from bench._rig.simulated import BACKLOG_BATCH, Latecomer, SimulatedAgent

SETTLE_S = 5.0
WARM_UP_S = 2.0
"""The hub registers the sensors with the first batches."""
DRAIN_S = 30.0
LOOK_S = 0.1
BACKLOG_TIMEOUT_S = 600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--agents", type=int, default=100, help="how many (default 100)")
    parser.add_argument("--rate", type=float, default=5.0, help="batches a second of each (default 5)")
    parser.add_argument("--seconds", type=float, default=15.0, help="how long each load runs (default 15)")
    parser.add_argument(
        "--backlog", type=int, default=10_000_000, help="readings that one more agent drains (default 10 million)"
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """The figures."""
    with tempfile.TemporaryDirectory(prefix="labrelay-fleet-") as folder, servers(Path(folder)) as running:
        fleet = [_enrolled(running, number) for number in range(options.agents)]
        late = Latecomer(_enrolled(running, options.agents), options.backlog // BACKLOG_BATCH)
        return asyncio.run(_run(running, fleet, late, options))


def _enrolled(running: Servers, number: int) -> SimulatedAgent:
    name = f"agent-{number}"
    question = {"project_id": running.project_id, "name": name}
    code = running.post("/api/v1/agents/enrolment-codes", question)["code"]
    return SimulatedAgent(enrol(str(running.http.base_url), code, running.folder / "fleet" / name, name))


async def _run(
    running: Servers, fleet: list[SimulatedAgent], late: Latecomer, options: argparse.Namespace
) -> dict[str, Any]:
    figures: dict[str, Any] = {"agents": len(fleet), "batches_per_s": len(fleet) * options.rate}
    database = await checker.connect(running.database_url)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one.run(), name=one.name) for one in fleet]
        await asyncio.sleep(SETTLE_S)
        await _load(running, fleet, options.rate, WARM_UP_S, live=False)
        for key, live in (("", False), ("_with_live", True)):
            measured = await _load(running, fleet, options.rate, options.seconds, live=live)
            figures |= {f"{name}{key}": value for name, value in measured.items()}
        tasks.append(group.create_task(late.agent.run(), name=late.agent.name))
        await asyncio.sleep(WARM_UP_S)
        figures |= await _load_beside_backlog(running, fleet, late, options.rate)
        for task in tasks:
            task.cancel()
    sent = sum(one.readings for one in [*fleet, late.agent])
    stored = await database.fetchval("select count(*) from readings")
    await database.close()
    return figures | {"sent": sent, "lost": max(sent - stored, 0), "duplicated": max(stored - sent, 0)}


async def _load_beside_backlog(
    running: Servers, fleet: list[SimulatedAgent], late: Latecomer, rate: float
) -> dict[str, float]:
    """The same load for as long as the backlog lasts."""
    began_s = time.monotonic()
    async with asyncio.TaskGroup() as group:
        drain = group.create_task(late.drain(), name="drain")
        measured = await _load(running, fleet, rate, BACKLOG_TIMEOUT_S, live=True, until=drain)
    return {
        **{f"{name}_beside_backlog": value for name, value in measured.items()},
        "backlog_readings": float(late.batches * BACKLOG_BATCH),
        "backlog_readings_per_s": late.batches * BACKLOG_BATCH / (late.done_s - began_s),
    }


async def _load(
    running: Servers,
    fleet: list[SimulatedAgent],
    rate: float,
    seconds: float,
    *,
    live: bool,
    until: asyncio.Task[None] | None = None,
) -> dict[str, float]:
    """The fleet's load for so many seconds, or until a task is done."""
    for one in fleet:
        one.latencies_s.clear()
    before_s, began_s = processes.cpu_s(running.hub.pid), time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number, one in enumerate(fleet):
            offset_s = number / len(fleet) / rate
            load = one.load(rate, seconds, offset_s, live=live, until=until)
            group.create_task(load, name=f"load of {one.name}")
    share = (processes.cpu_s(running.hub.pid) - before_s) / (time.monotonic() - began_s)
    for _ in range(int(DRAIN_S / LOOK_S)):
        if not any(one.waiting for one in fleet):
            break
        await asyncio.sleep(LOOK_S)
    latencies_s = np.concatenate([one.latencies_s for one in fleet])
    return {
        "hub_cores": share,
        "ack_p50_ms": float(np.percentile(latencies_s, 50)) * 1000,
        "ack_p99_ms": float(np.percentile(latencies_s, 99)) * 1000,
        "acknowledged": float(len(latencies_s)),
    }
