"""A laboratory and its model, which do the same steps, and are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hub.database.ids import uuid7
from hub.ingest.fold import LedgerFolding
from hub.telemetry.aggregate import fold_dirty
from shared.records import Gap
from tests.hub.conftest import Hub
from tests.hub.sessions.conftest import Lab
from tests.hub.sessions.courier import Batch, Courier
from tests.hub.sessions.model import CONFLICTING, NEVER_US, UNPLACED, Aside, Loss, Model, Parcel, Session, Stretch
from tests.hub.sessions.shown import Shown

SENSORS = ("oven", "pump")
RUNS: dict[str, tuple[str, ...]] = {"one": ("oven",), "both": SENSORS, "any": ()}
"""Attached sensors by run; the last takes those that are free."""
SESSIONS_MAX = 6
SECOND_US = 1_000_000
BEGAN_US = int(datetime.now(UTC).timestamp()) // 60 * 60 * SECOND_US - 3 * 3600 * SECOND_US


def moment(at_us: int) -> datetime:
    """As the API takes it."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)


@dataclass
class Trial:
    """The two, side by side.

    Attributes:
        ids: of the sensors and runs, by name.
        rows: the sessions, as the hub answered when they were made.
        policy: for late data, of sessions that begin.
        step: number of the present one.
        stretches: in which clock segment readings were taken that are set aside, by their first time.
        asks: how often the hub was asked.
        every_way: whether it is asked in all ways each time, or in each way by turns.
    """

    lab: Lab
    courier: Courier
    ids: dict[str, str]
    model: Model = field(default_factory=Model)
    rows: list[dict[str, Any]] = field(default_factory=list)
    policy: str | None = None
    step: int = 0
    count: int = 0
    stretches: dict[int, Stretch] = field(default_factory=dict)
    asks: int = 0
    every_way: bool = False

    @property
    def shown(self) -> Shown:
        return Shown(self.lab, {self.ids[name]: name for name in SENSORS})

    def turn(self, ways: Sequence[str]) -> Sequence[str]:
        """The ways to ask whose turn it is."""
        self.asks += 1
        return ways if self.every_way else (ways[self.asks // 2 % len(ways)],)

    async def do(self, step: Sequence[Any]) -> None:
        """One step, unless it makes no sense as things are."""
        self.step += 1
        match step:
            case ("take", sensors, spaces):
                self._sample(sensors, spaces)
            case ("bring", place) if some := [one for one in self.courier.kept if self.courier.can_arrive(one)]:
                await self._bring(some[place % len(some)])
            case ("once more", place) if self.courier.sent:
                await self.courier.deliver(self.courier.sent[place % len(self.courier.sent)])
            case ("again", *what):
                await self._again(*what)
            case ("lose", place, cause) if self.courier.kept:
                await self._lose(self.courier.kept[place % len(self.courier.kept)], cause)
            case ("pause", cause, length_s, sensors):
                await self._pause(cause, length_s, sensors)
            case ("clock", kind, offset_us) if not self.courier.is_blind:
                self.courier.now_us += 3 * SECOND_US
                await self.courier.step_clock(kind, offset_us)
            case ("restart", kind, offset_us):
                await self._restart(kind, offset_us)
            case ("post", sensor, times, place):
                await self._post(sensor, times, place)
            case ("policy", policy):
                self.policy = policy
                answer = await self.lab.owner.put(f"/projects/{self.lab.project}/policies", json={"late_data": policy})
                assert answer.status_code == 200, answer.text
            case ("fold",):
                services = self.lab.hub.services
                await fold_dirty(services.pool, datetime.now(UTC))
                await LedgerFolding(services.storage, services.clock, keep_s=0.0).once()
            case ("start", run, from_s, length_s):
                await self._start(run, from_s, length_s)
            case ("release" | "discard" as what, place) if self.model.asides:
                await self._decide(what, self.model.asides[place % len(self.model.asides)])
            case (str(what), int(place), *more) if self.rows:
                await self._change(what, place % len(self.rows), *more)

    async def wind_up(self) -> None:
        """All that was begun is brought to its end, so that nothing can come any more."""
        if self.courier.is_blind:
            await self.do(("restart", "measured", 0))
        for place, _ in enumerate(self.rows):
            await self.do(("stop", place, 1000))
            await self.do(("complete backfill", place))
        while self.courier.kept:
            await self.do(("bring", 0))
        while placed := [one for one in self.model.asides if one.reason == UNPLACED]:
            self.step += 1
            await self._decide("release", placed[0])
        self.courier.now_us = BEGAN_US + 3600 * SECOND_US
        await self.courier.deliver(self.courier.take({}))

    def _next_value(self) -> float:
        """Another one each time; neither rising nor falling."""
        self.count += 1
        return float(self.count if self.count % 2 else -self.count)

    def _sample(self, sensors: Sequence[str], spaces: Sequence[int]) -> None:
        samples: dict[str, list[tuple[int, float]]] = {sensor: [] for sensor in sensors}
        for space_s in spaces:
            self.courier.now_us += space_s * SECOND_US
            for some in samples.values():
                some.append((self.courier.clock_us, self._next_value()))
        self.courier.take(samples)

    async def _bring(self, batch: Batch) -> None:
        await self.courier.deliver(batch)
        for sensor, samples in batch.samples.items():
            self._arrived(batch, sensor, samples)

    def _arrived(self, batch: Batch, sensor: str, samples: Sequence[tuple[int, float]]) -> None:
        add_us, seq = batch.stretch.correction_us, batch.arrival.header.seq
        if add_us is not None:
            readings = [(at_us + add_us, value) for at_us, value in samples]
            self.model.take(self.step, Parcel(sensor, "agents", readings, seq))
        elif samples:
            self.stretches[samples[0][0]] = batch.stretch
            self.model.set_aside(Parcel(sensor, "agents", samples, seq), UNPLACED, samples)

    async def _again(self, way: str, sensor: str, place: int, count: int, differs: bool) -> None:
        """Readings that are stored come once more, or others in their place."""
        own = [one for one in self.model.readings if one.sensor == sensor]
        some = own[place % len(own) :][:count] if own else []
        if not some or (way == "agents" and self.courier.is_blind):
            return
        readings = sorted((one.at_us, one.value + differs / 2) for one in some)
        if way == "posts":
            await self._send(Parcel(sensor, way, readings))
            return
        add_us = self.courier.stretch.correction_us or 0
        batch = self.courier.take({sensor: [(at_us - add_us, value) for at_us, value in readings]})
        await self._bring(batch)

    async def _restart(self, kind: str, offset_us: int) -> None:
        """The process dies, and another one starts."""
        begun, from_us = self.courier.stretch, self.courier.through_us
        self.courier.now_us += 3 * SECOND_US
        await self.courier.start(kind, offset_us)
        ended = self.courier.stretch
        started_us = self.courier.clock_us
        self.model.losses.append(Loss("downtime", from_us, started_us, None, begun, ended))

    async def _lose(self, batch: Batch, cause: str) -> None:
        """The spool is full, and a batch of whatever clock has to go."""
        gap = await self.courier.drop(batch, cause)
        self._lost(gap, {sensor: len(samples) for sensor, samples in batch.samples.items() if samples}, batch.stretch)

    async def _pause(self, cause: str, length_s: int, sensors: Sequence[str]) -> None:
        """Nothing is sampled for a while; how many readings that would have been is known or not."""
        from_us = self.courier.clock_us
        self.courier.now_us += length_s * SECOND_US
        refs = [(SENSORS.index(sensor) + 1, length_s) for sensor in sensors]
        known = cause == "overflow"
        gap = Gap(
            "overflow" if known else "blocked",
            from_us,
            self.courier.clock_us,
            length_s * len(refs) if known else -1,
            refs if known else [],
        )
        await self.courier.tell(gap)
        self._lost(gap, dict.fromkeys(sensors, length_s) if known else None, self.courier.stretch)

    def _lost(self, gap: Gap, counts: dict[str, int] | None, stretch: Stretch) -> None:
        self.model.losses.append(Loss(gap.cause, gap.from_us, gap.to_us, counts, stretch, stretch))

    async def _post(self, sensor: str, times: Sequence[int], place: int | None) -> None:
        readings = [(BEGAN_US + at_s * SECOND_US, self._next_value()) for at_s in times]
        named = None if place is None or not self.rows else place % len(self.rows)
        if named is None or not self.model.sessions[named].archived:
            await self._send(Parcel(sensor, "posts", readings, named=named))

    async def _send(self, parcel: Parcel) -> None:
        names = {} if parcel.named is None else {"capture_session_id": self.rows[parcel.named]["id"]}
        readings = {moment(at_us): value for at_us, value in parcel.readings}
        answer = await self.lab.post(self.ids[parcel.sensor], readings, **names)
        if parcel.named is not None and parcel.sensor not in self.model.sessions[parcel.named].sensors:
            assert answer.json()["code"] == "other_sensor"
            return
        assert answer.status_code == 202, answer.text
        self.model.take(self.step, parcel)

    async def _start(self, run: str, from_s: int, length_s: int | None) -> None:
        """A session begins, or one is recorded after the fact."""
        if len(self.rows) == SESSIONS_MAX:
            return
        from_us = BEGAN_US + from_s * SECOND_US
        to_us = NEVER_US if length_s is None else from_us + length_s * SECOND_US
        times = {"started_at": moment(from_us).isoformat()}
        if length_s is not None:
            times["stopped_at"] = moment(to_us).isoformat()
        answer = await self.lab.start(self.ids[run], **times)
        free = [one for one in RUNS[run] or SENSORS if not self.model.is_taken(one, from_us, to_us)]
        if RUNS[run] and len(free) < len(RUNS[run]):
            assert (answer.status_code, answer.json()["code"]) == (409, "session_overlap")
            return
        assert answer.status_code == 201, answer.text
        stopped = None if length_s is None else self.step
        self.rows.append(answer.json())
        self.model.sessions.append(Session(run, free, from_us, self.policy, to_us, stopped))

    async def _change(self, what: str, place: int, length_s: int = 0) -> None:
        session, path = self.model.sessions[place], self.lab.path(self.rows[place])
        ended = session.stopped is not None and not session.archived
        if what == "stop" and session.stopped is None:
            session.stopped, session.to_us = self.step, session.from_us + length_s * SECOND_US
            await self._ask(f"{path}/stop", {"stopped_at": moment(session.to_us).isoformat()})
        elif what == "start backfill" and ended and not session.is_backfilling:
            session.backfills.append((self.step, None))
            await self._ask(f"{path}/backfill/start", None)
        elif what == "complete backfill" and session.is_backfilling:
            held = sum(not session.counts(one) for one in self.model.members(place))
            session.backfills[-1] = session.backfills[-1][0], self.step
            assert (await self._ask(f"{path}/backfill/complete", None))["attached_records"] == held
        elif what == "archive" and ended and not session.is_backfilling:
            session.archived = True
            answer = await self.lab.owner.patch(path, json={"status": "archived"})
            assert answer.status_code == 200, answer.text

    async def _decide(self, what: str, aside: Aside) -> None:
        """An owner releases or discards what was set aside."""
        path = f"/api/v1/set-aside/{await self._row_of(aside)}/{what}"
        if what == "discard":
            await self._ask(path, {"reason": "no use"})
            self.model.discard(aside)
        elif aside.reason == CONFLICTING:
            answer = await self.lab.owner.post(path)
            assert (answer.status_code, answer.json()["code"]) == (409, CONFLICTING)
        else:
            readings, body = aside.parcel.readings, None
            if aside.reason == UNPLACED:
                stretch = self.stretches[readings[0][0]]
                stretch.correction_us, body = stretch.offset_us, {"offset_us": stretch.offset_us}
                readings = [(at_us + stretch.offset_us, value) for at_us, value in readings]
            await self._ask(path, body)
            self.model.asides.remove(aside)
            parcel = aside.parcel
            self.model.take(self.step, Parcel(parcel.sensor, parcel.way, readings, parcel.seq))

    async def _row_of(self, aside: Aside) -> int:
        parcel = aside.parcel
        times = [moment(at_us).isoformat() for at_us, _ in sorted(parcel.readings)]
        wanted = parcel.sensor, parcel.way == "agents", parcel.seq, aside.reason, times[0], times[-1], len(times)
        for row in await self.shown.set_aside():
            span = [datetime.fromisoformat(row[name]).isoformat() for name in ("time_from", "time_to")]
            way = row["agent_id"] is not None
            if (row["sensor_name"], way, row["seq"], row["reason"], *span, row["readings"]) == wanted:
                return int(row["id"])
        raise AssertionError(f"{wanted} is not in the list")

    async def _ask(self, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        answer = await self.lab.owner.post(path, json=body)
        assert answer.status_code == 200, answer.text
        said: dict[str, Any] = answer.json()
        return said


async def new_trial(hub: Hub) -> Trial:
    """A project of its own."""
    owner = await hub.signed_in()
    project = (await owner.post("/projects", json={"name": f"Lab {uuid7()}"})).json()["id"]
    lab = Lab(hub, owner, project)
    ids = {name: await lab.sensor(name) for name in SENSORS}
    for run, attached in RUNS.items():
        ids[run] = await lab.run(tuple(ids[name] for name in attached))
    courier = Courier(lab, SENSORS, BEGAN_US - 20 * SECOND_US)
    await courier.enrol()
    return Trial(lab, courier, ids)
