"""Agents on machines with wrong clocks: stored with the hub's time, or set aside until an owner says what it was."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.fixtures.stack import Agent, Stack, wait_for

HOUR_S = 3600
YEARS_S = 50 * 365 * 86_400


def start(agent: Agent, *, clock_off_s: int) -> None:
    """Run the agent on a machine whose clock is wrong."""
    launcher = str(Path(__file__).with_name("wrong_clock.py"))
    with agent.process.log.open("ab") as log:
        agent.process.running = subprocess.Popen(
            [sys.executable, launcher, str(clock_off_s), *agent.process.arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def now() -> datetime:
    return datetime.now(UTC)


def test_readings_get_the_hubs_time_and_those_of_an_unknown_clock_wait_for_an_owner(stack: Stack, agent: Agent) -> None:
    began = now()
    start(agent, clock_off_s=-HOUR_S)
    wait_for(lambda: stack.health()["ingest"]["stored"] > 20, what="readings of a slow clock")
    (shown,) = stack.get("/api/v1/agents")["agents"]
    assert abs(shown["clock_offset_us"] - HOUR_S * 1_000_000) < 5_000_000
    assert agent.stop() == 0

    stack.broker.stop()
    start(agent, clock_off_s=-YEARS_S)
    offline_began = now()
    time.sleep(4)
    assert agent.stop() == 0
    offline_ended = now()
    stack.broker.start()
    agent.start()

    def waiting() -> list[dict[str, object]]:
        found: list[dict[str, object]] = stack.get("/api/v1/set-aside", project_id=stack.project_id)["set_aside"]
        (state,) = stack.get("/api/v1/agents")["agents"]
        return found if found and state["backlog_batches"] < 20 else []

    asides = wait_for(waiting, timeout_s=90, what="readings that are set aside")
    assert agent.stop() == 0
    assert {aside["reason"] for aside in asides} == {"clock_unsynchronised"}
    sensor = next(one for one in stack.get("/api/v1/sensors")["sensors"] if one["name"] == "counter.count")
    stored = stack.points(sensor_id=sensor["id"], limit=5000)
    moments = [datetime.fromisoformat(point["timestamp"]) for point in stored]
    margin = timedelta(seconds=5)
    assert all(began - margin < moment < now() + margin for moment in moments)
    assert not [one for one in moments if offline_began + margin / 5 < one < offline_ended - margin / 5]

    first, *others = [aside["id"] for aside in asides]
    released = stack.post(f"/api/v1/set-aside/{first}/release", {"offset_us": YEARS_S * 1_000_000})
    more = [stack.post(f"/api/v1/set-aside/{other}/release")["stored"] for other in others]
    found = stack.points(sensor_id=sensor["id"], limit=5000)
    assert 2 * (len(found) - len(stored)) == released["stored"] + sum(more), "the other half is the other sensor's"
    counted = sorted((datetime.fromisoformat(point["timestamp"]), point["raw_value"]) for point in found)
    assert [raw for _, raw in counted] == sorted(raw for _, raw in counted), "in the order in which they were taken"
    ends = {one["state"] for one in stack.get(f"/api/v1/agents/{shown['id']}/epochs")["epochs"]}
    assert ends == {"open", "closed"}
