"""An agent's disk is copied and both copies run: told, and yet each reading is stored once."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.fixtures.stack import Agent, Process, Stack, wait_for


def copy_of(agent: Agent, folder: Path) -> Agent:
    """Another agent with the same identity, backlog and credentials."""
    shutil.copytree(agent.data_dir, folder)
    arguments = [*agent.process.arguments[:-1], str(folder)]
    return replace(agent, data_dir=folder, process=Process(arguments, folder / "agent.log"))


def test_two_copies_of_an_agent_are_reported_and_their_common_backlog_is_stored_once(
    stack: Stack, agent: Agent, tmp_path: Path
) -> None:
    agent.start()
    wait_for(lambda: stack.health()["ingest"]["stored"] > 10, what="readings")
    stack.broker.stop()
    time.sleep(3)
    assert agent.stop() == 0
    clone = copy_of(agent, tmp_path / "clone")
    stack.agents.append(clone)
    stack.broker.start()
    agent.start()
    clone.start()

    def shown() -> dict[str, object]:
        (view,) = stack.get("/api/v1/agents")["agents"]
        return dict(view)

    def ended() -> list[dict[str, Any]]:
        epochs = stack.get(f"/api/v1/agents/{shown()['id']}/epochs")["epochs"]
        return [epoch for epoch in epochs if epoch["state"] == "closed"]

    wait_for(lambda: shown()["connection"] == "conflict", timeout_s=60, what="a conflict")
    wait_for(
        lambda: shown()["backlog_readings"] == 0 and not any(epoch["holes"] for epoch in ended()), what="no backlog"
    )
    assert agent.stop() == 0
    assert clone.stop() == 0
    sensor = next(one for one in stack.get("/api/v1/sensors")["sensors"] if one["name"] == "counter.count")
    numbers = [point["raw_value"] for point in stack.points(sensor_id=sensor["id"], limit=5000)]
    assert len(numbers) == len(set(numbers))
    assert stack.get("/api/v1/set-aside", project_id=stack.project_id)["total"] == 0
    epochs = stack.get(f"/api/v1/agents/{shown()['id']}/epochs")["epochs"]
    assert len(epochs) == 3
    assert len({epoch["predecessor"] for epoch in epochs}) == 2, "both copies go on from the same epoch"
    assert [(epoch["predecessor"], epoch["holes"]) for epoch in ended()] == [(None, [])]
