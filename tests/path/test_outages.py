"""The link goes away, for a minute each time: everything arrives, converted, once, and what is live comes first."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import numpy as np
import pytest

from drivers.simulators.modbus import ModbusSimulator, Replay
from tests.fixtures.stack import Agent, Stack, wait_for

OUTAGE_S = 60.0
LIVE_AFTER_S = 2.0
ROWS = 20_000
POLL_INTERVAL_S = 0.02


class Counter:
    """A Modbus server and how far it has counted."""

    def __init__(self, numbers: Replay) -> None:
        self._numbers = numbers
        self.simulator = ModbusSimulator(replays=[numbers])

    @property
    def polls(self) -> int:
        """Completed ones."""
        return self._numbers.row


@pytest.fixture
def counter() -> Iterator[Counter]:
    """An instrument that serves 0, 1, 2, …, each number once: `count` in holding 4, its double in holding 0."""
    made = Counter(Replay((np.arange(ROWS, dtype=np.float64) * 2.0).reshape(-1, 1)))
    made.simulator.start()
    yield made
    made.simulator.stop()


@pytest.fixture
def agent(stack: Stack, counter: Counter) -> Agent:
    """An enrolled agent that polls the counter; its sensors have profiles at the hub."""
    made = stack.new_agent(
        "counting",
        f"""
[devices.counter]
driver = "modbus-tcp"
host = "127.0.0.1"
port = {counter.simulator.port}
unit = 1
interval_s = {POLL_INTERVAL_S}
[devices.counter.points]
double = {{ register = "holding:0", type = "float64" }}
count = {{ register = "holding:4", type = "float64" }}
""",
    )
    stack.enrol(made, "counting")
    stack.sensor("counter.double", "linear", {"a": 0.5, "b": 1.0})
    stack.sensor("counter.count", "lookup_table", {"table": [{"raw": 0, "physical": 0}, {"raw": 1, "physical": 10}]})
    return made


class LiveListener:
    """Reads `live` events of a sensor and notes when each came."""

    def __init__(self, stack: Stack, sensor_id: str) -> None:
        self.came: list[tuple[float, dict[str, Any]]] = []
        self._stack, self._sensor_id = stack, sensor_id
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        parameters = {"sensor_id": self._sensor_id, "live": "true", "project_id": self._stack.project_id}
        address = f"{self._stack.url}/api/v1/telemetry/stream"
        headers = dict(self._stack.http.headers)
        with httpx.stream("GET", address, params=parameters, headers=headers, timeout=15) as answer:
            event = ""
            for line in answer.iter_lines():
                if self._stop.is_set():
                    return
                if line.startswith("event:"):
                    event = line[6:].strip()
                elif line.startswith("data:") and event == "live":
                    self.came.append((time.monotonic(), json.loads(line[5:])))

    def since(self, moment: float, taken_after: datetime) -> float | None:
        """Seconds from `moment` to the first live value that was taken after `taken_after`."""
        for came, value in list(self.came):
            if came > moment and datetime.fromisoformat(value["timestamp"]) > taken_after:
                return came - moment
        return None

    def close(self) -> None:
        self._stop.set()
        self._thread.join(20)


def sensor_id(stack: Stack, name: str) -> str:
    found = {s["name"]: s["id"] for s in stack.get("/api/v1/sensors", project_id=stack.project_id)["sensors"]}
    return str(found[name])


def drained(stack: Stack, counter: Counter, agent: Agent) -> Callable[[], bool]:
    """Stop sampling by stopping the instrument; true when the hub knows of no backlog any more."""
    counter.simulator.stop()

    def empty() -> bool:
        (seen,) = stack.get("/api/v1/agents", project_id=stack.project_id)["agents"]
        return bool(seen["online"] and seen["backlog_readings"] == 0 and seen["devices"][0]["status"] != "ok")

    return empty


def check_everything_is_there(stack: Stack, *, at_least: int) -> None:
    """Every number from 0 on was stored once, converted."""
    for name, raw_of, physical_of in (
        ("counter.count", lambda n: n, lambda n: min(n, 1) * 10.0),
        ("counter.double", lambda n: 2.0 * n, lambda n: n + 1.0),
    ):
        points = stack.points(sensor_id=sensor_id(stack, name), project_id=stack.project_id, limit=20_000)
        points.sort(key=lambda point: str(point["timestamp"]))
        assert len(points) >= at_least
        assert [point["raw_value"] for point in points] == [raw_of(n) for n in range(len(points))]
        assert [point["physical_value"] for point in points] == [physical_of(n) for n in range(len(points))]
        assert {point["conversion_status"] for point in points} == {"converted"}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_agent_that_starts_without_a_link_loses_nothing(stack: Stack, counter: Counter, agent: Agent) -> None:
    stack.broker.stop()
    agent.start()
    time.sleep(OUTAGE_S)
    taken_before = counter.polls
    assert taken_before > 0.5 * OUTAGE_S / POLL_INTERVAL_S
    stack.broker.start()
    wait_for(lambda: stack.health()["agents_online"] == 1, what="the agent at the hub")
    wait_for(drained(stack, counter, agent), timeout_s=60, what="an empty spool")
    check_everything_is_there(stack, at_least=taken_before)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_broker_away_for_a_minute_costs_nothing_and_live_values_come_first(
    stack: Stack, counter: Counter, agent: Agent
) -> None:
    agent.start()
    wait_for(lambda: stack.health()["ingest"]["stored"] > 0, what="the first readings")
    live = LiveListener(stack, sensor_id(stack, "counter.count"))
    try:
        wait_for(lambda: live.came, what="live values")
        stack.broker.kill()
        time.sleep(OUTAGE_S)
        taken_before = counter.polls
        returned, returned_at = time.monotonic(), datetime.now().astimezone()
        stack.broker.start()
        after = wait_for(lambda: live.since(returned, returned_at - timedelta(seconds=1)), what="live values again")
        assert after <= LIVE_AFTER_S
        wait_for(drained(stack, counter, agent), timeout_s=60, what="an empty spool")
    finally:
        live.close()
    check_everything_is_there(stack, at_least=taken_before)
