"""Limits and silence: each transition is told once, and never because of what came late."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.database.pool import acquire, transaction
from hub.sensors import limit_store
from hub.sensors.grace import GRACE_S
from hub.sensors.limit_watch import LimitWatch
from hub.sensors.limits import Limit, Side
from hub.telemetry.moments import to_datetime, to_us
from shared.clock import ManualClock
from tests.fixtures.readings import START, Bench, Reading, bench
from tests.hub.sessions.conftest import Lab, lab

__all__ = ["bench", "lab"]

SENSORS = "/api/v1/sensors"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(to_us(START))


class Watched:
    """A signal with limits, and two hubs that watch it."""

    def __init__(self, bench: Bench, clock: ManualClock) -> None:
        self.bench = bench
        self.clock = clock
        self.watches = [LimitWatch(bench.storage, clock), LimitWatch(bench.storage, clock)]
        self.series = 0

    async def set(self, **limits: Any) -> None:
        self.sensor_id: UUID = await self.bench.sensor()
        self.series = await self.bench.series(self.sensor_id)
        now = to_datetime(self.clock.now_us())
        async with transaction(self.bench.pool) as connection:
            await limit_store.replace(connection, self.sensor_id, {"value": Limit(**limits)}, now)

    async def store(self, at_s: float, *raw: float, **more: Any) -> None:
        """Readings that are a tenth of a second apart, and are looked at."""
        await self.bench.store(self.series, [Reading(at_s + 0.1 * n, one, **more) for n, one in enumerate(raw)])

    async def told(self) -> list[tuple[str, Any]]:
        """What both hubs have told, once they have looked: (event, value)."""
        for watch in self.watches:
            await watch.once()
        async with acquire(self.bench.pool) as connection:
            rows = await connection.fetch("select event_type, payload, is_public from events order by id")
        assert all(row["is_public"] for row in rows)
        return [(row["event_type"].removeprefix("sensor."), row["payload"].get("value")) for row in rows]


@pytest.fixture
async def watched(bench: Bench, clock: ManualClock) -> Watched:
    return Watched(bench, clock)


async def test_each_transition_is_told_once_with_its_value(watched: Watched) -> None:
    await watched.set(low=10.0, high=80.0, hysteresis=5.0)
    watched.clock.advance_s(5)
    await watched.store(1, 50, 81, 90, 78, 76)
    told = [("limit_exceeded", 81.0)]
    assert await watched.told() == told
    assert await watched.told() == told
    watched.clock.advance_s(5)
    await watched.store(6, 75, 50, 9)
    told += [("limit_cleared", 75.0), ("limit_exceeded", 9.0)]
    assert await watched.told() == told
    watched.watches = [LimitWatch(watched.bench.storage, watched.clock)]
    watched.clock.advance_s(5)
    await watched.store(11, 81)
    assert await watched.told() == [*told, ("limit_cleared", 81.0), ("limit_exceeded", 81.0)]


async def test_what_came_late_raises_nothing(watched: Watched) -> None:
    await watched.set(high=80.0)
    watched.clock.advance_s(3600)
    await watched.store(3000, 99)
    assert await watched.told() == []
    await watched.store(3590, 50)
    assert await watched.told() == []
    await watched.store(3580, 99)
    assert await watched.told() == []
    await watched.store(3599, 99)
    assert await watched.told() == [("limit_exceeded", 99.0)]


async def test_physical_values_are_judged_and_failed_ones_are_not(watched: Watched) -> None:
    await watched.set(high=80.0)
    watched.clock.advance_s(5)
    await watched.store(1, 500, physical=20.0, status=1)
    await watched.store(2, 500, status=3)
    assert await watched.told() == []
    await watched.store(3, 5, physical=90.0, status=2)
    assert await watched.told() == [("limit_exceeded", 90.0)]


async def test_silence_is_told_once_and_again_after_something_came(watched: Watched) -> None:
    await watched.set(silence_s=30.0)
    assert await watched.told() == []
    watched.clock.advance_s(GRACE_S + 1)
    assert await watched.told() == [("silent", None)]
    assert await watched.told() == [("silent", None)]
    await watched.store(GRACE_S, 1)
    assert await watched.told() == [("silent", None)]
    watched.clock.advance_s(31)
    assert await watched.told() == [("silent", None), ("silent", None)]


async def test_a_hub_that_was_away_calls_nobody_silent_for_a_minute(watched: Watched) -> None:
    await watched.set(silence_s=1.0)
    watched.clock.advance_s(600)
    assert await watched.told() == []
    watched.clock.advance_s(GRACE_S - 1)
    assert await watched.told() == []
    watched.clock.advance_s(1)
    assert await watched.told() == [("silent", None)]


values = st.floats(-100, 100)


@given(st.floats(-50, 0), st.floats(1, 50), st.floats(0, 0.5), st.lists(values))
def test_between_two_that_exceed_there_is_one_that_clears(
    low: float, high: float, hysteresis: float, given_values: list[float]
) -> None:
    limit, exceeded = Limit(low, high, hysteresis), None
    for value in given_values:
        after = limit.after(exceeded, value)
        if after is None:
            assert low <= value <= high
        elif after is not exceeded:
            assert value > high if after is Side.HIGH else value < low
        elif after is Side.HIGH:
            assert value > high - hysteresis
        else:
            assert value < low + hysteresis
        exceeded = after


async def test_limits_are_set_shown_and_taken_away(lab: Lab) -> None:
    path = f"{SENSORS}/{await lab.sensor('oven')}/limits"
    assert (await lab.owner.get(path)).json() == {"limits": []}
    body = {"limits": [{"high": 80.0, "hysteresis": 2.0}, {"signal": "door", "silence_s": 60}]}
    answer = await lab.owner.put(path, json=body)
    assert answer.status_code == 200, answer.text
    door, value = answer.json()["limits"]
    assert (door["signal"], door["silence_s"], door["silent"]) == ("door", 60.0, False)
    assert (value["high"], value["low"], value["exceeded"]) == (80.0, None, None)
    assert (await lab.owner.get(path)).json() == answer.json()
    assert (await lab.owner.put(path, json={"limits": []})).json() == {"limits": []}


@pytest.mark.parametrize(
    "limit",
    [
        {},
        {"low": 2, "high": 1},
        {"low": 1, "high": 2, "hysteresis": 1},
        {"high": "NaN"},
        {"high": 1e999},
        {"silence_s": 0},
        {"high": 1, "signal": ""},
        {"high": 1, "hysteresis": -1},
    ],
)
async def test_limits_that_make_no_sense_are_refused(lab: Lab, limit: dict[str, Any]) -> None:
    path = f"{SENSORS}/{await lab.sensor('oven')}/limits"
    text = str({"limits": [limit]}).replace("'", '"').replace("inf", "1e999")
    answer = await lab.owner.put(path, content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    twice = {"limits": [{"high": 1}, {"low": 1}]}
    assert (await lab.owner.put(path, json=twice)).status_code == 422


async def test_what_was_shown_may_be_put_back_as_it_is(lab: Lab) -> None:
    sensor = await lab.sensor("oven")
    path = f"/api/v1/sensors/{sensor}/limits"
    await lab.owner.put(path, json={"limits": [{"high": 80}, {"signal": "flow", "silence_s": 60}]})
    shown = (await lab.owner.get(path)).json()
    again = await lab.owner.put(path, json=shown | {"sensor_id": sensor, "project_id": lab.project})
    assert (again.status_code, again.json()) == (200, shown)
    for name in ("sensor_id", "project_id"):
        refused = await lab.owner.put(path, json=shown | {name: "0190e2b4-0000-7000-8000-000000000000"})
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, name)
