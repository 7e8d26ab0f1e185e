"""A profile is published: who is at the hub converts with it at once, and what others converted is done again there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from agent.daemon import CONFIGURATION_FILE
from shared.messages import Config, decode
from tests.fixtures.stack import Agent, Stack, wait_for

REACHES_WITHIN_S = 5.0
AWAY_S = 2.0


@dataclass(frozen=True)
class Scale:
    """A sensor that the agent reads, and its first profile: twice the raw value."""

    stack: Stack
    agent: Agent
    sensor_id: str
    first_id: str

    def publish(self, version: str, factor: float) -> dict[str, Any]:
        """The answer to the publication of a profile with this factor."""
        path = f"/api/v1/sensors/{self.sensor_id}/conversion-profiles"
        draft = self.stack.post(path, {"version": version, "kind": "linear", "payload": {"a": factor, "b": 0.0}})
        published: dict[str, Any] = self.stack.post(f"{path}/{draft['id']}/publish", {})
        return published

    def is_at_agent(self, profile_id: str) -> bool:
        """Whether the agent has put a profile in force and stored it."""
        try:
            config = decode((self.agent.data_dir / CONFIGURATION_FILE).read_bytes(), Config)
        except FileNotFoundError:
            return False
        return profile_id in {str(profile.id) for binding in config.bindings for profile in binding.profiles}

    def readings(self) -> list[dict[str, Any]]:
        """In order of time."""
        found = self.stack.points(sensor_id=self.sensor_id, project_id=self.stack.project_id)
        return sorted(found, key=lambda one: moment(one["timestamp"]))

    def taken_since(self, profile_id: str, at: datetime) -> int:
        """How many readings that were taken behind a time are stored, converted with this profile."""
        return sum(one["conversion_profile_id"] == profile_id for one in self.readings() if moment_of(one) > at)

    def has_delivered(self) -> bool:
        """Whether the agent is at the hub and holds back no more than what it has just taken."""
        (seen,) = self.stack.get("/api/v1/agents", project_id=self.stack.project_id)["agents"]
        return bool(seen["online"] and seen["backlog_readings"] < 10)

    def previous(self) -> list[dict[str, Any]]:
        """Which readings had another profile before."""
        path = f"/api/v1/sensors/{self.sensor_id}/previous-profiles"
        kept: list[dict[str, Any]] = self.stack.get(path, page_size=100)["previous_profiles"]
        return kept

    def check(self, second: dict[str, Any]) -> None:
        """Each reading has the profile that was in force when it was taken, whoever converted it."""
        since = moment(second["valid_from"])
        readings = self.readings()
        assert {moment_of(one) < since for one in readings} == {True, False}
        for one in readings:
            expected = (self.first_id, 2.0) if moment_of(one) < since else (second["id"], 3.0)
            assert one["conversion_profile_id"] == expected[0]
            assert one["physical_value"] == expected[1] * one["raw_value"]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def moment_of(reading: dict[str, Any]) -> datetime:
    return moment(reading["timestamp"])


@pytest.fixture
def scale(stack: Stack, agent: Agent) -> Scale:
    """An agent at work, whose readings arrive."""
    created = stack.sensor("counter.count", "linear", {"a": 2.0, "b": 0.0})
    made = Scale(stack, agent, created["sensor"]["id"], created["profile"]["id"])
    agent.start()
    wait_for(lambda: made.is_at_agent(made.first_id), what="the first profile at the agent")
    wait_for(lambda: len(made.readings()) > 3, what="readings at the hub")
    return made


def test_a_connected_agent_converts_with_a_new_profile_at_once(
    scale: Scale, record_property: Callable[[str, object], None]
) -> None:
    published_s = time.monotonic()
    second = scale.publish("2", 3.0)
    wait_for(lambda: scale.is_at_agent(second["id"]), interval_s=0.005, what="the second profile at the agent")
    reached_s, reached_at = time.monotonic() - published_s, datetime.now(UTC)
    record_property("profile_reached_agent_s", round(reached_s, 3))
    print(f"the agent had the profile {reached_s:.3f} s after its publication was asked for")
    assert reached_s < REACHES_WITHIN_S
    wait_for(lambda: scale.taken_since(second["id"], reached_at) >= 5, what="readings with the second profile")
    scale.check(second)
    for kept in scale.previous():  # the hub had to convert what was taken on the way, but nothing that came later
        assert moment(kept["time_to"]) <= reached_at
        assert moment(kept["time_from"]) >= moment(second["valid_from"])


def test_the_hub_converts_again_what_an_absent_agent_converted_with_an_outdated_profile(scale: Scale) -> None:
    scale.stack.broker.stop()
    second = scale.publish("2", 3.0)
    time.sleep(AWAY_S)  # the instrument is still read, and converted with the first profile
    assert not scale.is_at_agent(second["id"])
    returns_at = datetime.now(UTC)
    scale.stack.broker.start()
    wait_for(lambda: scale.is_at_agent(second["id"]), what="the second profile at the agent")
    reached_at = datetime.now(UTC)
    wait_for(lambda: scale.taken_since(second["id"], reached_at) >= 5, what="readings with the second profile")
    wait_for(scale.has_delivered, what="an empty spool")
    scale.check(second)
    kept = scale.previous()
    first, last = moment(kept[0]["time_from"]), max(moment(one["time_to"]) for one in kept)
    assert {(one["conversion_profile_id"], one["backfill_task_id"]) for one in kept} == {(scale.first_id, None)}
    assert moment(second["valid_from"]) <= first
    assert last <= reached_at
    outdated = [one for one in scale.readings() if first <= moment_of(one) <= last]
    assert sum(one["readings"] for one in kept) == len(outdated)
    assert sum(moment(second["valid_from"]) <= moment_of(one) < returns_at for one in outdated) >= 10
