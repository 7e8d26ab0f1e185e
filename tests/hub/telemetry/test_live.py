"""Latest values: only forward in time, conflated, bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from hub.telemetry import live
from hub.telemetry.live import LiveHub, LiveReading
from shared.clock import ManualClock

OVEN, KILN = UUID(int=1), UUID(int=2)
BOTH = frozenset((OVEN, KILN))


def reading(sensor: UUID, at_us: int, raw: float = 0.0, signal: str = "value") -> LiveReading:
    return LiveReading(sensor, signal, at_us, raw, None, 0)


@asynccontextmanager
async def running(hub: LiveHub) -> AsyncIterator[None]:
    task = asyncio.create_task(hub.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_new_watcher_gets_all_latest_values_of_its_sensors() -> None:
    hub = LiveHub()
    hub.offer([reading(OVEN, 1), reading(OVEN, 1, signal="humidity"), reading(KILN, 1)])
    with hub.watch(asyncio.Event(), frozenset((OVEN,))) as watch:
        assert {(one.sensor_id, one.signal) for one in watch.take(frozenset((OVEN,)))} == {
            (OVEN, "value"),
            (OVEN, "humidity"),
        }


async def test_an_older_value_changes_nothing() -> None:
    hub = LiveHub()
    hub.offer([reading(OVEN, 5, raw=5.0)])
    hub.offer([reading(OVEN, 4, raw=4.0), reading(OVEN, 5, raw=6.0)])
    assert [one.raw for one in hub.latest(BOTH)] == [5.0]


async def test_a_slow_watcher_gets_the_latest_of_each_signal_once() -> None:
    hub = LiveHub(frame_interval_s=0.001)
    async with running(hub):
        wake = asyncio.Event()
        with hub.watch(wake, BOTH) as watch:
            watch.take(BOTH)
            for at_us in range(1, 6):
                hub.offer([reading(OVEN, at_us, raw=float(at_us))])
                await asyncio.sleep(0.005)
            hub.offer([reading(KILN, 1)])
            await asyncio.wait_for(wake.wait(), 5)
            await asyncio.sleep(0.01)
            assert sorted((one.sensor_id.int, one.raw) for one in watch.take(BOTH)) == [(1, 5.0), (2, 0.0)]
            assert watch.take(BOTH) == []


async def test_watchers_are_woken_no_more_often_than_the_interval() -> None:
    hub = LiveHub(frame_interval_s=0.2)
    async with running(hub):
        wake = asyncio.Event()
        with hub.watch(wake, BOTH):
            hub.offer([reading(OVEN, 1)])
            await asyncio.wait_for(wake.wait(), 5)
            wake.clear()
            hub.offer([reading(OVEN, 2)])
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(wake.wait(), 0.05)
            await asyncio.wait_for(wake.wait(), 5)


async def test_a_watcher_of_one_sensor_is_not_woken_for_another_and_misses_nothing_of_its_own() -> None:
    hub = LiveHub(frame_interval_s=0.001)
    async with running(hub):
        wake, other = asyncio.Event(), asyncio.Event()
        with hub.watch(wake, BOTH) as watch, hub.watch(other, BOTH):
            watch.take(frozenset((OVEN,)))
            for at_us in range(1, 4):
                other.clear()
                hub.offer([reading(KILN, at_us)])
                await asyncio.wait_for(other.wait(), 5)
            assert not wake.is_set()
            hub.offer([reading(OVEN, 1)])
            await asyncio.wait_for(wake.wait(), 5)
            assert [one.sensor_id for one in watch.take(frozenset((OVEN,)))] == [OVEN]


async def test_frames_last_longer_where_many_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_FRAME_S_PER_WATCHER", 0.2)
    monkeypatch.setattr(live, "FRAME_INTERVAL_S_MAX", 0.2)
    hub = LiveHub(frame_interval_s=0.001)
    async with running(hub):
        wake = asyncio.Event()
        with hub.watch(wake, BOTH):
            hub.offer([reading(OVEN, 1)])
            await asyncio.wait_for(wake.wait(), 5)
            wake.clear()
            hub.offer([reading(OVEN, 2)])
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(wake.wait(), 0.05)
            await asyncio.wait_for(wake.wait(), 5)


async def test_further_signals_are_refused_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SIGNALS_MAX", 1)
    hub = LiveHub()
    hub.offer([reading(OVEN, 1), reading(KILN, 1)])
    assert hub.refused == 1
    hub.forget(OVEN)
    hub.offer([reading(KILN, 2)])
    assert [one.sensor_id for one in hub.latest(BOTH)] == [KILN]


async def test_it_remembers_when_a_sensor_was_heard() -> None:
    clock = ManualClock()
    hub = LiveHub(clock=clock)
    hub.offer([reading(OVEN, 1)])
    assert hub.heard_us(OVEN) == clock.now_us()
    assert hub.heard_us(KILN) is None
