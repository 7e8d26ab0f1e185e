"""A laboratory and its model, which publish, record, post and recalculate the same, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

from hub.database.ids import uuid7
from hub.database.pool import transaction
from hub.sensors.profiles import activate_scheduled
from hub.telemetry.aggregate import fold_dirty
from shared.readings import Status
from shared.records import Dictionary, ProfileEntry
from tests.hub.conftest import Hub
from tests.hub.ingest.conftest import columns
from tests.hub.recalculation.test_tasks import draft, path, recalculated
from tests.hub.sensors.splits_model import NEVER_US, SINCE_EVER_US, Model, Profile, Ruling, Session
from tests.hub.sessions.agents import Delivery
from tests.hub.sessions.conftest import Lab
from tests.hub.sessions.shown import us

SENSORS = ("oven", "pump")
RUNS: dict[str, tuple[str, ...]] = {"one": ("oven",), "both": SENSORS, "any": ()}
"""Attached sensors by run; the last takes those that are free."""
SECOND_US = 1_000_000
NOW_S = 300
"""Seconds of a laboratory's own time that had gone by as it was made; nothing lies between here and `AHEAD_S`."""
AHEAD_S = 1200


@dataclass
class Trial:
    """The two, side by side.

    Attributes:
        ids: of the sensors and runs, by name.
        began: second 0.
        profiles: all that were made, with those that were only scheduled and withdrawn.
        rows: the sessions, as the hub answered when they were made.
    """

    lab: Lab
    delivery: Delivery
    ids: dict[str, str]
    began: datetime
    model: Model = field(default_factory=Model)
    profiles: list[Profile] = field(default_factory=list)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    _values: Iterator[int] = field(default_factory=lambda: count(1))

    def moment(self, second: float) -> str:
        """As the API takes it."""
        return (self.began + timedelta(seconds=second)).isoformat()

    def us(self, second: float) -> int:
        found = us(self.moment(second))
        assert found is not None
        return found

    async def do(self, step: Sequence[Any]) -> None:
        """One step, unless it makes no sense as things are."""
        match step:
            case ("publish", sensor, named, from_s, length_s):
                await self._publish(sensor, named, from_s, length_s)
            case ("pass", second):
                await self._pass_time(second)
            case ("deprecate", place) if self.model.profiles:
                await self._deprecate(self.model.profiles[place % len(self.model.profiles)])
            case ("recalculate", place, places, span) if self.model.profiles:
                await self._recalculate(self.model.profiles[place % len(self.model.profiles)], places, span)
            case ("draft", run):
                self._made(run, await self.lab.start(self.ids[run], status="draft"))
            case ("start", run, from_s, length_s):
                await self._start(run, from_s, length_s)
            case ("post", sensor, seconds, place, provides):
                await self._post(sensor, seconds, place, provides)
            case ("deliver", seconds, place):
                await self._deliver(seconds, place)
            case ("fold",):
                await fold_dirty(self.lab.hub.services.pool, datetime.now(UTC) + timedelta(days=2))
            case ("begin" | "stop" | "delete" as what, int(place), *more) if self.model.sessions:
                sessions = list(self.model.sessions.values())
                await self._change(what, sessions[place % len(sessions)], *more)

    async def _publish(self, sensor: str, named: Sequence[int] | str | None, from_s: int | None, length_s: int) -> None:
        """A default, or a split: for a run by its name, or for sessions by their places."""
        fields: dict[str, Any] = {}
        runs = sessions = None
        if isinstance(named, str):
            runs = [self.ids[named]]
            fields["split"] = {"run_ids": runs}
        elif named is not None and self.model.sessions:
            known = list(self.model.sessions)
            sessions = sorted({known[place % len(known)] for place in named})
            fields["split"] = {"capture_session_ids": sessions}
        if from_s is not None:
            fields["valid_from"] = self.moment(from_s)
        factor = float(len(self.profiles) + 2)
        ends = {} if from_s is None or not length_s else {"valid_to": self.moment(from_s + length_s)}
        made = await draft(self.lab, self.ids[sensor], str(factor), factor, **ends)
        answer = await self.lab.owner.post(f"{path(self.ids[sensor])}/{made}/publish", json=fields)
        assert answer.status_code == 200, answer.text
        said = answer.json()
        first = not any(one.sensor == sensor and not one.is_split for one in self.model.profiles)
        self._require_start(said, from_s, since_ever=first and "split" not in fields)
        profile = Profile(
            said["id"],
            sensor,
            factor,
            us(said["published_at"]) or 0,
            us(said["valid_from"]) or SINCE_EVER_US,
            us(said["valid_to"]) or NEVER_US,
            runs,
            sessions,
            is_scheduled=from_s is not None and from_s > NOW_S,
        )
        assert said["status"] == ("scheduled" if profile.is_scheduled else "active")
        self.profiles.append(profile)
        self.model.publish(profile)

    def _require_start(self, said: dict[str, Any], from_s: int | None, *, since_ever: bool) -> None:
        """From when a profile is said to hold: from when it was asked for, else from now, or since ever."""
        start_us, published_us = us(said["valid_from"]), us(said["published_at"])
        if from_s is not None:
            assert start_us == self.us(from_s)
        else:
            assert start_us == (None if since_ever else published_us)

    async def _pass_time(self, second: int) -> None:
        """What upkeep does at some time ahead."""
        async with transaction(self.lab.hub.services.pool) as connection:
            await activate_scheduled(connection, self.began + timedelta(seconds=second))
        self.model.pass_time(self.us(second))

    async def _deprecate(self, profile: Profile) -> None:
        answer = await self.lab.owner.post(f"{path(self.ids[profile.sensor])}/{profile.id}/deprecate")
        assert answer.status_code == 200, answer.text
        now_us = us(answer.json()["valid_to"]) if profile.is_active else None  # it says itself what it takes for now
        if now_us is not None and now_us not in (profile.from_us, profile.to_us):
            assert self.us(NOW_S) <= now_us < self.us(AHEAD_S)
        self.model.deprecate(profile, now_us or 0)

    async def _recalculate(self, profile: Profile, places: Sequence[int], span: tuple[int, int] | None) -> None:
        started = [one for one in self.model.sessions.values() if not one.is_draft]
        some = {one.id: one for one in (started[place % len(started)] for place in places)} if started else {}
        body: dict[str, Any] = {}
        if some:
            body = {"scope": "capture_sessions", "capture_session_ids": list(some)}
        from_us, to_us = SINCE_EVER_US, NEVER_US
        if span is not None:
            from_us, to_us = self.us(span[0]), self.us(sum(span)) + 1
            body |= {"time_from": self.moment(span[0]), "time_to": self.moment(sum(span))}
        done = await recalculated(self.lab, self.ids[profile.sensor], profile.id, **body)
        assert done["status"] == "succeeded", done
        decided_us = us(done["created_at"])
        assert decided_us is not None
        self.model.recalculate(Ruling(profile, decided_us, from_us, to_us, list(some.values()) if some else None))

    async def _start(self, run: str, from_s: int, length_s: int | None) -> None:
        """A session begins, or one is recorded after the fact."""
        times = {"started_at": self.moment(from_s)}
        if length_s is not None:
            times["stopped_at"] = self.moment(from_s + length_s)
        answer = await self.lab.start(self.ids[run], **times)
        to_us = NEVER_US if length_s is None else self.us(from_s + length_s)
        free = self._free(run, self.us(from_s), to_us)
        if free is None:
            assert (answer.status_code, answer.json()["code"]) == (409, "session_overlap")
            return
        session = self._made(run, answer)
        session.sensors, session.from_us, session.to_us = free, self.us(from_s), to_us

    def _free(self, run: str, from_us: int, to_us: int) -> list[str] | None:
        """Who takes part; None where someone cannot who must."""
        free = [one for one in RUNS[run] or SENSORS if not self.model.is_taken(one, from_us, to_us)]
        return None if len(free) < len(RUNS[run]) else free

    def _made(self, run: str, answer: Any) -> Session:
        assert answer.status_code == 201, answer.text
        row = answer.json()
        self.rows[row["id"]] = row
        self.model.sessions[row["id"]] = Session(row["id"], self.ids[run])
        return self.model.sessions[row["id"]]

    async def _change(self, what: str, session: Session, second: int = 0) -> None:
        where, run = self.lab.path(self.rows[session.id]), self._name(session.run)
        if what == "begin" and session.is_draft:
            body = {"status": "running", "started_at": self.moment(second)}
            answer = await self.lab.owner.patch(where, json=body)
            free = self._free(run, self.us(second), NEVER_US)
            assert answer.status_code == (409 if free is None else 200), answer.text
            if free is not None:
                session.sensors, session.from_us = free, self.us(second)
        elif what == "stop" and not session.is_draft and session.to_us == NEVER_US:
            session.to_us = session.from_us + second * SECOND_US
            body = {"stopped_at": self.moment((session.to_us - self.us(0)) / SECOND_US)}
            answer = await self.lab.owner.post(f"{where}/stop", json=body)
            assert answer.status_code == 200, answer.text
        elif what == "delete" and (session.is_draft or session.to_us != NEVER_US):
            assert (await self.lab.owner.delete(where)).status_code == 204
            del self.model.sessions[session.id]

    def _name(self, id_: str) -> str:
        (found,) = [name for name, one in self.ids.items() if one == id_]
        return found

    def _fresh(self, sensor: str, seconds: Sequence[int]) -> list[tuple[int, int, float]]:
        """(second, time, raw value) of readings that are none yet."""
        there = {one.at_us for one in self.model.readings if one.sensor == sensor}
        return [(one, self.us(one), float(next(self._values))) for one in seconds if self.us(one) not in there]

    async def _post(self, sensor: str, seconds: Sequence[int], place: int | None, provides: bool) -> None:
        named = None
        if place is not None and self.model.sessions:
            named = list(self.model.sessions)[place % len(self.model.sessions)]
            session = self.model.sessions[named]
            if sensor not in (RUNS[self._name(session.run)] or SENSORS if session.is_draft else session.sensors):
                return
        fresh = self._fresh(sensor, seconds)
        if not fresh:
            return
        rows = [{"timestamp": self.moment(second), "raw_value": raw} for second, _, raw in fresh]
        body = {"sensor_id": self.ids[sensor], "readings": rows}
        if named is not None:
            body["capture_session_id"] = named
        if provides:
            rows[0]["physical_value"] = -1.0
        headers = {"Authorization": f"Bearer {self.lab.tokens[self.ids[sensor]]}"}
        answer = await self.lab.owner.post("/api/v1/telemetry", json=body, headers=headers)
        assert answer.status_code == 202, answer.text
        for index, (_, at_us, raw) in enumerate(fresh):
            self.model.take(sensor, at_us, raw, named, -1.0 if provides and index == 0 else None)

    async def _deliver(self, seconds: Sequence[int], place: int | None) -> None:
        """What the agent reads at the pump, raw or as some profile or other has it."""
        fresh = sorted(self._fresh("pump", seconds))
        own = [one for one in self.model.profiles if one.sensor == "pump"]
        if not fresh:
            return
        arguments: dict[str, Any] = {}
        if place is not None and own:
            sent = own[place % len(own)]
            ref = self.profiles.index(sent) + 1
            known = self.delivery.agent.record(Dictionary([], [ProfileEntry(ref, UUID(sent.id))]))
            self.lab.hub.services.ingest.offer(known)
            await self.delivery.settled(known.header.seq)
            physical = [sent.factor * raw for _, _, raw in fresh]
            arguments = {"physical": physical, "status": int(Status.CONVERTED), "profile": ref}
        size = len(fresh)
        rows = columns([1] * size, [at_us for _, at_us, _ in fresh], [raw for _, _, raw in fresh], **arguments)
        arrival = self.delivery.agent.data(rows)
        self.lab.hub.services.ingest.offer(arrival)
        await self.delivery.settled(arrival.header.seq)
        for _, at_us, raw in fresh:
            self.model.take("pump", at_us, raw)


async def new_trial(hub: Hub) -> Trial:
    """A project of its own."""
    owner = await hub.signed_in()
    project = (await owner.post("/projects", json={"name": f"Lab {uuid7()}"})).json()["id"]
    lab = Lab(hub, owner, project)
    ids = {name: await lab.sensor(name) for name in SENSORS}
    for run, attached in RUNS.items():
        ids[run] = await lab.run(tuple(ids[name] for name in attached))
    delivery = Delivery(hub, project)
    await delivery.enrol("pump")
    began = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=NOW_S)
    return Trial(lab, delivery, ids, began)
