"""Sessions that start, stop and change while readings come: what belongs to them afterwards is what the rows say.

Each race is run a few times; `LABRELAY_RACES=200` runs each so often.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from hub.settings import HubSettings
from tests.hub.conftest import Hub, running_hub
from tests.hub.sessions.agents import Delivery
from tests.hub.sessions.census import require_equal
from tests.hub.sessions.conftest import Lab

RACES = int(os.environ.get("LABRELAY_RACES", "3"))
PARALLEL_STARTS = 50
BATCHES, BATCH_READINGS, POSTS = 12, 20, 12
pytestmark = pytest.mark.timeout(120 + 20 * RACES)

Step = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass
class Rig:
    """Sensors of which one is fed by an agent and one posts for itself."""

    lab: Lab
    delivery: Delivery
    fed: str
    posting: str
    began: datetime

    def at(self, round_: int, milliseconds: float) -> datetime:
        """Within a round, each of which has ten seconds of its own in the past."""
        return self.began + timedelta(seconds=10 * round_, milliseconds=milliseconds)

    async def feed(self, round_: int) -> None:
        """What the agent delivers, from before the session to behind its end."""
        seqs = []
        for number in range(BATCHES):
            first = 500 * number
            readings = {self.at(round_, first + 10 * one): float(one) for one in range(BATCH_READINGS)}
            seqs.append(self.delivery.offer("fed", readings))
            await asyncio.sleep(random.uniform(0, 0.01))
        await self.delivery.settled(*seqs)

    async def post(self, round_: int, session_id: str) -> None:
        """What the other one posts; every third post names the session."""
        for number in range(POSTS):
            readings = {self.at(round_, 500 * number + 10 * one): float(one) for one in range(5)}
            names = {"capture_session_id": session_id} if number % 3 == 0 else {}
            answer = await self.lab.post(self.posting, readings, **names)
            assert answer.status_code == 202, answer.text

    async def race(self, round_: int, step: Step) -> str:
        """Do something while both come. Returns: the session."""
        session = await self.lab.started(await self.lab.run(), started_at=self.at(round_, 1000).isoformat())

        async def act() -> None:
            await asyncio.sleep(random.uniform(0, 0.1))
            await step(session)

        async with asyncio.TaskGroup() as group:
            group.create_task(self.feed(round_), name="agent")
            group.create_task(self.post(round_, session["id"]), name="posts")
            group.create_task(act(), name="step")
        return str(session["id"])

    async def check(self, round_: int, session_id: str) -> int:
        """See that the hub shows what the raw rows say. Returns: how many readings that are."""
        within = self.at(round_, 0), self.at(round_, 10_000)
        return await require_equal(self.lab, [self.posting], [session_id], within)

    async def stop(self, session: dict[str, Any], round_: int, client: httpx.AsyncClient | None = None) -> None:
        """End it in the middle of its readings."""
        body = {"stopped_at": self.at(round_, 4000).isoformat()}
        answer = await (client or self.lab.owner).post(f"{self.lab.path(session)}/stop", json=body)
        assert answer.status_code == 200, answer.text


@pytest.fixture
async def rig(lab: Lab) -> Rig:
    fed, posting = await lab.sensor("fed"), await lab.sensor("posting")
    delivery = Delivery(lab.hub, lab.project)
    await delivery.enrol("fed")
    return Rig(lab, delivery, fed, posting, datetime.now(UTC) - timedelta(hours=2))


@pytest.fixture
async def other_hub(hub: Hub, hub_settings: dict[str, Any]) -> AsyncIterator[Hub]:
    """A second hub on the same database."""
    async with running_hub(HubSettings(**hub_settings)) as running:
        yield running


async def test_of_parallel_starts_on_one_sensor_exactly_one_wins(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    runs = [await lab.run((oven,)) for _ in range(PARALLEL_STARTS)]
    for _ in range(RACES):
        async with asyncio.TaskGroup() as group:
            starts = [group.create_task(lab.start(run), name="start") for run in runs]
        answers = [start.result() for start in starts]
        assert sorted(one.status_code for one in answers) == [201] + [409] * (PARALLEL_STARTS - 1)
        assert {one.json()["code"] for one in answers if one.status_code == 409} == {"session_overlap"}
        (won,) = (one.json() for one in answers if one.status_code == 201)
        await lab.post(oven, {datetime.now(UTC): 1})
        stopped = await lab.owner.post(f"{lab.path(won)}/stop")
        assert stopped.status_code == 200, stopped.text
        await require_equal(lab, [oven], [won["id"]])


async def test_a_session_that_stops_while_readings_come(rig: Rig) -> None:
    for round_ in range(RACES):

        async def step(session: dict[str, Any], round_: int = round_) -> None:
            await rig.stop(session, round_)

        session_id = await rig.race(round_, step)
        assert await rig.check(round_, session_id) >= POSTS // 3 * 5


async def test_a_profile_that_is_published_while_readings_come(rig: Rig) -> None:
    for round_ in range(RACES):

        async def step(session: dict[str, Any], round_: int = round_) -> None:
            for sensor in (rig.fed, rig.posting):
                path = f"/api/v1/sensors/{sensor}/conversion-profiles"
                body = {"version": f"v{round_}", "kind": "linear", "payload": {"a": float(round_ + 1), "b": 0.0}}
                made = await rig.lab.owner.post(path, json=body)
                assert made.status_code == 201, made.text
                profile_id = made.json()["id"]
                published = await rig.lab.owner.post(f"{path}/{profile_id}/publish")
                assert published.status_code == 200, published.text
            await rig.stop(session, round_)

        session_id = await rig.race(round_, step)
        await rig.check(round_, session_id)


async def test_backfills_while_late_readings_come(rig: Rig) -> None:
    for round_ in range(RACES):

        async def step(session: dict[str, Any], round_: int = round_) -> None:
            await rig.stop(session, round_)
            for what in ("start", "complete"):
                await asyncio.sleep(random.uniform(0, 0.05))
                answer = await rig.lab.owner.post(f"{rig.lab.path(session)}/backfill/{what}")
                assert answer.status_code == 200, answer.text

        session_id = await rig.race(round_, step)
        await rig.check(round_, session_id)


async def test_one_hub_stops_what_the_other_ingests(rig: Rig, other_hub: Hub) -> None:
    other = other_hub.client(Authorization=rig.lab.owner.headers["Authorization"])
    for round_ in range(RACES):

        async def step(session: dict[str, Any], round_: int = round_) -> None:
            await rig.stop(session, round_, other)

        session_id = await rig.race(round_, step)
        await rig.check(round_, session_id)
