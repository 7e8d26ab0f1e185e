"""Recalculations while late readings come: each ends with the profile that was decided for it, however they meet.

The race is run a few times; `LABRELAY_RACES=200` runs it so often.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from hub.database.pool import acquire
from hub.recalculation import chunk
from hub.recalculation.work import Recalculation
from hub.settings import HubSettings
from hub.telemetry.moments import to_us
from shared.clock import AnchoredClock
from shared.readings import Status
from shared.records import Dictionary, ProfileEntry
from tests.fixtures.websocket import connected
from tests.hub.conftest import Hub, running_hub
from tests.hub.ingest.conftest import columns
from tests.hub.recalculation import census
from tests.hub.recalculation.census import Decision, Taken
from tests.hub.sessions.agents import Delivery
from tests.hub.sessions.census import require_equal
from tests.hub.sessions.conftest import Lab

RACES = int(os.environ.get("LABRELAY_RACES", "4"))
READINGS_A_STEP = 40
MESSAGES, READINGS = 10, 8
SPAN_MS = 9500
ROUND_S = 10
FACTORS = (2.0, 3.0, 5.0)
"""Of the profiles; the first is in force for all times of the race."""
PROVIDED = 99.0
pytestmark = pytest.mark.timeout(120 + 20 * RACES)


@dataclass
class Rig:
    """Sensors of which one is fed by an agent and one posts for itself, and two hubs that recalculate them.

    Attributes:
        profiles: their ids by sensor.
        sent: times of readings that the agent had converted itself.
    """

    lab: Lab
    hubs: list[Hub]
    delivery: Delivery
    fed: str
    posting: str
    profiles: dict[str, list[str]]
    began: datetime
    sent: set[datetime] = field(default_factory=set)

    def at(self, round_: int, milliseconds: float) -> datetime:
        """Within a round, each of which has ten seconds of its own in the past."""
        return self.began + timedelta(seconds=ROUND_S * round_, milliseconds=milliseconds)

    def times(self, round_: int, unlike: int) -> list[datetime]:
        """Anywhere in the round; senders that are unlike never choose the same."""
        chosen = random.sample(range(SPAN_MS), READINGS)
        return sorted(self.at(round_, one) + timedelta(microseconds=unlike) for one in chosen)

    async def feed(self, round_: int) -> None:
        """What the agent delivers, raw or converted with what was in force when it was away."""
        seqs = []
        for number in range(MESSAGES):
            times = self.times(round_, number)
            raw = [float(one) for one in range(READINGS)]
            arguments: dict[str, Any] = {}
            if number % 2:
                physical = [FACTORS[0] * one for one in raw]
                arguments = {"physical": physical, "status": int(Status.CONVERTED), "profile": 1}
                self.sent.update(times)
            arrival = self.delivery.agent.data(columns([1] * READINGS, [to_us(at) for at in times], raw, **arguments))
            self.lab.hub.services.ingest.offer(arrival)
            seqs.append(arrival.header.seq)
            await asyncio.sleep(random.uniform(0, 0.02))
        await self.delivery.settled(*seqs)

    def _body(self, round_: int, unlike: int, sessions: list[str]) -> dict[str, Any]:
        """Readings of a post, one with a value of its own; it names one of the sessions, or none."""
        rows: list[dict[str, Any]] = [
            {"timestamp": at.isoformat(), "raw_value": float(one)} for one, at in enumerate(self.times(round_, unlike))
        ]
        rows[0]["physical_value"] = PROVIDED
        named = random.choice([None, None, *sessions])
        return {"sensor_id": self.posting, "readings": rows} | ({"capture_session_id": named} if named else {})

    async def post(self, round_: int, sessions: list[str]) -> None:
        """What the other one posts."""
        headers = {"Authorization": f"Bearer {self.lab.tokens[self.posting]}"}
        for number in range(MESSAGES):
            body = self._body(round_, number, sessions)
            answer = await self.lab.owner.post("/api/v1/telemetry", json=body, headers=headers)
            assert answer.status_code == 202, answer.text

    async def stream(self, round_: int, sessions: list[str]) -> None:
        """What it sends over WebSocket meanwhile."""
        token = self.lab.tokens[self.posting]
        async with connected(self.hubs[1].app, "/api/v1/telemetry/ws", token=token) as client:
            await client.say({"type": "open", "stream": f"round-{round_}"})
            assert (await client.hear())["last_seq"] == 0
            for number in range(MESSAGES):
                body = self._body(round_, MESSAGES + number, sessions)
                await client.say({"type": "readings", "seq": number + 1, "body": body})
                await asyncio.sleep(random.uniform(0, 0.02))
            acked = 0
            while acked < MESSAGES:
                told = await client.hear()
                assert told["type"] == "ack", told
                acked = told["seq"]

    async def decide(self, round_: int, sensor: str, windows: dict[str, census.Window]) -> Decision:
        """Ask for a recalculation with any profile, of all or of some sessions, of all times or of some."""
        asked = random.choice([None, *windows, *windows, tuple(windows)])
        sessions = None if asked is None else [asked] if isinstance(asked, str) else list(asked)
        edges = random.choice([(0, ROUND_S * 1000 - 1), (2000, 7500)])
        time_from, time_to = (self.at(round_, one) for one in edges)
        body: dict[str, Any] = {"time_from": time_from.isoformat(), "time_to": time_to.isoformat()}
        if sessions is not None:
            body |= {"scope": "capture_sessions", "capture_session_ids": sessions}
        profile_id = random.choice(self.profiles[sensor])
        path = f"/api/v1/sensors/{sensor}/conversion-profiles/{profile_id}/backfill"
        answer = await self.lab.owner.post(path, json=body)
        assert answer.status_code == 202, answer.text
        told = None if sessions is None else {one: windows[one] for one in sessions}
        return Decision(answer.json()["backfill_task_id"], profile_id, told, time_from, time_to)

    async def steer(self, round_: int, closed: dict[str, Any], running: dict[str, Any]) -> dict[str, list[Decision]]:
        """Ask for two recalculations of each sensor, and stop the session that runs before, between or behind them."""
        windows: dict[str, census.Window] = {
            closed["id"]: (self.at(round_, 1000), self.at(round_, 3000)),
            running["id"]: (self.at(round_, 4000), None),
        }
        found: dict[str, list[Decision]] = {self.fed: [], self.posting: []}
        for what in random.sample(["stop", self.fed, self.fed, self.posting, self.posting], 5):
            await asyncio.sleep(random.uniform(0, 0.05))
            if what == "stop":
                stopped_at = self.at(round_, 7000)
                path = f"{self.lab.path(running)}/stop"
                answer = await self.lab.owner.post(path, json={"stopped_at": stopped_at.isoformat()})
                assert answer.status_code == 200, answer.text
                windows[running["id"]] = (windows[running["id"]][0], stopped_at)
            else:
                found[what].append(await self.decide(round_, what, windows))
        return found

    async def recalculate(self, hub: Hub, steered: asyncio.Event) -> None:
        """What the hub's job does, over and over until all that was asked for is done."""
        job = Recalculation(hub.services.storage, AnchoredClock())
        while not (steered.is_set() and not await self._left()):
            await job.once()
            await asyncio.sleep(0.01)

    async def _left(self) -> int:
        async with acquire(self.lab.hub.services.pool) as connection:
            count = await connection.fetchval(
                "select count(*) from backfill_tasks where status in ('pending', 'running')"
            )
        return int(count)

    async def race(self, round_: int) -> tuple[dict[str, list[Decision]], list[str]]:
        """Let all of it happen at once. Returns: what was decided, and the sessions."""
        run = await self.lab.run()
        ends = {"started_at": self.at(round_, 1000).isoformat(), "stopped_at": self.at(round_, 3000).isoformat()}
        closed = await self.lab.started(run, **ends)
        running = await self.lab.started(run, started_at=self.at(round_, 4000).isoformat())
        sessions = [closed["id"], running["id"]]
        steered = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            steering = group.create_task(self.steer(round_, closed, running), name="steer")
            steering.add_done_callback(lambda _: steered.set())
            for hub in self.hubs:
                group.create_task(self.recalculate(hub, steered), name="recalculation")
            group.create_task(self.feed(round_), name="agent")
            group.create_task(self.post(round_, sessions), name="posts")
            group.create_task(self.stream(round_, sessions), name="stream")
        return steering.result(), sessions

    async def check(self, round_: int, sensor: str, decisions: list[Decision]) -> int:
        """See that each reading has, and had, the profiles that it must. Returns: how many had another one."""
        within = self.at(round_, 0), self.at(round_, ROUND_S * 1000)
        readings = await census.taken(self.lab, sensor, *within)
        assert len(readings) == MESSAGES * READINGS * (1 if sensor == self.fed else 2)
        made = await census.made(self.lab, decisions)
        before = await census.told_before(self.lab, sensor, *within)
        profiles, changed = self.profiles[sensor], 0
        for one in readings:
            if one.status is Status.CLIENT_PROVIDED:
                assert (one.physical, one.profile_id) == (PROVIDED, None)
                continue
            profile, had = census.history(one, made, profiles[0], self.sent if sensor == self.fed else ())
            factor = FACTORS[profiles.index(profile)]
            assert (one.profile_id, one.physical) == (profile, factor * one.raw), one
            assert sorted(census.claimed(one, before), key=str) == sorted(had, key=str), one
            changed += bool(had)
        for profile, factor in zip(profiles, FACTORS, strict=True):
            await self._check_as_of(sensor, readings, within, profile, factor)
        return changed

    async def _check_as_of(
        self, sensor: str, readings: list[Taken], within: tuple[datetime, datetime], profile: str, factor: float
    ) -> None:
        asked = {"time_from": within[0].isoformat(), "time_to": within[1].isoformat(), "as_of_profile": profile}
        shown = await self.lab.points(sensor_id=sensor, limit=20_000, **asked)
        wanted = {one.id: PROVIDED if one.status is Status.CLIENT_PROVIDED else factor * one.raw for one in readings}
        assert {one["id"]: one["physical_value"] for one in shown} == wanted


async def profiles_of(lab: Lab, sensor: str) -> list[str]:
    """Published, one for each factor."""
    path, found = f"/api/v1/sensors/{sensor}/conversion-profiles", []
    for version, factor in enumerate(FACTORS):
        body = {"version": str(version), "kind": "linear", "payload": {"a": factor, "b": 0.0}}
        found.append(str((await lab.owner.post(path, json=body)).json()["id"]))
        answer = await lab.owner.post(f"{path}/{found[-1]}/publish")
        assert answer.status_code == 200, answer.text
    return found


@pytest.fixture
async def rig(lab: Lab, hub_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr(chunk, "READINGS_MAX", READINGS_A_STEP)
    sensors = [await lab.sensor("fed"), await lab.sensor("posting")]
    profiles = {sensor: await profiles_of(lab, sensor) for sensor in sensors}
    delivery = Delivery(lab.hub, lab.project)
    await delivery.enrol("fed")
    known = delivery.agent.record(Dictionary([], [ProfileEntry(1, UUID(profiles[sensors[0]][0]))]))
    lab.hub.services.ingest.offer(known)
    await delivery.settled(known.header.seq)
    async with running_hub(HubSettings(**hub_settings)) as other:
        began = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
        yield Rig(lab, [lab.hub, other], delivery, sensors[0], sensors[1], profiles, began)


async def test_recalculations_while_late_readings_come(rig: Rig) -> None:
    changed = 0
    for round_ in range(RACES):
        decisions, sessions = await rig.race(round_)
        for sensor, decided in decisions.items():
            changed += await rig.check(round_, sensor, decided)
        within = rig.at(round_, 0), rig.at(round_, ROUND_S * 1000)
        await require_equal(rig.lab, [rig.posting], sessions, within)
    await census.require_sums(rig.lab)
    assert changed, "the recalculations must find something to do"
