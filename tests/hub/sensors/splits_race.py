"""One race: readings come by agent, posts and stream while profiles are published, sessions made and all recalculated.

Each race has sensors, runs and ten seconds in the past of its own. What is decided, one thing after the other, is done
to a model too, of which a copy is kept after each step. A reading was stored between two steps: no sooner than those
that were answered before it was sent, no later than those that were asked for before it was acknowledged. Steps keep
ingest out, so of two readings the one with the higher id was not stored before an earlier step.
"""

from __future__ import annotations

import asyncio
import random
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx

from hub.telemetry.moments import to_us
from shared.readings import Status
from shared.records import Dictionary, ProfileEntry
from tests.fixtures.websocket import connected
from tests.hub.conftest import Hub
from tests.hub.ingest.conftest import columns
from tests.hub.recalculation import census
from tests.hub.recalculation.census import Taken
from tests.hub.recalculation.test_tasks import backfill, draft, path
from tests.hub.sensors.splits_model import NEVER_US, SINCE_EVER_US, Model, Profile, Reading, Ruling, Session
from tests.hub.sessions.agents import Delivery
from tests.hub.sessions.conftest import Lab
from tests.hub.sessions.shown import us

MESSAGES, READINGS = 8, 6
SPAN_MS = 9500
DEFAULT, OTHER, BY_RUN, BY_SESSION = 2.0, 3.0, 5.0, 7.0
"""Factors of each sensor's profiles; the first is in force before the race."""


@dataclass(frozen=True)
class State:
    """What held after a step, and what that step has ruled for readings that were there, if anything."""

    model: Model
    ruling: Ruling | None = None


@dataclass
class Race:
    """See above.

    Attributes:
        drafts: profiles by sensor and factor.
        run: the one that profiles are split off for; it records both sensors.
        named: sessions that posts may name.
        asked: steps that were asked for; the first state is before all of them.
        limits: the first and last state in which a reading may have been stored, by sensor and time.
    """

    lab: Lab
    hubs: list[Hub]
    delivery: Delivery
    began: datetime
    fed: str
    posting: str
    run: str
    drafts: dict[tuple[str, float], str] = field(default_factory=dict)
    named: list[dict[str, Any]] = field(default_factory=list)
    model: Model = field(default_factory=Model)
    states: list[State] = field(default_factory=list)
    asked: int = 0
    limits: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)

    def at(self, milliseconds: float) -> datetime:
        return self.began + timedelta(milliseconds=milliseconds)

    def us(self, milliseconds: float) -> int:
        return to_us(self.at(milliseconds))

    @property
    def client(self) -> httpx.AsyncClient:
        """The owner, at either hub."""
        token = self.lab.owner.headers["Authorization"]
        return random.choice(self.hubs).client(Authorization=token)

    async def begin(self) -> None:
        """Profiles, of which one is in force, a session that has ended and one that runs."""
        for sensor in (self.fed, self.posting):
            for factor in (DEFAULT, OTHER, BY_RUN, BY_SESSION):
                self.drafts[sensor, factor] = await draft(self.lab, sensor, str(factor), factor)
            await self._publish(sensor, DEFAULT, {})
        await self._make(1000, 3000)
        await self._make(4000, None)
        known = [
            ProfileEntry(1, UUID(self.drafts[self.fed, DEFAULT])),
            ProfileEntry(2, UUID(self.drafts[self.fed, BY_RUN])),
        ]
        told = self.delivery.agent.record(Dictionary([], known))
        self.hubs[0].services.ingest.offer(told)
        await self.delivery.settled(told.header.seq)
        self.states, self.asked = [State(deepcopy(self.model))], 0

    async def steer(self) -> None:
        """All that is decided, in any order."""
        running = self.named[1]
        by_run, by_session = {"run_ids": [self.run]}, {"capture_session_ids": [running["id"]]}
        steps: list[Any] = [("stop",), ("record",), ("draft",)]
        for sensor in (self.fed, self.posting):
            steps += [("publish", sensor, OTHER, {"valid_from": self.at(2000).isoformat()})]
            for factor, split in ((BY_RUN, by_run), (BY_SESSION, by_session)):
                steps.append(("publish", sensor, factor, {"valid_from": self.at(500).isoformat(), "split": split}))
            steps += [("recalculate", sensor), ("recalculate", sensor)]
        for what, *arguments in random.sample(steps, len(steps)):
            await asyncio.sleep(random.uniform(0, 0.03))
            self.asked += 1
            ruling: Ruling | None = None
            match what:
                case "publish":
                    await self._publish(*arguments)
                case "recalculate":
                    ruling = await self._recalculate(*arguments)
                case "stop":
                    await self._stop(running)
                case "record":
                    await self._make(3100, 3900)
                case "draft":
                    await self._make(None, None)
            self.states.append(State(deepcopy(self.model), ruling))

    async def _publish(self, sensor: str, factor: float, body: dict[str, Any]) -> None:
        answer = await self.client.post(f"{path(sensor)}/{self.drafts[sensor, factor]}/publish", json=body)
        assert answer.status_code == 200, answer.text
        said, split = answer.json(), body.get("split", {})
        published_us, from_us = us(said["published_at"]), us(said["valid_from"])
        assert published_us is not None
        start_us = SINCE_EVER_US if from_us is None else from_us
        runs, sessions = split.get("run_ids"), split.get("capture_session_ids")
        self.model.publish(
            Profile(said["id"], sensor, factor, published_us, start_us, runs=runs, sessions=sessions, is_active=True)
        )

    async def _make(self, from_ms: int | None, to_ms: int | None) -> None:
        """A draft, a session that runs, or one that has ended."""
        names = (("started_at", from_ms), ("stopped_at", to_ms))
        body = {name: self.at(one).isoformat() for name, one in names if one is not None}
        made = await self.lab.started(self.run, **(body or {"status": "draft"}))
        self.named.append(made)
        session = self.model.sessions[made["id"]] = Session(made["id"], self.run)
        if from_ms is not None:
            session.sensors, session.from_us = [self.fed, self.posting], self.us(from_ms)
            session.to_us = NEVER_US if to_ms is None else self.us(to_ms)

    async def _stop(self, session: dict[str, Any]) -> None:
        answer = await self.client.post(
            f"{self.lab.path(session)}/stop", json={"stopped_at": self.at(7000).isoformat()}
        )
        assert answer.status_code == 200, answer.text
        self.model.sessions[session["id"]].to_us = self.us(7000)

    async def _recalculate(self, sensor: str) -> Ruling:
        profile = random.choice([one for one in self.model.profiles if one.sensor == sensor])
        started = [one for one in self.model.sessions.values() if not one.is_draft]
        some = random.choice([None, random.sample(started, 1), started])
        from_ms, to_ms = random.choice([(0, SPAN_MS), (2500, 8000)])
        body: dict[str, Any] = {"time_from": self.at(from_ms).isoformat(), "time_to": self.at(to_ms).isoformat()}
        if some is not None:
            body |= {"scope": "capture_sessions", "capture_session_ids": [one.id for one in some]}
        answer = await backfill(self.lab, sensor, profile.id, **body)
        assert answer.status_code == 202, answer.text
        task = await self.lab.owner.get(f"/api/v1/backfill-tasks/{answer.json()['backfill_task_id']}")
        decided_us = us(task.json()["created_at"])
        assert decided_us is not None
        self.model.recalculate(Ruling(profile, decided_us, self.us(from_ms), self.us(to_ms) + 1, some))
        return self.model.rulings[-1]

    def _times(self, unlike: int) -> list[datetime]:
        """Anywhere in the race; senders that are unlike never choose the same."""
        chosen = sorted(random.sample(range(SPAN_MS), READINGS))
        return [self.at(one) + timedelta(microseconds=unlike) for one in chosen]

    def _sent(self, sensor: str, times: list[datetime], since: int, until: int) -> None:
        self.limits.update({(sensor, to_us(at)): (since, until) for at in times})

    async def feed(self) -> None:
        """What the agent delivers: raw, or as one profile or the other has it."""
        for number in range(MESSAGES):
            times, raw = self._times(number), [float(one) for one in range(READINGS)]
            arguments: dict[str, Any] = {}
            if ref := number % 3:
                physical = [(DEFAULT, BY_RUN)[ref - 1] * one for one in raw]
                arguments = {"physical": physical, "status": int(Status.CONVERTED), "profile": ref}
            since = len(self.states) - 1
            arrival = self.delivery.agent.data(columns([1] * READINGS, [to_us(at) for at in times], raw, **arguments))
            self.hubs[0].services.ingest.offer(arrival)
            await self.delivery.settled(arrival.header.seq)
            self._sent(self.fed, times, since, self.asked)

    def _body(self, times: list[datetime]) -> dict[str, Any]:
        rows = [{"timestamp": at.isoformat(), "raw_value": float(one)} for one, at in enumerate(times)]
        named = random.choice([None, None, *self.named])
        return {"sensor_id": self.posting, "readings": rows} | ({"capture_session_id": named["id"]} if named else {})

    async def post(self) -> None:
        """What the other one posts, to either hub."""
        for number in range(MESSAGES):
            times, since = self._times(number), len(self.states) - 1
            headers = {"Authorization": f"Bearer {self.lab.tokens[self.posting]}"}
            answer = await self.client.post("/api/v1/telemetry", json=self._body(times), headers=headers)
            assert answer.status_code == 202, answer.text
            self._sent(self.posting, times, since, self.asked)
            await asyncio.sleep(random.uniform(0, 0.03))

    async def stream(self) -> None:
        """What it sends over WebSocket meanwhile."""
        token = self.lab.tokens[self.posting]
        async with connected(self.hubs[1].app, "/api/v1/telemetry/ws", token=token) as client:
            await client.say({"type": "open", "stream": "race"})
            assert (await client.hear())["last_seq"] == 0
            for number in range(MESSAGES):
                times, since = self._times(MESSAGES + number), len(self.states) - 1
                await client.say({"type": "readings", "seq": number + 1, "body": self._body(times)})
                told = await client.hear()
                assert (told["type"], told["seq"]) == ("ack", number + 1), told
                self._sent(self.posting, times, since, self.asked)
                await asyncio.sleep(random.uniform(0, 0.03))

    async def check(self) -> int:
        """See that there is an order in which all of it happened one after the other.

        Returns: how many readings tell of one of the steps.
        """
        found: list[tuple[str, Taken]] = []
        for sensor in (self.fed, self.posting):
            found += [(sensor, one) for one in await census.taken(self.lab, sensor, self.at(0), self.at(SPAN_MS + 1))]
        assert len(found) == len(self.limits) == 3 * MESSAGES * READINGS
        earliest, telling = 0, 0
        for sensor, one in sorted(found, key=lambda pair: pair[1].id):
            since, until = self.limits[sensor, to_us(one.time)]
            outcomes = {place: self._outcome(place, sensor, one) for place in range(max(since, earliest), until + 1)}
            fitting = [place for place, profile in outcomes.items() if profile and profile.id == one.profile_id]
            assert fitting, (one, since, until, earliest, {place: p and p.factor for place, p in outcomes.items()})
            assert one.physical == self._factor(one.profile_id) * one.raw
            earliest, telling = fitting[0], telling + (len(fitting) < len(outcomes))
        return telling

    def _outcome(self, place: int, sensor: str, one: Taken) -> Profile | None:
        """The profile of a reading in the end that was stored after this state and before the next."""
        at_us, state = to_us(one.time), self.states[place]
        profile = state.model.in_force(sensor, at_us, one.session_id)
        reading = Reading(sensor, at_us, one.raw, one.session_id, profile)
        for later in self.states[place + 1 :]:
            if later.ruling is not None:
                reading = later.model.ruled(reading, later.ruling)
        return reading.profile

    def _factor(self, profile_id: str | None) -> float:
        (found,) = [factor for (_, factor), one in self.drafts.items() if one == profile_id]
        return found


async def new_race(lab: Lab, hubs: list[Hub], number: int) -> Race:
    """Sensors, an agent and a run of its own."""
    fed, posting = await lab.sensor(f"fed {number}"), await lab.sensor(f"posting {number}")
    delivery = Delivery(lab.hub, lab.project)
    await delivery.enrol(f"fed {number}")
    began = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
    race = Race(lab, hubs, delivery, began, fed, posting, await lab.run((fed, posting)))
    await race.begin()
    return race
