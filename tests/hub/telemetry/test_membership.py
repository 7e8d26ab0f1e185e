"""Which readings belong to which session: by label and by condition, against one simple model."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import numpy as np
import pytest

from hub.database.ids import uuid7
from hub.database.pool import Connection, transaction
from hub.telemetry.membership import Membership, label, of_run, of_sensors, of_sessions
from hub.telemetry.moments import to_us
from hub.telemetry.scan import Where, scan
from tests.fixtures.readings import START, Bench

IDS_FROM = 1 << 20


@dataclass
class Session:
    """What the model knows of a session; times in seconds after `START`, ids relative to `IDS_FROM`."""

    id: UUID
    run_id: UUID
    windows: dict[UUID, tuple[int, int | None]]
    late_from: int | None
    late_rest: str
    late_agents: str
    counted: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class Post:
    """Some of the readings, which came together by HTTP."""

    first: int
    last: int
    sensor: UUID
    names: UUID | None


@dataclass
class Reading:
    """One reading."""

    id: int
    sensor: UUID
    at_s: int
    post: Post | None


class World:
    """A laboratory drawn from a seed, and what should hold in it."""

    def __init__(self, seed: int, sensors: Sequence[UUID]) -> None:
        self.draw = random.Random(seed)
        self.run_id = uuid7()
        self.sessions: list[Session] = []
        self.readings: list[Reading] = []
        self.posts: list[Post] = []
        free_from = dict.fromkeys(sensors, 0)
        for number in range(6):
            self._add_session(sensors, free_from, last=number == 5)
        for first in range(0, 300, 10):
            self._add_readings(first, self.draw.choice(sensors))

    def _add_session(self, sensors: Sequence[UUID], free_from: dict[UUID, int], *, last: bool) -> None:
        draw, windows = self.draw, {}
        for sensor in draw.sample(list(sensors), draw.randint(1, len(sensors))):
            begin = free_from[sensor] + draw.randint(0, 10)
            end = None if last and draw.random() < 0.5 else begin + draw.randint(0, 40)
            windows[sensor] = begin, end
            free_from[sensor] = 10_000 if end is None else end
        stopped = all(end is not None for _, end in windows.values())
        late_from = draw.randint(0, 300) if stopped and draw.random() < 0.8 else None
        policies = [draw.choice(("hold", "attach")) for _ in range(2)]
        session = Session(uuid7(), self.run_id, windows, late_from, *policies)
        if late_from is not None and draw.random() < 0.5:
            session.counted = [(late_from, draw.randint(late_from, 310)), (290, 295)]
        self.sessions.append(session)

    def _add_readings(self, first: int, sensor: UUID) -> None:
        draw = self.draw
        names = draw.choice(self.sessions).id if draw.random() < 0.4 else None
        post = Post(first, first + 9, sensor, names) if draw.random() < 0.6 else None
        if post is not None:
            self.posts.append(post)
        moments = draw.sample([at for at in range(260) if not self._taken(sensor, at)], 10)
        self.readings += [Reading(first + place, sensor, at, post) for place, at in enumerate(moments)]

    def _taken(self, sensor: UUID, at_s: int) -> bool:
        return any(one.sensor == sensor and one.at_s == at_s for one in self.readings)

    def session_of(self, reading: Reading) -> tuple[UUID | None, bool]:
        """The reading's session, and whether it is held back."""
        for session in self.sessions:
            if self._covers(session, reading):
                return session.id, self._is_held(session, reading)
        return None, False

    def _covers(self, session: Session, reading: Reading) -> bool:
        if reading.post is not None and reading.post.names is not None:
            return reading.post.names == session.id
        begin, end = session.windows.get(reading.sensor, (0, 0))
        return begin <= reading.at_s and (end is None or reading.at_s < end)

    def _is_held(self, session: Session, reading: Reading) -> bool:
        late = session.late_from is not None and reading.id >= session.late_from
        counted = any(first <= reading.id < behind for first, behind in session.counted)
        policy = session.late_agents if reading.post is None else session.late_rest
        return late and not counted and policy == "hold"

    async def store(self, bench: Bench, series: dict[UUID, int]) -> None:
        """Put all of it into the database."""
        await bench.storage.partitions.ensure(np.array([to_us(START), to_us(moment(300))], np.int64))
        async with transaction(bench.pool) as connection:
            await self._store_sessions(connection, bench)
            for post in self.posts:
                await self._store_post(connection, post)
            await connection.executemany(
                "insert into readings (series_id, profile, time, id, raw, status) values ($1, 0, $2, $3, 1, 0)",
                [(series[one.sensor], moment(one.at_s), IDS_FROM + one.id) for one in self.readings],
            )

    async def _store_sessions(self, connection: Connection, bench: Bench) -> None:
        experiment_id = uuid7()
        await connection.execute(
            "insert into experiments (id, project_id, owner_id, name) values ($1, $2, $3, $4)",
            experiment_id,
            bench.project_id,
            bench.user_id,
            str(experiment_id),
        )
        await connection.execute(
            "insert into runs (id, experiment_id, project_id, name) values ($1, $2, $3, 'r')",
            self.run_id,
            experiment_id,
            bench.project_id,
        )
        for number, one in enumerate(self.sessions, start=1):
            ids = ", ".join(f"[{IDS_FROM + first}, {IDS_FROM + behind})" for first, behind in one.counted)
            await connection.execute(
                f"""insert into capture_sessions
                    (id, run_id, project_id, ordinal_number, status, late_from_id, late_rest, late_agents, late_ids)
                    values ($1, $2, $3, $4, 'succeeded', $5, $6, $7, '{{{ids}}}')""",
                one.id,
                self.run_id,
                bench.project_id,
                number,
                None if one.late_from is None else IDS_FROM + one.late_from,
                one.late_rest,
                one.late_agents,
            )
            for sensor, (begin, end) in one.windows.items():
                until = None if end is None else moment(end)
                await connection.execute(
                    "insert into session_sensors values ($1, $2, $3, $4)", one.id, sensor, moment(begin), until
                )

    async def _store_post(self, connection: Connection, post: Post) -> None:
        times = [one.at_s for one in self.readings if one.post is post]
        row = IDS_FROM + post.first, IDS_FROM + post.last, post.sensor, moment(min(times)), moment(max(times))
        await connection.execute("insert into late_posts values ($1, $2, $3, $4, $5)", *row)
        if post.names is not None:
            await connection.execute(
                """insert into named_readings (first_id, last_id, sensor_id, time_from, time_to, session_id)
                   values ($1, $2, $3, $4, $5, $6)""",
                *row,
                post.names,
            )


def moment(at_s: int) -> datetime:
    return START + timedelta(seconds=at_s)


@pytest.mark.parametrize("seed", range(12))
async def test_label_and_condition_agree_with_the_model(bench: Bench, seed: int) -> None:
    sensors = [await bench.sensor(f"s{number}") for number in range(3)]
    series = {sensor: await bench.series(sensor) for sensor in sensors}
    world = World(seed, sensors)
    await world.store(bench, series)
    expected = {one.id + IDS_FROM: world.session_of(one) for one in world.readings}
    async with transaction(bench.pool) as connection:
        rows = await scan(connection, Where(series=tuple(series.values())), limit=1000)
        memberships = await of_sensors(connection, sensors, to_us(START), to_us(moment(10_000)))
        place_of = {number: place for place, number in enumerate(series.values())}
        sensor = np.array([place_of[one] for one in rows.series.tolist()], np.intp)
        labels = label(rows, sensors, sensor, memberships)
        found = {
            id_: (None if place < 0 else memberships[place].session_id, held)
            for id_, place, held in zip(rows.id.tolist(), labels.place.tolist(), labels.held.tolist(), strict=True)
        }
        assert found == expected
        assert {one.session_id for one in await of_run(connection, world.run_id)} == {one.id for one in world.sessions}
        for session in world.sessions:
            (one,) = await of_sessions(connection, [session.id])
            for with_held in (False, True):
                ids = await _select(connection, one, series, with_held=with_held)
                assert ids == {
                    id_ for id_, (owner, held) in expected.items() if owner == session.id and (with_held or not held)
                }


async def _select(connection: Connection, one: Membership, series: dict[UUID, int], *, with_held: bool) -> set[int]:
    condition = one.condition({sensor: [number] for sensor, number in series.items()}, with_held=with_held)
    return {row["id"] for row in await connection.fetch(f"select id from readings r where {condition}")}


async def test_two_sessions_never_record_a_sensor_at_one_time(bench: Bench) -> None:
    sensor = await bench.sensor()
    world = World(1, [sensor, uuid7(), uuid7()])
    world.sessions, world.readings, world.posts = [], [], []
    for begin, end in ((0, 10), (9, 20)):
        world.sessions.append(Session(uuid7(), world.run_id, {sensor: (begin, end)}, None, "hold", "attach"))
    with pytest.raises(Exception, match="session_sensors_alone"):
        await world.store(bench, {})
