"""A sensor goes out of service while its agent, away, holds readings of it: none is lost, and no other suffers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.agent.spool.contents import contents
from tests.fixtures.stack import Agent, Stack, wait_for

DECOMMISSIONED = {"status": "decommissioned"}


class Bench:
    """The agent's two sensors, by what they do to the number that it reads, and a session of both."""

    def __init__(self, stack: Stack, agent: Agent) -> None:
        self.stack, self.agent = stack, agent
        self.count, self.double = (stack.sensor(f"counter.{name}")["sensor"]["id"] for name in ("count", "double"))
        experiment = stack.post("/api/v1/experiments", {"project_id": stack.project_id, "name": "moving house"})["id"]
        run = stack.post(f"/api/v1/experiments/{experiment}/runs", {"name": "run"})["id"]
        answer = stack.http.put(f"/api/v1/runs/{run}/sensors", json={"sensor_ids": [self.count, self.double]})
        assert answer.is_success, answer.text
        session = stack.post(f"/api/v1/runs/{run}/capture-sessions", {})
        self.session = f"/api/v1/runs/{run}/capture-sessions/{session['id']}"

    def change(self, **fields: str) -> dict[str, Any]:
        """Change the sensor that counts."""
        answer = self.stack.http.patch(f"/api/v1/sensors/{self.count}", json=fields)
        assert answer.status_code == 200, answer.text
        changed: dict[str, Any] = answer.json()
        return changed

    def stored(self, sensor: str) -> list[float]:
        """Raw values at the hub."""
        return sorted(point["raw_value"] for point in self.stack.points(sensor_id=sensor, limit=20_000))

    def asides(self) -> list[dict[str, Any]]:
        """What is set aside."""
        found: dict[str, Any] = self.stack.get(
            "/api/v1/set-aside", project_id=self.stack.project_id, sensor_id=self.count, page_size=100
        )
        assert found["total"] == len(found["set_aside"])
        return list(found["set_aside"])

    def told(self) -> dict[str, Any]:
        """What the agent says of itself on its own computer."""
        said: dict[str, Any] = json.loads((self.agent.data_dir / "status.json").read_bytes())
        return said

    def is_settled(self) -> bool:
        """Whether the agent knows, takes nothing more, and holds nothing back of what it had taken."""
        if self.told().get("unwanted_readings", 0) < 5:
            return False
        set_aside = sum(one["readings"] for one in self.asides())
        kept: bool = len(self.stored(self.count)) + set_aside == len(self.taken()["counter.count"])
        return kept

    def certificate(self) -> dict[str, Any]:
        """The session's final one: what it says of each sensor, by its name."""

        def final() -> dict[str, Any] | None:
            found: dict[str, Any] = self.stack.get(f"{self.session}/certificate")["certificate"]
            return found if found["state"] == "final" else None

        said = wait_for(final, timeout_s=60, what="a final certificate")
        assert (said["totals"]["unexplained_readings"], said["totals"]["unexplained_batches"]) == (0, 0)
        return {one["name"]: one["agents"] for one in said["sensors"]}

    def taken(self) -> dict[str, list[float]]:
        """All that the agent has written to its spool, by sensor, read without the product."""
        found: dict[str, list[float]] = {}
        dictionary: dict[int, str] = {}
        for one in contents(self.agent.data_dir):
            content = one.batch.content
            if hasattr(content, "series"):
                dictionary |= {entry.ref: entry.sensor for entry in content.series}
            if hasattr(content, "columns"):
                for ref, raw in zip(content.columns.series.tolist(), content.columns.raw.tolist(), strict=True):
                    found.setdefault(dictionary[ref], []).append(raw)
        return {name: sorted(values) for name, values in found.items()}


@pytest.mark.timeout(240)
def test_what_was_taken_before_a_sensor_went_out_of_service_is_kept_and_can_be_released(
    stack: Stack, agent: Agent
) -> None:
    bench = Bench(stack, agent)
    agent.start()
    wait_for(lambda: len(bench.stored(bench.count)) > 5, timeout_s=60, what="readings")
    stack.broker.stop()
    spooled = len(bench.taken()["counter.count"])
    wait_for(lambda: len(bench.taken()["counter.count"]) > spooled + 20, timeout_s=60, what="readings in the spool")
    bench.change(**DECOMMISSIONED)
    before = bench.stored(bench.count)
    stack.broker.start()
    wait_for(bench.is_settled, timeout_s=90, what="an agent that was told")
    assert bench.told()["refused"] == {"counter.count": "decommissioned"}
    it_is_set_aside_and_no_more_comes(bench, before)
    certified_and_released(bench)


def it_is_set_aside_and_no_more_comes(bench: Bench, before: list[float]) -> None:
    """What the agent held is kept with the reason, the other sensor of the same batches goes on."""
    asides, doubled = bench.asides(), len(bench.stored(bench.double))
    unwanted = bench.told()["unwanted_readings"]
    assert {one["reason"] for one in asides} == {"sensor_decommissioned"}
    assert sum(one["readings"] for one in asides) > 20
    wait_for(lambda: bench.told()["unwanted_readings"] > unwanted + 10, timeout_s=60, what="more polls")
    wait_for(lambda: len(bench.stored(bench.double)) > doubled + 10, timeout_s=60, what="the other sensor's readings")
    assert bench.asides() == asides, "the agent has stopped"
    assert bench.stored(bench.count) == before
    assert bench.stack.get(f"/api/v1/sensors/{bench.count}")["status"] == "decommissioned", "nothing revives it"
    taken = bench.taken()["counter.count"]
    assert len(before) + sum(one["readings"] for one in asides) == len(taken)
    assert taken == [float(number) for number in range(len(taken))]


def certified_and_released(bench: Bench) -> None:
    """The certificate says where they are; an owner gets them stored; the sensor is read again once it is active."""
    stored, asides = len(bench.stored(bench.count)), bench.asides()
    set_aside = sum(one["readings"] for one in asides)
    bench.stack.post(f"{bench.session}/stop")
    said = bench.certificate()
    expected = {"taken": stored + set_aside, "stored": stored, "held": 0, "repeated": 0}
    assert said["counter.count"] == expected | {"set_aside": {"sensor_decommissioned": set_aside}}
    assert (said["counter.double"]["set_aside"], said["counter.double"]["taken"] > stored + set_aside) == ({}, True)
    refused = bench.stack.http.post(f"/api/v1/set-aside/{asides[0]['id']}/release")
    assert (refused.status_code, refused.json()["code"]) == (409, "decommissioned")
    bench.change(status="active")
    for one in asides:
        released = bench.stack.post(f"/api/v1/set-aside/{one['id']}/release")
        assert (released["stored"], released["set_aside"]) == (one["readings"], 0)
    assert bench.asides() == []
    assert bench.certificate()["counter.count"] == expected | {"stored": stored + set_aside, "set_aside": {}}
    wait_for(
        lambda: len(bench.stored(bench.count)) > stored + set_aside, timeout_s=60, what="an agent that takes again"
    )
    assert bench.agent.stop() == 0
    doubles = bench.stored(bench.double)
    assert doubles == [float(number) for number in range(len(doubles))], "never interrupted"
