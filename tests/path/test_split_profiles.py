"""A profile is split off for a run: its agent converts with it while a session runs, the hub what the agent missed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from agent.daemon import CONFIGURATION_FILE
from shared.messages import Config, Profile, decode
from tests.fixtures.stack import wait_for
from tests.path.test_profiles import AWAY_S, Scale, moment, moment_of, scale

__all__ = ["scale"]

FACTOR = 3.0


@dataclass(frozen=True)
class Comparison:
    """A scale, and a run of it that a profile of its own was split off for: three times the raw value."""

    scale: Scale
    run_id: str
    split_id: str

    def start(self) -> dict[str, Any]:
        """A session of the run, from now on."""
        started: dict[str, Any] = self.scale.stack.post(f"/api/v1/runs/{self.run_id}/capture-sessions", {})
        return started

    def stop(self, session: dict[str, Any]) -> dict[str, Any]:
        """The same session, which has ended now."""
        path = f"/api/v1/runs/{self.run_id}/capture-sessions/{session['id']}/stop"
        stopped: dict[str, Any] = self.scale.stack.post(path, {})
        return stopped

    def windows(self) -> list[Profile]:
        """What the agent knows of the split, from its own disk."""
        config = decode((self.scale.agent.data_dir / CONFIGURATION_FILE).read_bytes(), Config)
        return [one for binding in config.bindings for one in binding.profiles if str(one.id) == self.split_id]

    def check(self, session: dict[str, Any]) -> None:
        """Each reading has the profile of where it belongs, whoever converted it."""
        started, stopped = moment(session["started_at"]), moment(session["stopped_at"])
        readings = self.scale.readings()
        within = [started <= moment_of(one) < stopped for one in readings]
        assert set(within) == {True, False}
        for one, is_within in zip(readings, within, strict=True):
            expected = (self.split_id, FACTOR) if is_within else (self.scale.first_id, 2.0)
            assert one["conversion_profile_id"] == expected[0]
            assert one["physical_value"] == expected[1] * one["raw_value"]

    def outdated(self, profile_id: str) -> list[tuple[datetime, datetime]]:
        """Stretches of time in which readings had come with this profile, and were converted again."""
        kept = [one for one in self.scale.previous() if one["conversion_profile_id"] == profile_id]
        return [(moment(one["time_from"]), moment(one["time_to"])) for one in kept]


@pytest.fixture
def comparison(scale: Scale) -> Comparison:
    """A run that records the scale, and no session yet."""
    stack = scale.stack
    experiment = stack.post("/api/v1/experiments", {"project_id": stack.project_id, "name": "Which calibration"})
    run = stack.post(f"/api/v1/experiments/{experiment['id']}/runs", {"name": "first"})["id"]
    assert stack.http.put(f"/api/v1/runs/{run}/sensors", json={"sensor_ids": [scale.sensor_id]}).is_success
    path = f"/api/v1/sensors/{scale.sensor_id}/conversion-profiles"
    made = stack.post(path, {"version": "split", "kind": "linear", "payload": {"a": FACTOR, "b": 0.0}})
    off = stack.post(f"{path}/{made['id']}/publish", {"split": {"run_ids": [run]}})
    return Comparison(scale, run, off["id"])


def _taken_since(found: Comparison, profile_id: str, at: datetime) -> Callable[[], bool]:
    return lambda: found.scale.taken_since(profile_id, at) >= 5


def test_a_connected_agent_converts_with_the_split_while_the_session_runs(comparison: Comparison) -> None:
    session = comparison.start()
    wait_for(comparison.windows, interval_s=0.01, what="the session at the agent")
    heard_start = datetime.now(UTC)
    wait_for(_taken_since(comparison, comparison.split_id, heard_start), what="readings of the session")
    session = comparison.stop(session)
    wait_for(lambda: comparison.windows()[0].valid_to_us is not None, interval_s=0.01, what="the stop at the agent")
    heard_stop = datetime.now(UTC)
    wait_for(_taken_since(comparison, comparison.scale.first_id, heard_stop), what="readings behind the session")
    comparison.check(session)
    for first, last in comparison.outdated(comparison.scale.first_id):  # taken before the agent had heard of the start
        assert moment(session["started_at"]) <= first <= last <= heard_start
    for first, last in comparison.outdated(comparison.split_id):  # and before it had heard of the stop
        assert moment(session["stopped_at"]) <= first <= last <= heard_stop


def test_the_hub_converts_what_an_absent_agent_took_in_a_session_it_had_not_heard_of(comparison: Comparison) -> None:
    broker = comparison.scale.stack.broker
    broker.stop()
    session = comparison.start()
    time.sleep(AWAY_S)  # the instrument is still read, and converted with the default profile
    session = comparison.stop(session)
    assert comparison.windows() == []
    broker.start()
    wait_for(comparison.windows, what="the session at the agent")
    wait_for(_taken_since(comparison, comparison.scale.first_id, datetime.now(UTC)), what="readings behind the session")
    wait_for(comparison.scale.has_delivered, what="an empty spool")
    comparison.check(session)
    started, stopped = moment(session["started_at"]), moment(session["stopped_at"])
    within = sum(started <= moment_of(one) < stopped for one in comparison.scale.readings())
    assert within >= 10
    noted = [one for one in comparison.scale.previous() if one["conversion_profile_id"] == comparison.scale.first_id]
    assert sum(one["readings"] for one in noted) == within
    assert comparison.outdated(comparison.split_id) == []
