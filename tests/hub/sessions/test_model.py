"""Whatever happens in whatever order: query, aggregated and export say of sessions what one simple model says.

`LABRELAY_EXAMPLES=200` tries so many laboratories instead of a few.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.database.ids import uuid7
from hub.database.pool import acquire
from tests.hub.conftest import Hub
from tests.hub.sessions.agents import Delivery
from tests.hub.sessions.conftest import Lab

EXAMPLES = int(os.environ.get("LABRELAY_EXAMPLES", "5"))
EVERY_S, LENGTH_S, SESSIONS_MAX = 100, 60, 3
pytestmark = pytest.mark.timeout(120 + 10 * EXAMPLES)

TIMES = st.lists(st.integers(-20, EVERY_S * SESSIONS_MAX), min_size=1, max_size=4, unique=True).map(sorted)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), TIMES),
        st.tuples(st.just("post"), TIMES),
        st.tuples(st.just("post to"), TIMES, st.integers(0, SESSIONS_MAX - 1)),
        st.just(("start",)),
        st.tuples(st.just("stop"), st.integers(1, LENGTH_S)),
        st.tuples(st.just("start backfill"), st.integers(0, SESSIONS_MAX - 1)),
        st.tuples(st.just("complete backfill"), st.integers(0, SESSIONS_MAX - 1)),
        st.tuples(st.just("archive"), st.integers(0, SESSIONS_MAX - 1)),
    ),
    min_size=4,
    max_size=14,
)
POLICIES = st.sampled_from([None, "hold", "attach"])


@dataclass
class Session:
    """What the model knows of one; moments are numbers of steps."""

    from_s: int
    row: dict[str, Any]
    to_s: float = float("inf")
    stopped: int | None = None
    backfills: list[tuple[int, int | None]] = field(default_factory=list)
    archived: bool = False

    @property
    def is_backfilling(self) -> bool:
        return bool(self.backfills) and self.backfills[-1][1] is None


@dataclass(frozen=True)
class Taken:
    """A reading that the model takes for stored; its value is unlike all others."""

    step: int
    sensor: str
    at_s: int
    value: float
    named: int | None


@dataclass
class Model:
    """Of which session a reading is, and whether it counts."""

    policy: str | None
    sessions: list[Session] = field(default_factory=list)
    readings: list[Taken] = field(default_factory=list)

    def place(self, at_s: int) -> int | None:
        fitting = [number for number, one in enumerate(self.sessions) if one.from_s <= at_s < one.to_s]
        return fitting[0] if fitting else None

    def add(self, step: int, sensor: str, at_s: int, value: float, named: int | None) -> None:
        if any((one.sensor, one.at_s) == (sensor, at_s) for one in self.readings):
            return  # a repetition, or set aside as one that contradicts
        place = self.place(at_s)
        if named is None and place is not None and self.sessions[place].archived:
            return
        self.readings.append(Taken(step, sensor, at_s, value, named))

    def of(self, number: int) -> tuple[list[float], list[float]]:
        """Values that count to a session, and those held back."""
        mine = [one for one in self.readings if (self.place(one.at_s) if one.named is None else one.named) == number]
        counted = [one.value for one in mine if self._counts(one, self.sessions[number])]
        return sorted(counted), sorted({one.value for one in mine} - set(counted))

    def _counts(self, reading: Taken, session: Session) -> bool:
        if session.stopped is None or reading.step < session.stopped:
            return True
        if (self.policy or ("attach" if reading.sensor == "fed" else "hold")) == "attach":
            return True
        return any(reading.step >= begun if done is None else reading.step < done for begun, done in session.backfills)


@dataclass
class Trial:
    """A laboratory and its model, which do the same steps."""

    lab: Lab
    delivery: Delivery
    posting: str
    run: str
    model: Model
    began: datetime = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)
    value: float = 0.0

    def at(self, seconds: float) -> datetime:
        return self.began + timedelta(seconds=seconds)

    async def do(self, number: int, step: Sequence[Any]) -> None:
        """One step, unless it makes no sense as things are."""
        match step:
            case ("deliver", times):
                await self.delivery.deliver("fed", self._take(number, "fed", times, None))
            case ("post", times):
                await self._post(number, times, None)
            case ("post to", times, place) if place < len(self.model.sessions):
                if not self.model.sessions[place].archived:
                    await self._post(number, times, place)
            case ("start",):
                await self._start()
            case ("stop", length_s):
                await self._stop(number, length_s)
            case (what, place) if place < len(self.model.sessions):
                await self._change(number, what, self.model.sessions[place])

    def _take(self, number: int, sensor: str, times: Sequence[int], named: int | None) -> dict[datetime, float]:
        readings = {}
        for at_s in times:
            self.value += 1
            readings[self.at(at_s)] = self.value
            self.model.add(number, sensor, at_s, self.value, named)
        return readings

    async def _post(self, number: int, times: Sequence[int], place: int | None) -> None:
        names = {} if place is None else {"capture_session_id": self.model.sessions[place].row["id"]}
        answer = await self.lab.post(self.posting, self._take(number, "posting", times, place), **names)
        assert answer.status_code == 202, answer.text

    async def _start(self) -> None:
        sessions = self.model.sessions
        if len(sessions) < SESSIONS_MAX and all(one.stopped is not None for one in sessions):
            from_s = EVERY_S * len(sessions)
            row = await self.lab.started(self.run, started_at=self.at(from_s).isoformat())
            sessions.append(Session(from_s, row))

    async def _stop(self, number: int, length_s: int) -> None:
        for session in self.model.sessions:
            if session.stopped is None:
                session.stopped, session.to_s = number, session.from_s + length_s
                await self._ask(session, "stop", {"stopped_at": self.at(session.to_s).isoformat()})

    async def _change(self, number: int, what: str, session: Session) -> None:
        if session.stopped is None or session.archived:
            return
        if what == "start backfill" and not session.is_backfilling:
            session.backfills.append((number, None))
            await self._ask(session, "backfill/start", None)
        elif what == "complete backfill" and session.is_backfilling:
            session.backfills[-1] = session.backfills[-1][0], number
            await self._ask(session, "backfill/complete", None)
        elif what == "archive" and not session.is_backfilling:
            session.archived = True
            answer = await self.lab.owner.patch(self.lab.path(session.row), json={"status": "archived"})
            assert answer.status_code == 200, answer.text

    async def _ask(self, session: Session, what: str, body: dict[str, Any] | None) -> None:
        answer = await self.lab.owner.post(f"{self.lab.path(session.row)}/{what}", json=body)
        assert answer.status_code == 200, answer.text

    async def check(self) -> None:
        """All that the hub says of each session, and of the run."""
        every: list[float] = []
        for number, session in enumerate(self.model.sessions):
            counted, held = self.model.of(number)
            every += counted
            assert sorted(await self.lab.counted(session.row)) == counted
            assert sorted(await self.lab.counted(session.row, include_late=True)) == sorted(counted + held)
            assert await self._exported(capture_session_id=session.row["id"]) == counted
            assert await self._exported(capture_session_id=session.row["id"], include_late=True) == sorted(
                counted + held
            )
            assert await self._aggregated(session) == (len(counted), sum(counted))
        assert await self._exported(run_id=self.run) == sorted(every)

    async def _exported(self, **asked: Any) -> list[float]:
        answer = await self.lab.owner.get("/api/v1/telemetry/export", params={"format": "json", **asked})
        return sorted(one["raw_value"] for one in answer.json()["points"])

    async def _aggregated(self, session: Session) -> tuple[int, float]:
        asked = {"capture_session_id": session.row["id"], "bucket_interval": "10s"}
        buckets = (await self.lab.owner.get("/api/v1/telemetry/aggregated", params=asked)).json()["buckets"]
        total = sum(one["avg_raw"] * one["sample_count"] for one in buckets)
        return sum(one["sample_count"] for one in buckets), pytest.approx(total)


async def new_trial(hub: Hub, policy: str | None) -> Trial:
    """A project of its own."""
    owner = await hub.signed_in()
    project = (await owner.post("/projects", json={"name": f"Lab {uuid7()}"})).json()["id"]
    lab = Lab(hub, owner, project)
    if policy is not None:
        async with acquire(hub.services.pool) as connection:
            await connection.execute(
                "insert into project_policies (project_id, late_data) values ($1, $2)", UUID(project), policy
            )
    fed, posting = await lab.sensor("fed"), await lab.sensor("posting")
    delivery = Delivery(hub, project)
    await delivery.enrol("fed")
    return Trial(lab, delivery, posting, await lab.run((fed, posting)), Model(policy))


@given(STEPS, POLICIES)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_query_aggregated_and_export_agree_with_the_model(
    hub: Hub, steps: list[tuple[Any, ...]], policy: str | None
) -> None:
    trial = await new_trial(hub, policy)
    for number, step in enumerate([("start",), *steps]):
        await trial.do(number, step)
    await trial.check()
