"""An agent is stolen: what it had taken until then is brought by its owner, whole and once."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tests.fixtures.stack import Agent, Stack, wait_for


def test_what_a_compromised_agent_holds_is_imported_whole_and_once(stack: Stack, agent: Agent, tmp_path: Path) -> None:
    agent.start()

    def sensors() -> list[str]:
        return [one["id"] for one in stack.get("/api/v1/sensors")["sensors"]]

    wait_for(lambda: sensors() and len(stack.points(sensor_id=sensors())) > 20, what="readings at the hub")
    [listed] = stack.get("/api/v1/agents")["agents"]
    path = f"/api/v1/agents/{listed['id']}"
    view = stack.post(f"{path}/revoke", {"mode": "compromised", "reason": "stolen"})
    assert view["credentials"] == "void"
    time.sleep(2)  # the instrument is still read, into the spool
    before = len(stack.points(sensor_id=sensors()))
    agent.stop()
    file = tmp_path / "spool.lrb"
    command = [sys.executable, "-m", "labrelay.cli", "agent", "spool", "--data-dir", str(agent.data_dir)]
    done = subprocess.run([*command, "export", "--all", str(file)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    first, again = [stack.http.post(f"{path}/import", content=file.read_bytes()) for _ in range(2)]
    assert (first.status_code, again.status_code) == (200, 200), first.text
    told, repeated = first.json(), again.json()
    assert set(told["outcomes"]) == {"known", "committed"}, told
    assert repeated["outcomes"] == {"known": told["batches"]}
    assert told["readings_stored"] > 0
    points = stack.points(sensor_id=sensors())
    assert len(points) == before + told["readings_stored"]
    for sensor_id in sensors():
        for signal in {point["signal"] for point in points}:
            raw = sorted(
                point["raw_value"] for point in points if (point["sensor_id"], point["signal"]) == (sensor_id, signal)
            )
            assert len(raw) == len(set(raw))
